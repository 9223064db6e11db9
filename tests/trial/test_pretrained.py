"""Jobs whose encoders begin with weights from files: what is said of them, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from tiny_job import SMALL, make_job

from kdsweep.config import load_space
from kdsweep.config.job import Job
from kdsweep.errors import ConfigError
from kdsweep.ledger import TrialFolder
from kdsweep.sweep.preview import preview
from kdsweep.trial import check_job, prepare_one, run_job, weights_notes

GREY = {"mean": [0.4, 0.5, 0.6], "std": [0.5, 0.25, 0.5]}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "published.pth"
    torch.save({"state_dict": timm.create_model("resnet18").state_dict()}, file)
    return file


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path, weights: Path) -> Job:
    student = {"encoder": "resnet18", "encoder_weights": str(weights), "options": SMALL}
    return make_job(
        tiny_data,
        tmp_path,
        student=student | {"encoder_pixels": GREY},
        distill={"pixel_kl": {"weight": 1.0}},
        train={"epochs": 1, "batch_size": 4},
    )


def test_a_student_keeps_its_pixels_and_no_path_of_this_machine(job: Job, tmp_path: Path) -> None:
    check_job(job)
    folder = TrialFolder(tmp_path / "trial")
    told = prepare_one(job, folder)["weights"]
    assert [text.partition(" (sha256")[0] for text in told] == [
        "resnet18 from published.pth: 100 of 100 tensors match"
    ]
    list(run_job(job, folder, device="cpu", num_threads=1))
    card = json.loads((folder.best / "student.json").read_text())
    assert card["model"]["encoder_weights"] == "published.pth"
    assert card["model"]["encoder_pixels"] == GREY
    assert card["mean"] == pytest.approx(GREY["mean"])
    assert card["std"] == pytest.approx(GREY["std"])


def test_a_file_that_does_not_fit_is_refused_at_its_place(job: Job, weights: Path) -> None:
    torch.save({"x": torch.zeros(3)}, weights)
    with pytest.raises(ConfigError, match="do not fit encoder resnet18") as caught:
        check_job(job)
    assert caught.value.path == ("student", "encoder_weights")


def test_a_plan_says_which_weights_are_here(
    job: Job, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    published = {"encoder": "tu-resnet18", "encoder_weights": "imagenet", "options": SMALL}
    tree = job.model_dump(mode="json") | {"teacher": published, "sweep": {"controls": "none"}}
    found = preview(load_space(tree), measure=False)
    here = f"{weights.name}: 100 of 100 tensors match"
    missing = "tu-resnet18 from imagenet: not on this machine, fetched before training"
    assert found.weights[0] == missing
    assert here in found.weights[1]
    assert found.to_json()["weights"] == list(found.weights)
    repository = tmp_path / "hub" / "models--timm--resnet18.a1_in1k"
    (repository / "snapshots" / "1f").mkdir(parents=True)
    (repository / "snapshots" / "1f" / "model.safetensors").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1f")
    taught = job.model_copy(update={"teacher": load_space(tree).jobs_to_check()[0].teacher})
    assert weights_notes([taught])[0] == "tu-resnet18 from imagenet: here"
    assert len(weights_notes([taught], files_alone=True)) == 1
