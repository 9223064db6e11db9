"""What trials keep in their folders besides the ledger's numbers, read for a report.

Trials may be writing just now, may have died, or be of a version that kept less: what is not there
or not whole is ``None``, and the report does without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdsweep.ledger import Experiment, TrialFolder
from kdsweep.plain_text import counted
from kdsweep.reporting.results import Results

_MOST_CLASSES = 255  # class ids are bytes, and 255 is void


@dataclass(frozen=True, eq=False)
class Confusions:
    """Confusion matrices of a trial's best epoch on the validation split.

    Attributes:
        classes: Names of the classes.
        student_KK: Pixels by label (rows) and prediction (columns), int64.
        teacher_KK: The teacher's at the same epoch; ``None`` for a control.
    """

    trial: int
    epoch: int
    classes: tuple[str, ...]
    student_KK: np.ndarray
    teacher_KK: np.ndarray | None


def trial_folder(results: Results, number: int) -> TrialFolder | None:
    """Return a trial's folder, where the experiment's folder is known."""
    folder = results.summary.experiment
    return None if folder is None else Experiment(Path(folder)).trial(number)


def control_of(results: Results, number: int) -> int | None:
    """Return the control that a trial is measured against."""
    controls = results.trials.loc[results.trials["number"] == number, "control"].dropna()
    return None if controls.empty else int(controls.iloc[0])


def confusions(results: Results, number: int) -> Confusions | None:
    """Return the confusion matrices that a trial has left."""
    folder = trial_folder(results, number)
    found = None if folder is None else _json(folder.confusion)
    if found is None:
        return None
    classes = found.get("classes")
    if not isinstance(classes, list) or not 0 < len(classes) <= _MOST_CLASSES:
        return None
    student = _counts(found.get("student"), len(classes))
    if student is None or not isinstance(found.get("epoch"), int):
        return None
    teacher = _counts(found.get("teacher"), len(classes))
    return Confusions(number, found["epoch"], tuple(map(str, classes)), student, teacher)


def measured_on(results: Results, number: int) -> str | None:
    """Return what a trial's latency was measured on: ``Intel Xeon, 1 CPU thread, float32``."""
    folder = trial_folder(results, number)
    found = None if folder is None else _json(folder.inference)
    student = (found or {}).get("student")
    if not isinstance(student, dict) or not student.get("device"):
        return None
    threads = student.get("num_threads")
    parts = [" ".join(str(student["device"]).split())]
    if threads is not None:
        parts.append(counted(threads, "CPU thread"))
    if student.get("precision"):
        parts.append(str(student["precision"]))
    return ", ".join(parts)


def _counts(value: Any, num_classes: int) -> np.ndarray | None:
    try:
        counts = np.array(value)
    except ValueError:  # rows of several lengths
        return None
    whole = counts.shape == (num_classes, num_classes) and counts.dtype.kind == "i"
    return counts.astype(np.int64) if whole and (counts >= 0).all() else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
