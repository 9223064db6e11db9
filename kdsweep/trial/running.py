"""Training a job in a folder; it can be ended and begun again at any time."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from kdsweep.data import (
    open_data,
)
from kdsweep.errors import CheckpointError
from kdsweep.spec import dump_yaml
from kdsweep.store.atomic import new_directory, write_bytes, write_text
from kdsweep.store.checkpoints import CheckpointFolder
from kdsweep.training.checkpoint import load_state, save_state
from kdsweep.training.report import EpochReport
from kdsweep.training.samples import sample_sheet

if TYPE_CHECKING:
    from kdsweep.spec.job import Job
    from kdsweep.store.layout import TrialFolder


from kdsweep.trial.cohort import Cohort, build_cohort

_LOGGER = logging.getLogger(__name__)

STUDENT_WEIGHTS = "student.safetensors"
STUDENT_CARD = "student.json"


def run_job(
    job: Job,
    folder: TrialFolder,
    *,
    device: str = "auto",
    num_threads: int | None = None,
    keep_checkpoints: int = 2,
    metric: str = "student/miou",
) -> Iterator[EpochReport]:
    """Train a job in a folder, going on from its last checkpoint if there is one.

    The report of an epoch is stored inside its checkpoint. A resumed job yields that report again
    first, in case it was lost on its way to the consumer, and then only new epochs. Closing the
    iterator frees networks and loader processes.

    Args:
        job: What to train.
        folder: Where checkpoints, the best student and samples go.
        device: ``auto`` is CUDA where there is any, else the CPU.
        num_threads: CPU threads; the process's setting if left out.
        keep_checkpoints: Checkpoints left in the folder, at least 1.
        metric: Key of the report that says which epoch is best (higher is better).

    Yields:
        The report of each epoch.

    Raises:
        CheckpointError: The folder holds checkpoints of another job.
        NonFiniteLossError: Training diverged.
    """
    folder.create()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    write_text(folder.job_yaml, dump_yaml(job))
    checkpoints = CheckpointFolder(folder.checkpoint, keep_checkpoints)
    saved = _load_latest(checkpoints, job)
    best = -float("inf")
    if saved is not None:
        best = float(saved["best"])
        report = EpochReport.from_json(saved["report"])
        _LOGGER.info("goes on after epoch %d", report.epoch)
        yield report
        if report.epoch >= job.train.epochs:
            return
    data = open_data(job.data)
    cohort = build_cohort([job], data, device=device)
    try:
        if saved is not None:
            cohort.engine.load_state_dict(saved["engine"])
            saved = None
        for (report,) in cohort.engine.epochs():
            value = report.metrics.get(metric, float("nan"))
            if value > best:
                best = value
                _save_best(folder, job, cohort, report)
            state = {
                "fingerprint": fingerprint(job),
                "report": report.to_json(),
                "best": best,
                "engine": cohort.engine.state_dict(),
            }
            checkpoints.save(report.epoch, partial(save_state, state=state))
            _LOGGER.info(_log_line(job, report))
            yield report
    finally:
        cohort.close()
        del cohort
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _log_line(job: Job, report: EpochReport) -> str:
    """What a trial's log says of an epoch: all numbers but the timings' parts."""
    shown = {k: v for k, v in report.metrics.items() if not k.startswith("time/")}
    numbers = "  ".join(f"{key} {value:.4g}" for key, value in sorted(shown.items()))
    return f"epoch {report.epoch}/{job.train.epochs}  {report.seconds:.1f} s  {numbers}"


def _load_latest(checkpoints: CheckpointFolder, job: Job) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or ``None`` if there is none.

    Raises:
        CheckpointError: None of them can be read, or they belong to another job.
    """
    problem: CheckpointError | None = None
    for path in checkpoints.newest_first():
        try:
            state = load_state(path)
        except CheckpointError as error:
            problem = problem or error
            continue
        if state.get("fingerprint") != fingerprint(job):
            raise CheckpointError(
                f"{path}: this checkpoint belongs to another job; train into another folder, "
                f"or delete {checkpoints.path} to start anew"
            )
        return state
    if problem is not None:
        raise problem
    return None


def fingerprint(job: Job) -> str:
    """What must be equal for a checkpoint of one job to go on in another.

    Batch size and accumulation may differ (a trial that ran out of memory goes on with half the
    batch), and so may where the data lie and how many processes load them.
    """
    relevant = job.model_dump(mode="json", exclude={"name": True})
    for key in ("path", "cache", "workers"):
        relevant["data"].pop(key, None)
    for key in ("batch_size", "accumulate", "compile", "precision", "channels_last"):
        relevant["train"].pop(key, None)
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def _save_best(folder: TrialFolder, job: Job, cohort: Cohort, report: EpochReport) -> None:
    from safetensors.torch import save

    engine, data = cohort.engine, cohort.data
    network = engine.students[0].network
    card = {
        "model": job.student.model_dump(mode="json"),
        "classes": list(data.classes),
        "palette": np.asarray(data.palette).tolist(),
        "image_size": list(job.data.image_size),
        "mean": [m / 255.0 for m in network.shift_C11.flatten().tolist()],
        "std": [1.0 / (255.0 * s) for s in network.scale_C11.flatten().tolist()],
        "epoch": report.epoch,
        "miou": report.metrics.get("student/miou"),
        "source": job.data.source,
        "notice": data.notice,
    }
    with new_directory(folder.best) as temporary:
        (temporary / STUDENT_WEIGHTS).write_bytes(save(engine.students[0].weights()))
        (temporary / STUDENT_CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
    _save_samples(folder, cohort)


def _save_samples(folder: TrialFolder, cohort: Cohort) -> None:
    frames, data = cohort.sample_frames, cohort.data
    columns = {"teacher": "teacher", "student0": "student"}
    predictions = {
        shown: [cohort.engine.predictions[name][frame] for frame in frames]
        for name, shown in columns.items()
        if name in cohort.engine.predictions
    }
    sheet = sample_sheet(
        [np.asarray(data.val.images_NHWC[frame]) for frame in frames],
        [np.asarray(data.val.labels_NHW[frame]) for frame in frames],
        predictions,
        np.asarray(data.palette, np.uint8),
    )
    encoded, png = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert encoded
    with suppress(OSError):  # a picture less must not end a training
        write_bytes(folder.samples, png.tobytes())
