"""A real sweep of one cohort of four architectures; each student exported, moved away and used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import kdsweep
from kdsweep import deploy
from kdsweep.ledger import Experiment

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

SMALL_UNET = {"encoder_depth": 3, "decoder_channels": [16, 16, 16]}
STUDENTS = [
    {"arch": "unet", "encoder": "mobilenet_v2", "options": SMALL_UNET},
    {"arch": "fpn", "encoder": "mobilenet_v2", "options": {"decoder_segmentation_channels": 32}},
    {"arch": "deeplabv3plus", "encoder": "mobilenet_v2", "options": {"decoder_channels": 16}},
    {"arch": "segformer", "encoder": "mit_b0", "options": {"decoder_segmentation_channels": 32}},
]
SPACE = {
    "name": "ship",
    "data": {"source": "roadscenes", "scenes": 48, "image_size": [64, 64], "augment": "none"},
    "teacher": {"encoder": "resnet18", "options": SMALL_UNET},
    "student": {"values": STUDENTS},
    "distill": {"pixel_kl": {"weight": 1.0}},
    "train": {"epochs": 4, "batch_size": 4, "lr": 3e-3},
    "sweep": {
        "sampler": "grid",
        "scheduler": "none",
        "trials": 4,
        "students_per_teacher": 4,
        "controls": "none",
        "seed": 0,
    },
    "tracking": {"wandb": {"mode": "off"}},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("experiments")
    kdsweep.run(SPACE, experiments=out)
    return Experiment.open(out / "latest")


@pytest.mark.parametrize("arch", [student["arch"] for student in STUDENTS])
def test_a_student_of_a_sweep_makes_the_round_trip(
    sweep: Experiment, arch: str, tmp_path: Path
) -> None:
    cards = [json.loads((sweep.trial(n).best / "student.json").read_text()) for n in range(4)]
    number, card = next((n, c) for n, c in enumerate(cards) if c["model"]["arch"] == arch)
    trial = sweep.trial(number)
    assert card["miou"] > 0.08  # of all one class it would be a thirteenth of that class's IoU
    image = np.asarray(_picture(next(trial.frames.glob("*-image.png"))))
    wanted = deploy.load(trial.path, device="cpu")(image)
    assert len(np.unique(wanted)) > 1

    onnx = kdsweep.export(sweep.path, trial=number, format="onnx")
    assert onnx.check.num_frames == 32
    assert onnx.check.agreement >= 0.999
    assert onnx.check.miou.value == pytest.approx(card["miou"], abs=1e-3)
    int8 = kdsweep.export(sweep.path, trial=number, format="int8")
    assert int8.check.points_lost <= 2
    assert int8.written.file_mb < 0.6 * onnx.written.file_mb
    torch = kdsweep.export(sweep.path, trial=number, format="torch")

    agreements = []
    for exported in (onnx, int8, torch):
        moved = tmp_path / exported.written.format
        shutil.move(exported.folder, moved)
        found = deploy.load(moved, device="cpu")(image)
        assert found.shape == image.shape[:2]
        agreements.append((found == wanted).mean())
    assert agreements[0] >= 0.999
    assert agreements[1] >= 0.9
    assert agreements[2] == 1.0


def _picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
