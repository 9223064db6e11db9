"""Where a job's frames are augmented."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import make_job

from kdsweep.config import Job, load_job
from kdsweep.data import Batch, HostBatch, TrainLoader, open_data
from kdsweep.errors import CheckpointError, ConfigError
from kdsweep.ledger import TrialFolder
from kdsweep.training.report import EpochReport
from kdsweep.trial import build_cohort, check_job, measure_step_cost, run_job, step_timing
from kdsweep.trial.batches import augmenting_device

pytestmark = pytest.mark.usefixtures("few_timed_runs")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


FLIPS = {
    "transform": {
        "__class_fullname__": "Compose",
        "p": 1.0,
        "transforms": [
            {"__class_fullname__": "HorizontalFlip", "p": 0.5},
            {"__class_fullname__": "RandomGamma", "gamma_limit": [60, 160], "p": 0.5},
        ],
    }
}


def a_job(tiny_data: Path, folder: Path, **data: Any) -> Job:
    tree = make_job(tiny_data, folder).model_dump(mode="json")
    return load_job(tree | {"data": tree["data"] | data})


def metrics(report: EpochReport) -> dict[str, float]:
    """All that depends on nothing but the job: no times."""
    return {
        k: v for k, v in report.metrics.items() if not k.startswith("time/") and "latency" not in k
    }


@pytest.mark.parametrize(
    ("where", "preset", "device", "expected"),
    [
        ("auto", "standard", CPU, None),
        ("auto", "standard", CUDA, CUDA),
        ("auto", "light", CUDA, CUDA),
        ("cpu", "strong", CUDA, None),
        ("device", "strong", CUDA, CUDA),
        ("device", "strong", CPU, CPU),
        ("device", "none", CUDA, None),
        ("auto", FLIPS, CUDA, None),
        ("cpu", FLIPS, CPU, None),
    ],
)
def test_the_job_and_the_kind_of_device_decide(
    where: str,
    preset: str | dict[str, Any],
    device: torch.device,
    expected: torch.device | None,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    job = a_job(tiny_data, tmp_path, augment=preset, augment_on=where)
    assert augmenting_device(job, device) == expected


def test_other_places_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="augment_on"):
        a_job(tiny_data, tmp_path, augment_on="gpu")


def test_on_a_cpu_nothing_changes_unless_asked_for(tiny_data: Path, tmp_path: Path) -> None:
    batches = {}
    for where in ("auto", "cpu", "device"):
        job = a_job(tiny_data, tmp_path, augment="strong", augment_on=where)
        cohort = build_cohort([job], open_data(job.data))
        batches[where] = torch.stack([batch.images_BHWC for batch in cohort.loader.epoch(0)])
        cohort.close()
    assert torch.equal(batches["auto"], batches["cpu"])
    assert not torch.equal(batches["auto"], batches["device"])


def test_training_goes_on_with_the_same_batches(tiny_data: Path, tmp_path: Path) -> None:
    job = a_job(tiny_data, tmp_path, augment="strong", augment_on="device", workers=0)
    whole = list(run_job(job, TrialFolder(tmp_path / "whole"), device="cpu", num_threads=1))
    folder = TrialFolder(tmp_path / "parts")
    first = run_job(job, folder, device="cpu", num_threads=1)
    next(first)
    first.close()
    # The number of loader processes may be another when a training goes on.
    again = a_job(tiny_data, tmp_path, augment="strong", augment_on="device", workers=1)
    parts = list(run_job(again, folder, device="cpu", num_threads=1))
    assert [metrics(report) for report in parts] == [metrics(report) for report in whole]
    elsewhere = a_job(tiny_data, tmp_path, augment="strong", augment_on="cpu")
    with pytest.raises(CheckpointError, match="another job"):
        next(run_job(elsewhere, folder, device="cpu", num_threads=1))


def test_a_pipeline_of_the_users_own_trains_alike_with_and_without_a_pause(
    tiny_data: Path, tmp_path: Path
) -> None:
    job = a_job(tiny_data, tmp_path, augment=FLIPS, workers=0)
    check_job(job)
    whole = list(run_job(job, TrialFolder(tmp_path / "whole"), device="cpu", num_threads=1))
    folder = TrialFolder(tmp_path / "parts")
    first = run_job(job, folder, device="cpu", num_threads=1)
    next(first)
    first.close()
    again = a_job(tiny_data, tmp_path, augment=FLIPS, workers=1)
    parts = list(run_job(again, folder, device="cpu", num_threads=1))
    assert [metrics(report) for report in parts] == [metrics(report) for report in whole]
    plain = a_job(tiny_data, tmp_path, augment="none")
    with pytest.raises(CheckpointError, match="another job"):
        next(run_job(plain, folder, device="cpu", num_threads=1))


def test_a_pipeline_that_does_not_fit_is_refused_before_anything_starts(
    tiny_data: Path, tmp_path: Path
) -> None:
    crop = {"__class_fullname__": "RandomCrop", "height": 8, "width": 8, "p": 0.01}
    job = a_job(
        tiny_data,
        tmp_path,
        augment={"transform": {"__class_fullname__": "Compose", "transforms": [crop]}},
    )
    with pytest.raises(ConfigError, match="RandomCrop gives frames of 8×8") as found:
        check_job(job)
    assert found.value.path == ("data", "augment", "transform", "transforms", 0)


def test_a_step_that_is_timed_is_augmented_where_the_job_says(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_timing, "measure_inference", lambda *_, **__: None)
    finished, devices = TrainLoader.finished, []

    def slowly(loader: TrainLoader, made: HostBatch) -> Batch:
        devices.append(loader.device)
        assert made.draws is not None
        time.sleep(0.2)
        return finished(loader, made)

    monkeypatch.setattr(TrainLoader, "finished", slowly)
    job = a_job(tiny_data, tmp_path, augment="strong", augment_on="device", workers=2)
    cost = measure_step_cost(job, device="cpu", num_rounds=2, seconds=60.0)
    assert set(devices) == {CPU}
    # Loader processes would hide what is done on the host, and only that.
    assert cost.batch_s >= 0.2
