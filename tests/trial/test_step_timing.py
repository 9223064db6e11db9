"""Steps that are timed before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_job import make_job
from torch import nn

from kdsweep.errors import DataError, KdsweepError
from kdsweep.spec import Job
from kdsweep.trial import build_cohort, measure_step_cost, step_timing
from kdsweep.trial.activation_memory import ActivationMeter
from kdsweep.trial.side_by_side import measure_side_by_side


def measure(job: Job, **options):
    return measure_step_cost(job, device="cpu", num_rounds=2, seconds=60.0, **options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes seconds and most tests do not look at."""
    monkeypatch.setattr(step_timing, "measure_inference", lambda *_, **__: None)


def num_weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_a_pair_is_measured_part_by_part(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path)
    threads = torch.get_num_threads()
    cost = measure(job, num_threads=1, scratch=tmp_path)
    # Twelve frames, a third of them for validation, in batches of four.
    assert (cost.num_batches, cost.num_val, cost.num_frames) == (2, 4, 4)
    assert (cost.threads, cost.num_rounds, cost.num_processes) == (1, 2, 1)
    assert torch.get_num_threads() == threads
    timed = ["start_s", "teacher_s", "student_s", "control_s", "batch_s", "teacher_val_s"]
    timed += ["student_val_s", "teacher_save_s", "student_save_s"]
    assert all(getattr(cost, name) > 0 for name in timed)
    assert cost.student_s >= cost.control_s
    assert cost.head_start_s == 0.0
    # The checkpoint that was timed is gone, and nothing was decoded.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_memory_is_weights_gradients_and_two_moments(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path, distill={"pixel_kl": {"weight": 1.0}})
    cost = measure(job)
    noise = step_timing.noise(job, step_timing.count_frames(job.data))
    engine = build_cohort([job], noise).engine
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


@pytest.mark.usefixtures("quick")
def test_a_frozen_teacher_is_measured_before_and_after_its_head_start(
    tiny_data: Path, tmp_path: Path
) -> None:
    distill = {"pixel_kl": {"weight": 1.0}, "teacher": "frozen", "head_start_epochs": 2}
    cost = measure(make_job(tiny_data, tmp_path, distill=distill))
    # Forward alone, against forward and backward.
    assert 0 < cost.teacher_s < cost.head_start_s


def test_terms_that_end_or_begin_later_are_measured_while_they_count(
    tiny_data: Path, tmp_path: Path
) -> None:
    distill = {
        "pixel_kl": {"weight": 1.0, "until_epoch": 2},
        "hint": {"weight": 1.0, "taps": ["encoder.2"]},
    }
    job = make_job(tiny_data, tmp_path, distill=distill)
    counts = step_timing.count_frames(job.data)
    cohort = build_cohort([job], step_timing.noise(job, counts))
    timing = step_timing.StepTimer(job, cohort, counts, torch.device("cpu"))
    assert timing._busiest_epoch() < 2


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
    plain = step_timing.untrained(job)
    assert plain.teacher is not None
    assert plain.teacher.encoder_weights is None
    assert plain.distill.checkpoint is None
    assert not plain.train.compile
    assert plain.train.lr < 1e-5


def test_slow_steps_are_measured_on_fewer_frames(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path)
    counts = step_timing.count_frames(job.data)
    cohort = build_cohort([job], step_timing.noise(job, counts))
    timing = step_timing.StepTimer(job, cohort, counts, torch.device("cpu"))
    assert timing._affordable_frames(1e-3) == 2
    assert timing._affordable_frames(1e3) == 4


def test_loader_processes_are_waited_for_only_if_they_are_slower(
    tiny_data: Path, tmp_path: Path
) -> None:
    tree = make_job(tiny_data, tmp_path).model_dump(mode="json")
    tree["data"]["workers"] = 2
    job = Job.model_validate_json(json.dumps(tree))
    counts = step_timing.count_frames(job.data)
    cohort = build_cohort([job], step_timing.noise(job, counts))
    timing = step_timing.StepTimer(job, cohort, counts, torch.device("cpu"))
    assert timing._wait(1.0, step_s=0.2) == pytest.approx(0.3)
    assert timing._wait(1.0, step_s=0.6) == 0.0


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
def test_processes_measure_side_by_side(tiny_data: Path, tmp_path: Path) -> None:
    job = make_job(tiny_data, tmp_path)
    costs = measure_side_by_side(
        [job, job.as_control()], 2, device="cpu", seconds=0.0, scratch=tmp_path
    )
    assert [cost.num_processes for cost in costs] == [2, 2]
    assert costs[0].teacher_s > 0
    assert costs[1].teacher_s == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_process_that_fails_says_why(tiny_data: Path, tmp_path: Path) -> None:
    says = r"(?s)could not be measured: .*is not there.*--no-measure"
    with pytest.raises(KdsweepError, match=says):
        measure_side_by_side([make_job(tmp_path / "nowhere", tmp_path)], 1, device="cpu")
