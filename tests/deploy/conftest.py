"""Students that were really trained, if only for an epoch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_job import SMALL, make_job

Train = Callable[[str], Path]

# Small networks of each kind; these data and a student of any of them train in a second or two.
STUDENTS = {
    "unet": {"encoder": "mobilenet_v2", "options": SMALL},
    "fpn": {"encoder": "mobilenet_v2", "options": {"decoder_segmentation_channels": 32}},
    "deeplabv3plus": {"encoder": "mobilenet_v2", "options": {"decoder_channels": 16}},
    "segformer": {"encoder": "mit_b0", "options": {"decoder_segmentation_channels": 32}},
}


@pytest.fixture(autouse=True)
def _few_timed_runs(few_timed_runs: None) -> None:
    """All tests here."""


@pytest.fixture(scope="session")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Gives the folder of a training by architecture, trained at its first use."""
    import kdsweep

    root = tmp_path_factory.mktemp("trained")
    known: dict[str, Path] = {}

    def train(arch: str) -> Path:
        if arch not in known:
            student = {"arch": arch, **STUDENTS[arch]}
            job = make_job(
                tiny_data,
                root,
                student=student,
                distill={"pixel_kl": {"weight": 1.0}},
                train={"epochs": 1, "batch_size": 4, "lr": 3e-3},
            )
            # A size that each of them takes.
            data = job.data.model_copy(update={"image_size": (64, 64)})
            job = job.model_copy(update={"data": data})
            known[arch] = kdsweep.train(job, out=root / arch).folder
        return known[arch]

    return train


@pytest.fixture(scope="session")
def exported(trained: Train, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny U-Net's export by format, made at its first use."""
    import kdsweep

    root = tmp_path_factory.mktemp("exported")
    known: dict[str, Path] = {}

    def get(format: str) -> Path:
        if format not in known:
            done = kdsweep.export(trained("unet"), format=format, out=root / format)  # type: ignore[arg-type]
            known[format] = done.folder
        return known[format]

    return get


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in an empty folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    from kdsweep.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run
