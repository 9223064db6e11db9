"""Trained teachers are scored before anything is trained with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_job import SMALL, make_job

from kdsweep.config.job import Job
from kdsweep.data import open_data
from kdsweep.labels import training_frames
from kdsweep.ledger import TrialFolder
from kdsweep.ledger.given_teachers import coming_notes, teacher_doubts, teacher_notes
from kdsweep.trial import build_cohort, prepare_one, run_job, score_teachers

pytestmark = pytest.mark.usefixtures("few_timed_runs")


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    student = {"encoder": "resnet18", "options": SMALL}
    own = make_job(tiny_data, folder, teacher=None, student=student, distill={})
    list(run_job(own, TrialFolder(folder / "trial"), device="cpu", num_threads=1))
    return folder / "trial" / "best"


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path, trained: Path) -> Job:
    return taught_from(trained, make_job(tiny_data, tmp_path))


def taught_from(checkpoint: Path, job: Job) -> Job:
    distill = type(job.distill).model_validate(
        {"pixel_kl": {}, "teacher": "frozen", "checkpoint": str(checkpoint)}
    )
    return job.model_copy(update={"distill": distill})


def with_card(trained: Path, folder: Path, **changes: Any) -> Path:
    """The same checkpoint with another card."""
    mine = shutil.copytree(trained, folder)
    card = json.loads((mine / "student.json").read_text())
    (mine / "student.json").write_text(json.dumps({**card, **changes}))
    return mine


def test_the_score_is_that_of_validation(job: Job, trained: Path) -> None:
    (found,) = score_teachers([job, job.as_control(), job], device="cpu")
    cohort = build_cohort([job], open_data(job.data), device="cpu")
    assert cohort.engine.teacher is not None
    expected = cohort.engine.score(cohort.engine.teacher.network, cohort.frames(cohort.data.val))
    cohort.close()
    assert found["miou"] == expected.miou
    card = json.loads((trained / "student.json").read_text())
    assert found["own_miou"] == card["miou"] == pytest.approx(found["miou"])
    data = {"teachers": [found]}
    assert teacher_doubts(data) == []
    (said,) = teacher_notes(data)
    assert said == (
        f"resnet18 from {trained} scores mIoU {expected.miou:.3f} on the "
        f"{len(cohort.data.val)} validation frames"
    )
    assert json.loads(json.dumps(found)) == found


def test_native_frames_are_scored_at_their_own_size(job: Job) -> None:
    small = job.data.model_copy(update={"image_size": (16, 16)})
    train = job.train.model_copy(update={"validate_at": "native"})
    native = job.model_copy(update={"data": small, "train": train})
    (found,) = score_teachers([native], device="cpu")
    cohort = build_cohort([native], open_data(native.data), device="cpu")
    assert cohort.engine.teacher is not None
    data = cohort.data
    network, frames = cohort.engine.teacher.network, cohort.frames(data.val)
    expected = cohort.engine.score(network, frames, data.native["val"].labels)
    assert found["miou"] == expected.miou != cohort.engine.score(network, frames).miou
    assert found["own_miou"] is None  # its card is about other frames
    cohort.close()


def test_wrong_pixels_are_warned_of(job: Job, trained: Path, tmp_path: Path) -> None:
    wrong = with_card(trained, tmp_path / "wrong", mean=[0.95] * 3, std=[0.9] * 3)
    (found,) = score_teachers([taught_from(wrong, job)], device="cpu")
    assert found["own_miou"] - found["miou"] > 0.05
    (doubt,) = teacher_doubts({"teachers": [found]})
    assert f"scores mIoU {found['miou']:.3f}" in doubt
    assert f"its own card says {found['own_miou']:.3f}; is it trained for other pixels" in doubt
    assert teacher_notes({"teachers": [found]}) == [f"warning: {doubt}"]


def test_a_card_about_other_frames_says_nothing(job: Job, trained: Path, tmp_path: Path) -> None:
    for name, change in (
        ("protocol", {"protocol": "native"}),
        ("over", {"miou_over": "seen"}),
        ("data", {"data": {"fingerprint": "0" * 20, "short": "others"}}),
    ):
        other = with_card(trained, tmp_path / name, miou=0.99, **change)
        assert score_teachers([taught_from(other, job)], device="cpu")[0]["own_miou"] is None
    same = with_card(trained, tmp_path / "same", miou=0.99)
    assert score_teachers([taught_from(same, job)], device="cpu")[0]["own_miou"] == 0.99


@pytest.mark.parametrize(
    ("miou", "num_classes", "is_doubtful"),
    [(0.13, 11, True), (0.14, 11, False), (0.49, 2, True), (0.51, 2, False)],
)
def test_chance_is_warned_of(miou: float, num_classes: int, is_doubtful: bool) -> None:
    scored = {"label": "x", "checkpoint": "p", "num_frames": 5, "own_miou": None}
    data = {"teachers": [{**scored, "miou": miou, "num_classes": num_classes}]}
    assert bool(teacher_doubts(data)) == is_doubtful


def test_what_is_known_is_not_scored_again(job: Job, trained: Path, tmp_path: Path) -> None:
    (found,) = score_teachers([job], device="cpu")
    known = {**found, "miou": 0.123}
    assert score_teachers([job], device="cpu", known=[known]) == [known]
    other = taught_from(with_card(trained, tmp_path / "other"), job)
    assert score_teachers([other], device="cpu", known=[known])[0]["miou"] == found["miou"]
    assert score_teachers([job], device="cpu", known=[{**known, "data": "other"}]) == [found]


def test_a_training_that_goes_on_does_not_score_again(job: Job, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    assert len(prepare_one(job, folder, device="cpu")["teachers"]) == 1
    next(run_job(job, folder, device="cpu", num_threads=1))
    assert "teachers" not in prepare_one(job, folder, device="cpu")


def test_jobs_without_a_checkpoint_say_nothing(
    tiny_data: Path, tmp_path: Path, trained: Path
) -> None:
    job = make_job(tiny_data, tmp_path)
    assert score_teachers([job]) == coming_notes([job]) == []
    assert "teachers" not in prepare_one(job, TrialFolder(tmp_path / "trial"))
    given = taught_from(trained, job)
    assert coming_notes([given, given]) == [f"resnet18 from {trained}; scored when it runs"]


def test_frames_without_labels_are_counted(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path)
    assert "num_unlabelled" not in prepare_one(job, TrialFolder(tmp_path / "trial"))
    assert training_frames(8) == training_frames(8, 0) == "8 training"
    assert training_frames(6, 2) == "6 labelled and 2 unlabelled training"
    data = type(job.data).model_validate({**job.data.model_dump(), "num_labelled": 6})
    found = prepare_one(job.model_copy(update={"data": data}), TrialFolder(tmp_path / "trial"))
    assert (found["num_train"], found["num_unlabelled"]) == (6, 2)
