"""Tells a tracker of a job that is trained without a sweep."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdsweep.config.metrics import MIOU
from kdsweep.errors import KdsweepError
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.tracking import DATA_FINGERPRINT, Tracker, TrialDetails
from kdsweep.training.report import EpochReport
from kdsweep.trial.trained_model import CARD

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.ledger.layout import TrialFolder


def tracked(
    reports: Iterable[EpochReport],
    tracker: Tracker,
    job: Job,
    folder: TrialFolder,
    classes: Sequence[str],
    data: Mapping[str, str] | None = None,
) -> Generator[EpochReport]:
    """The reports of a job, each of them told to a tracker, which is closed at their end.

    Args:
        reports: What :func:`~kdsweep.trial.run_job` yields, not begun yet.
        tracker: Where they go, as trial 0.
        job: The job.
        folder: Its folder.
        classes: Names of the classes.
        data: ``fingerprint`` of the data, where it is known.

    Yields:
        The reports.
    """
    # A resumed job begins with a report that was told when its epoch was trained.
    told = any(True for _ in CheckpointFolder(folder.checkpoint, 1).newest_first())
    params = {} if data is None else {DATA_FINGERPRINT: data["fingerprint"]}
    tracker.trial(0, job.label, job.model_dump(mode="json"), "job", params)
    best: EpochReport | None = None
    last: EpochReport | None = None
    try:
        for last in reports:
            if not told:
                tracker.epoch(0, last.epoch, last.to_json()["metrics"])
            told = False
            if best is None or last.metrics[MIOU] > best.metrics[MIOU]:
                best = last
            yield last
    except KdsweepError:
        tracker.trial_end(0, "failed")
        raise
    else:
        if best is not None and last is not None and (folder.best / CARD).exists():
            summary, details = _found(folder, best, last.epoch, classes)
            tracker.trial_end(0, "complete", summary, details)
    finally:
        tracker.close()


def _found(
    folder: TrialFolder, best: EpochReport, num_epochs: int, classes: Sequence[str]
) -> tuple[dict[str, Any], TrialDetails]:
    """Return what the training has come to; its best epoch may be older than this process."""
    card = json.loads((folder.best / CARD).read_text(encoding="utf-8"))
    seen = card["epoch"] == best.epoch
    details = TrialDetails(
        epochs=num_epochs,
        best_epoch=card["epoch"],
        classes=classes,
        ious=best.classes if seen else {},
        frames=folder.frame_pictures(),
    )
    return {f"best/{MIOU}": card["miou"], "best/epoch": card["epoch"]}, details
