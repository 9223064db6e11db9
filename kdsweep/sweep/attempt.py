"""What the driver hands to a worker: a try to train the students of a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """One student to train: its trial's number and folder, and the job to run as JSON."""

    trial: int
    job: dict[str, Any]
    folder: str


@dataclass(frozen=True)
class Attempt:
    """One try to train a cohort, as it is handed to a worker.

    Attributes:
        cohort: Number of the cohort's first trial, whether it trains still or has ended.
        cohort_dir: That trial's folder, where what the students share is kept.
        attempt: From 1.
        title: Name for the dashboard: ``0007 resnet34→resnet18``.
        tasks: The students to train: search trials, then controls that ride with them.
    """

    cohort: int
    cohort_dir: str
    attempt: int
    title: str
    tasks: tuple[Task, ...]
