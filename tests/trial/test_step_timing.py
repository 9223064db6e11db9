"""Steps that are timed before anything is trained."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_job import make_job
from torch import nn

from kdsweep.config import Job
from kdsweep.data import TrainLoader, count_frames
from kdsweep.errors import DataError, KdsweepError
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.models import SegmentationNetwork
from kdsweep.training import engine
from kdsweep.training.gradients import GradientShares
from kdsweep.training.learner import Learner
from kdsweep.training.step_cost import StepCost
from kdsweep.trial import measure_step_cost, step_timing, timed_epochs
from kdsweep.trial.kept_timing import KeptTimes
from kdsweep.trial.parallel_timing import measure_in_parallel
from kdsweep.trial.training_memory import ActivationMeter
from kdsweep.trial.untrained import untrained_cohort


def measure(job: Job, **options):
    options = {"num_rounds": 2, "seconds": 60.0, "num_threads": 1, **options}
    return measure_step_cost(job, device="cpu", **options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes seconds and most tests do not look at."""
    monkeypatch.setattr(step_timing, "measure_inference", lambda *_, **__: None)


def num_weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_a_pair_is_measured_part_by_part(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path)
    cost = measure(job, scratch=tmp_path)
    # Twelve frames, a third of them for validation, in batches of four.
    assert (cost.num_batches, cost.num_val, cost.num_frames) == (2, 4, 4)
    assert (cost.threads, cost.num_rounds, cost.num_processes) == (1, 2, 1)
    timed = ["start_s", "student_s", "control_s", "batch_s", "student_val_s", "student_save_s"]
    assert all(getattr(cost, name) > 0 for name in timed)
    # Differences are lost in noise where a step takes so little.
    assert all(getattr(cost, name) >= 0 for name in ("teacher_s", "teacher_val_s", "shares_s"))
    assert cost.student_s >= cost.control_s
    assert cost.head_start_s == 0.0
    # The checkpoint that was timed is gone, and nothing was decoded.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_each_job_is_measured_also_where_frames_have_no_labels(
    tiny_data: Path, tmp_path: Path
) -> None:
    pair = make_job(tiny_data, tmp_path)
    few = pair.model_copy(update={"data": pair.data.model_copy(update={"num_labelled": 6})})
    found = step_timing.measure([pair, few], device="cpu", num_threads=1, share=1.0, each=True)
    first, second = map(StepCost.from_json, found["costs"])
    assert (first.num_batches, second.num_batches) == (2, 1)
    assert second.equal_epochs(5) >= 5
    assert json.loads(json.dumps(found)) == found


@pytest.mark.usefixtures("quick")
def test_memory_is_weights_gradients_and_two_moments(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path, distill={"pixel_kl": {"weight": 1.0}})
    cost = measure(job)
    engine = untrained_cohort(job, count_frames(job.data)).engine
    assert engine.teacher is not None
    for num_bytes, network in (
        (cost.teacher_bytes, engine.teacher.network),
        (cost.student_bytes, engine.students[0].network),
    ):
        weights = 4 * num_weights(network)
        # Running statistics and the optimiser's counters come on top.
        assert 4 * weights < num_bytes < 1.05 * 4 * weights
    assert cost.activation_bytes > 4 * 3 * 32 * 32 * 4  # more than the pixels of the batch


@pytest.mark.usefixtures("quick")
def test_a_control_has_no_teacher_to_pay(tiny_data: Path, tmp_path: Path) -> None:
    cost = measure(make_job(tiny_data, tmp_path).as_control())
    assert cost.teacher_s == cost.teacher_val_s == cost.teacher_save_s == cost.shares_s == 0.0
    assert cost.teacher_bytes == 0
    assert cost.student_s == cost.control_s > 0


class Clock:
    """Time that passes only in what it is told to follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._now = 0.0
        for module in (step_timing, timed_epochs, engine):
            monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: self._now))

    def follow(self, owner: type, name: str, seconds: Callable[..., float]) -> None:
        """Let calls of a method take so many seconds."""
        plain = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            self._now += seconds(*args)
            return plain(*args, **options)

        self._monkeypatch.setattr(owner, name, timed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock on which a frame takes the teacher 2 s, the student 1 s, and all else its own."""

    def frames_s(network: SegmentationNetwork, images_BHWC: torch.Tensor) -> float:
        is_teacher = type(network.model.encoder).__name__.startswith("ResNet")
        return (2.0 if is_teacher else 1.0) * len(images_BHWC)

    clock = Clock(monkeypatch)
    clock.follow(SegmentationNetwork, "forward", frames_s)
    clock.follow(Learner, "update", lambda *_: 2.0)
    clock.follow(GradientShares, "after_backward", lambda *_: 7.0)
    clock.follow(CheckpointFolder, "save", lambda *_: 5.0)
    return clock


@pytest.mark.usefixtures("quick", "clock")
def test_what_cohorts_differ_in_costs_what_their_times_differ_by(
    tiny_data: Path, tmp_path: Path
) -> None:
    cost = measure(make_job(tiny_data, tmp_path), seconds=1e3)
    assert (cost.num_frames, cost.num_rounds, cost.spread) == (4, 2, 0.0)
    # Four frames and an update.
    assert (cost.teacher_s, cost.student_s, cost.control_s) == (10.0, 6.0, 6.0)
    assert (cost.shares_s, cost.batch_s, cost.head_start_s) == (7.0, 0.0, 0.0)
    assert (cost.teacher_val_s, cost.student_val_s) == (2.0, 1.0)
    # The student's part, and the one that it would share with others.
    assert (cost.student_save_s, cost.teacher_save_s) == (10.0, 0.0)


@pytest.mark.usefixtures("quick", "clock")
def test_batches_share_an_update(tiny_data: Path, tmp_path: Path) -> None:
    train = {"epochs": 3, "batch_size": 4, "accumulate": 2}
    cost = measure(make_job(tiny_data, tmp_path, train=train), seconds=1e3)
    assert (cost.teacher_s, cost.student_s, cost.shares_s) == (9.0, 5.0, 7.0)


@pytest.mark.usefixtures("quick", "clock")
def test_slow_steps_are_measured_on_fewer_frames(tiny_data: Path, tmp_path: Path) -> None:
    cost = measure(make_job(tiny_data, tmp_path), seconds=1.0)
    assert (cost.num_frames, cost.num_rounds) == (2, 2)
    # Twice two frames and an update.
    assert (cost.teacher_s, cost.student_s, cost.control_s) == (12.0, 8.0, 8.0)
    assert (cost.teacher_val_s, cost.student_val_s) == (2.0, 1.0)


@pytest.mark.usefixtures("quick", "clock")
def test_a_head_start_is_the_teachers_alone(tiny_data: Path, tmp_path: Path) -> None:
    distill = {"pixel_kl": {"weight": 1.0}, "teacher": "frozen", "head_start_epochs": 2}
    job = make_job(tiny_data, tmp_path, distill=distill)
    cost = measure(job, seconds=1e3)
    # A frozen teacher makes no updates beside its students.
    assert (cost.head_start_s, cost.teacher_s, cost.student_s) == (10.0, 8.0, 6.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("making_s", "batch_s"), [(20.0, 0.0), (40.0, 4.0)])
def test_loader_processes_are_waited_for_only_if_they_are_slower(
    making_s: float, batch_s: float, clock: Clock, tiny_data: Path, tmp_path: Path
) -> None:
    clock.follow(TrainLoader, "host_batches", lambda *_: making_s)
    tree = make_job(tiny_data, tmp_path).model_dump(mode="json")
    tree["data"]["workers"] = 2
    job = Job.model_validate_json(json.dumps(tree))
    # Two of them, and steps of 16 s.
    assert measure(job, seconds=1e3).batch_s == batch_s


def test_neither_weights_nor_checkpoints_are_fetched_or_compiled(
    tiny_data: Path, tmp_path: Path
) -> None:
    job = make_job(
        tiny_data,
        tmp_path,
        teacher={"encoder": "resnet18", "encoder_weights": "imagenet"},
        distill={"pixel_kl": {}, "teacher": "frozen", "checkpoint": str(tmp_path / "none")},
        train={"epochs": 3, "batch_size": 4, "lr": 10.0, "compile": True},
    )
    cohort = untrained_cohort(job, count_frames(job.data))
    assert not cohort.compilation.mode
    assert cohort.engine.students[0].schedule.at(0.0) < 1e-5


def test_missing_data_are_an_error(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path / "nowhere", tmp_path)
    with pytest.raises(DataError, match="is not there"):
        measure(job)


def test_kept_tensors_are_counted_once_and_until_they_are_freed() -> None:
    weight = nn.Parameter(torch.ones(1000))
    layer = nn.ParameterList([weight])
    with ActivationMeter([layer]) as meter:
        x = torch.ones(1000) * weight  # keeps only the ones
        y = x.exp()  # keeps its result
        assert meter.peak_bytes == 8000
        z = (y * y).sum()  # keeps the same again
        assert meter.peak_bytes == 8000
        z.backward()
        del x, y, z
        (torch.ones(500) * weight[:500]).sum().backward()
    assert meter.peak_bytes == 8000
    assert meter._bytes == 0


@pytest.mark.slow
def test_processes_measure_in_parallel(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDSWEEP_CACHE", str(tmp_path / "cache"))
    job = make_job(tiny_data, tmp_path)
    how: Any = {"device": "cpu", "seconds": 0.0, "scratch": tmp_path}
    costs = measure_in_parallel([job, job.as_control()], 2, **how)
    assert [cost.num_processes for cost in costs] == [2, 2]
    # How much of it is the teacher's is a difference, which noise can eat in networks so small.
    assert costs[0].teacher_s + costs[0].student_s > 0
    assert costs[1].teacher_s == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    # Kept for who asks for the same jobs, whatever they are called and however long they train.
    renamed = job.model_copy(
        update={"name": "other", "train": job.train.model_copy(update={"epochs": 9})}
    )
    again = measure_in_parallel([renamed, renamed.as_control()], 2, afresh=False, **how)
    assert [replace(cost, age_s=0.0) for cost in again] == costs
    assert min(cost.age_s for cost in again) > 0


def test_times_are_kept_for_an_hour(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDSWEEP_CACHE", str(tmp_path / "cache"))
    job = make_job(tiny_data, tmp_path)
    numbers = {field.name: 1 for field in fields(StepCost)}
    cost = StepCost(**{**numbers, "device": "a processor"})  # type: ignore[arg-type]
    kept = KeptTimes([job], {"num_frames": [(8, 4)]})
    assert kept.read() is None
    kept.write([cost])
    assert [
        found.teacher_s for found in KeptTimes([job], {"num_frames": [(8, 4)]}).read() or ()
    ] == [1]
    assert KeptTimes([job], {"num_frames": [(9, 4)]}).read() is None
    other = job.model_copy(update={"train": job.train.model_copy(update={"batch_size": 2})})
    assert KeptTimes([other], {"num_frames": [(8, 4)]}).read() is None
    (file,) = (tmp_path / "cache" / "steps").iterdir()
    old = time.time() - 3700
    os.utime(file, (old, old))
    assert kept.read() is None
    KeptTimes([other], {}).write([cost])
    assert not file.exists()


@pytest.mark.slow
def test_a_process_that_fails_says_why(tiny_data: Path, tmp_path: Path) -> None:
    says = r"(?s)could not be measured: .*is not there.*--no-measure"
    with pytest.raises(KdsweepError, match=says):
        measure_in_parallel([make_job(tmp_path / "nowhere", tmp_path)], 1, device="cpu")
