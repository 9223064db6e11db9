"""Keeps count of how often the test split was looked at: each look makes the next worth less."""

from __future__ import annotations

import json
import time
from typing import Any

from kdsweep.config.metrics import TEST_MIOU
from kdsweep.deploy.choosing import ChosenStudent
from kdsweep.deploy.evaluation import Evaluation
from kdsweep.deploy.tables import scored_text
from kdsweep.errors import ExperimentError
from kdsweep.ledger import iter_ledger
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.events import EpochEvent
from kdsweep.ledger.layout import EvaluationFolder


def scorings(folder: EvaluationFolder) -> list[dict[str, Any]]:
    """All scorings of the test split so far, oldest first.

    Raises:
        ExperimentError: Their record is damaged.
    """
    path = folder.test_scorings
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["scorings"]
        return [dict(one) for one in found]
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentError(
            f"{path}: cannot be read ({error}); it says how often the test split was scored\n"
            "  try:     move it away to begin counting anew"
        ) from error


def record(folder: EvaluationFolder, evaluation: Evaluation) -> None:
    """Write down that the test split was scored."""
    before = scorings(folder)
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "student": folder.stem,
        "postprocess": evaluation.facts["postprocess"],
        "scored": scored_text(evaluation.facts),
        "miou": evaluation.scores["miou"].to_json()["value"],
    }
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.test_scorings, {"times": len(before) + 1, "scorings": [*before, entry]})


def score_of_training(chosen: ChosenStudent) -> float | None:
    """The mIoU on the test split that a student's training ended with, as confirmations do."""
    if chosen.experiment is None:
        return None
    found, trial = None, int(chosen.folder.path.name)
    for event in iter_ledger(chosen.experiment.ledger):
        if isinstance(event, EpochEvent) and event.trial == trial:
            found = event.metrics.get(TEST_MIOU, found)
    return None if found is None else float(found)


def warning(before: list[dict[str, Any]], of_training: float | None = None) -> str | None:
    """Return what to say before the test split is scored again; ``None`` the first time.

    Args:
        before: What :func:`scorings` gave.
        of_training: What :func:`score_of_training` gave.
    """
    if not before and of_training is not None:
        return (
            f"the test split was scored at the end of this training (mIoU {of_training:.4f}): "
            "whoever chooses by its scores makes it a validation split"
        )
    if not before:
        return None
    last = before[-1]
    times = "once" if len(before) == 1 else f"{len(before)} times"
    return (
        f"the test split has been scored {times} before, last at {last['time']} "
        f"({last['student']}, post-processing {last['postprocess']}): whoever chooses by its "
        "scores makes it a validation split"
    )
