"""What is said of a GPU's memory before a trial starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from live_bytes import LiveBytes
from tiny_job import make_job

from kdsweep.config import Job
from kdsweep.data import open_data
from kdsweep.errors import ResourceError
from kdsweep.trial import build_cohort, gpu_memory
from kdsweep.trial.gpu_memory import (
    CONTEXT_BYTES,
    PackedTrials,
    check_memory,
    estimate_memory,
    keep_to_share,
    trials_per_gpu,
)
from kdsweep.trial.machine import Machine
from kdsweep.trial.training_memory import activation_bytes

GB = 10**9


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path) -> Callable[..., Job]:
    def make(distill: Any = None, **train: Any) -> Job:
        train = {"epochs": 2, "batch_size": 4, **train}
        terms = {"pixel_kl": {}, "hint": {"taps": ["encoder.2"]}} if distill is None else distill
        return make_job(tiny_data, tmp_path, train=train, distill=terms)

    return make


def test_activations_are_counted_to_the_byte(job: Callable[..., Job]) -> None:
    for distill in (None, {"pixel_kl": {}, "teacher": "ema"}, {"mutual": {"weight": 1.0}}):
        engine = build_cohort([job(distill)], open_data(job().data)).engine
        measured = activation_bytes(engine, (4, 32, 32), torch.device("cpu"))
        assert estimate_memory(job(distill), half=False).activation_bytes == measured > 0


@pytest.mark.parametrize(("optimizer", "moments"), [("adamw", 2), ("sgd", 1)])
def test_weights_moments_and_gradients_are_counted(
    job: Callable[..., Job], optimizer: str, moments: int
) -> None:
    found = estimate_memory(job(optimizer=optimizer), half=False)
    engine = build_cohort([job()], open_data(job().data)).engine
    assert engine.teacher is not None
    each = [
        sum(p.nbytes for module in learner.modules for p in module.parameters())
        for learner in (engine.teacher.learner, engine.students[0])
    ]
    assert found.moments_bytes == moments * sum(each)
    # One network's gradients at a time, but for gathered batches.
    assert found.gradient_bytes == max(each)
    gathered = estimate_memory(job(accumulate=2), half=False)
    assert gathered.gradient_bytes == sum(each)
    # Running statistics come on top of weights.
    assert sum(each) < found.weights_bytes < 1.05 * sum(each)
    three = estimate_memory(job(optimizer=optimizer), half=False, students=3)
    assert three.moments_bytes - found.moments_bytes == 2 * moments * each[1]
    assert three.gradient_bytes == found.gradient_bytes


def test_a_teacher_that_stands_still_has_no_moments(job: Callable[..., Job]) -> None:
    frozen = {"pixel_kl": {}, "teacher": "frozen", "checkpoint": "somewhere"}
    found = estimate_memory(job(frozen), half=False)
    control = estimate_memory(job().as_control(), half=False)
    assert found.moments_bytes == control.moments_bytes
    assert found.weights_bytes > control.weights_bytes
    average = estimate_memory(job({"pixel_kl": {}, "teacher": "ema"}), half=False)
    plain = estimate_memory(job({"pixel_kl": {}}), half=False)
    assert average.weights_bytes > plain.weights_bytes
    assert average.moments_bytes == plain.moments_bytes


@pytest.mark.parametrize("batch_size", [2, 8])
def test_the_peak_lies_between_what_is_certain_and_the_estimate(
    job: Callable[..., Job], batch_size: int
) -> None:
    """The peak of all living tensors in an epoch, against the two."""
    large = job(batch_size=batch_size, epochs=1)
    found = estimate_memory(large, half=False)
    epochs = build_cohort([large], open_data(large.data)).engine.epochs()
    with LiveBytes() as live:
        next(epochs)
    # Weights are there before the epoch.
    peak = live.peak + found.weights_bytes
    assert found.certain_bytes <= peak <= found.bytes - CONTEXT_BYTES
    assert found.bytes - CONTEXT_BYTES < 2 * peak


def test_half_precision_and_compilers_leave_less_for_certain(job: Callable[..., Job]) -> None:
    # Activations outweigh gradients here.
    whole = estimate_memory(job(batch_size=8), half=False)
    half = estimate_memory(job(batch_size=8), half=True)
    compiled = estimate_memory(job(batch_size=8, compile=True), half=False)
    assert whole.certain_bytes >= half.certain_bytes >= compiled.certain_bytes
    assert half.cast_bytes > whole.cast_bytes == 0
    assert compiled.activation_bytes == whole.activation_bytes
    kept = compiled.weights_bytes + compiled.moments_bytes + compiled.gradient_bytes
    assert compiled.certain_bytes == kept


def packed(**changes: int) -> PackedTrials:
    sizes = {"trials": 4, "certain_bytes": 3 * GB, "trial_bytes": 5 * GB, "gpu_bytes": 24 * GB}
    return PackedTrials(label="resnet34→resnet18", batch_size=16, **{**sizes, **changes})


def test_trials_fit_may_fit_or_cannot() -> None:
    fits, may, cannot = packed(), packed(trials=5), packed(trials=10)
    assert (fits.fits, fits.cannot_fit) == (True, False)
    assert (may.fits, may.cannot_fit) == (False, False)
    assert (cannot.fits, cannot.cannot_fit) == (False, True)
    assert str(fits) == (
        "4 trials on a GPU of 24.0 GB, each about 5.0 GB (resnet34→resnet18, batch size 16), "
        "20.0 GB in all"
    )
    # Four of 5 GB fit into 24 GB.
    assert "resources.gpus_per_trial: 0.25, or" in may.warning
    assert "gpus_per_trial" not in packed(trials=1, trial_bytes=30 * GB).advice


def test_the_error_says_what_is_needed_what_is_there_and_what_to_do() -> None:
    error = packed(trials=10).error()
    assert error.exit_code == 2
    assert str(error) == (
        "resources.gpus_per_trial: 10 trials on one GPU cannot fit into its memory\n"
        "  value:   10 × 3.0 GB for weights, optimiser and activations alone "
        "(resnet34→resnet18, batch size 16); with all else about 5.0 GB each\n"
        "  there:   24.0 GB\n"
        "  try:     resources.gpus_per_trial: 0.25, or a train.batch_size below 16"
    )


def test_shares_that_are_not_exact_are_counted_right() -> None:
    assert [trials_per_gpu(share) for share in (1 / 3, 0.2, 0.3, 1.0, 2.0)] == [3, 5, 3, 1, 1]


def test_a_sweep_is_refused_warned_of_or_left_alone(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    need = estimate_memory(job(precision="float32"), half=False)
    sizes = {"gpu_bytes": 0}

    def machine() -> Machine:
        return Machine(8, "a processor", None, ("a GPU",), sizes["gpu_bytes"])

    monkeypatch.setattr(gpu_memory, "this_machine", machine)
    jobs = [job(precision="float32")]
    assert check_memory(jobs, 0.5) is None  # no GPU
    sizes["gpu_bytes"] = 2 * need.bytes
    assert check_memory(jobs, 0.5) is None
    assert check_memory(jobs, 0.0) is None
    assert re.match(r"warning: memory may run out: 4 trials", check_memory(jobs, 0.25) or "")
    assert "memory may run out: 2 trials" in (check_memory(jobs, 0.5, students=8) or "")
    sizes["gpu_bytes"] = 2 * need.certain_bytes - 1
    with pytest.raises(ResourceError, match="2 trials on one GPU cannot fit"):
        check_memory(jobs, 0.5)


def test_a_process_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, int]] = []
    memory = SimpleNamespace(total_memory=10 * CONTEXT_BYTES)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *args: told.append(args)
    )
    for share in (0.0, 1.0, 2.0, 0.05):  # none, whole GPUs, less than a process's own
        keep_to_share(share)
    assert told == []
    keep_to_share(0.5)
    # Two such processes with their contexts fill the GPU.
    assert told == [(pytest.approx(0.4), 0)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    keep_to_share(0.5)
    assert len(told) == 1
