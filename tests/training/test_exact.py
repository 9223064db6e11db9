"""A student in a cohort takes the steps that it would take alone, bit for bit on a CPU.

Jobs are built and trained as a sweep builds and trains them, on a data set on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import SMALL, make_job
from toy_task import same, timeless

from kdsweep.config.distill import DistillConfig
from kdsweep.config.job import Job
from kdsweep.data import SegmentationData, open_data
from kdsweep.distill import LOSSES
from kdsweep.training.report import EpochReport
from kdsweep.trial import build_cohort

# The encoders are cut after three stages.
TAPS = {"taps": ["encoder.1", "encoder.2"]}
# Taught by the teacher that it teaches, a student cannot share it.
SHARING = [name for name in LOSSES.names() if name != "mutual"]
# All that changes what a student is taught, in four ways that differ in everything.
TEACHERS: dict[str, dict[str, Any]] = {
    "online": {"warmup_epochs": 1.5, "until_epoch": 1.75},
    "ahead": {"head_start_epochs": 1, "gate": "lead", "ramp": "cosine", "warmup_epochs": 1},
    "frozen": {"teacher": "frozen", "head_start_epochs": 1, "gate": "lead"},
    "ema": {"teacher": "ema", "ema_decay": 0.9, "ramp": "constant"},
}


@pytest.fixture(scope="module")
def base(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Four batches an epoch, so that the last group of three is smaller."""
    return make_job(
        tiny_data,
        tmp_path_factory.mktemp("exact"),
        teacher={"encoder": "tu-mobilenetv3_small_075", "options": SMALL},
        student={"encoder": "tu-mobilenetv3_small_050", "options": SMALL},
        train={"epochs": 2, "batch_size": 2, "lr": 3e-3, "accumulate": 3},
    )


@pytest.fixture(scope="module")
def data(base: Job) -> SegmentationData:
    """The frames of all jobs here."""
    return open_data(base.data)


def taught(base: Job, **distill: Any) -> Job:
    """The job with other losses, or another teacher."""
    return base.model_copy(update={"distill": DistillConfig.model_validate(distill)})


def losses(base: Job, names: list[str], **mode: Any) -> dict[str, Job]:
    """A job for each of some losses, at its defaults."""
    jobs = {}
    for name in names:
        probe = DistillConfig.model_validate({name: {}}).terms()[name]
        at_features = getattr(probe, "taps", ("logits",)) != ("logits",)
        jobs[name] = taught(base, **{name: TAPS if at_features else {}}, **mode)
    return jobs


Trained = tuple[list[EpochReport], dict[str, torch.Tensor]]


def train(jobs: list[Job], data: SegmentationData) -> Iterator[Trained]:
    """The reports and last weights of each student of a cohort."""
    cohort = build_cohort(jobs, data)
    reports = [list(each) for each in zip(*cohort.engine.epochs(), strict=True)]
    cohort.close()
    for student, own in zip(cohort.engine.students, reports, strict=True):
        weights = dict(student.weights())
        if student.objective is not None:
            weights |= {f"objective.{k}": v for k, v in student.objective.state_dict().items()}
        yield own, weights


def check_alike(first: Trained, second: Trained) -> None:
    """Everything that is reported, and all weights, are equal."""
    assert len(first[0]) == len(second[0])
    for mine, theirs in zip(first[0], second[0], strict=True):
        # As text, in which a number that is not a number equals itself.
        assert repr(timeless(mine)) == repr(timeless(theirs))
        assert mine.classes == theirs.classes
    assert first[1].keys() == second[1].keys()
    assert same(first[1], second[1])


@pytest.mark.parametrize(
    "mode", [pytest.param(m, marks=pytest.mark.slow) if m == "ahead" else m for m in TEACHERS]
)
def test_a_student_of_any_loss_trains_as_it_would_alone(
    base: Job, data: SegmentationData, mode: str
) -> None:
    """With one kind of teacher all losses; with the others one on logits, on features, random."""
    names = SHARING if mode == "ahead" else ["pixel_kl", "hint", "masked"]
    jobs = losses(base, names, **TEACHERS[mode])
    together = dict(zip(jobs, train(list(jobs.values()), data), strict=True))
    for name, job in jobs.items():
        (alone,) = train([job], data)
        check_alike(together[name], alone)
        assert alone[0][0].metrics[f"student/distill/{name}"] > 0


def test_students_that_leave_take_nothing_from_those_that_stay(
    base: Job, data: SegmentationData
) -> None:
    """The first one leaves, so that the others move up; then the teacher goes on for one alone."""
    jobs = losses(base, ["masked", "hint", "pixel_kl"], **TEACHERS["ahead"])
    jobs = {name: with_epochs(job, 3) for name, job in jobs.items()}
    engine = build_cohort(list(jobs.values()), data).engine
    last = engine.students[2]
    mine = []
    for reports in engine.epochs():
        assert len(reports) == 4 - engine.epochs_done
        mine.append(reports[-1])
        if len(reports) > 1:
            engine.leave([0])
    (alone,) = train([jobs["pixel_kl"]], data)
    objective = last.objective
    assert objective is not None
    own = {f"objective.{k}": v for k, v in objective.state_dict().items()}
    check_alike((mine, last.weights() | own), alone)


def with_epochs(job: Job, epochs: int) -> Job:
    """The job with another number of epochs."""
    return job.model_copy(update={"train": job.train.model_copy(update={"epochs": epochs})})
