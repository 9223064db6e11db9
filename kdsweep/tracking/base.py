"""What a sweep tells a tracker. The ledger stays the only record: a tracker may lose everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class TrialDetails:
    """What is shown of a trial besides its curves, all of it at its best epoch.

    Attributes:
        epochs: Epochs that the trial has finished.
        best_epoch: The epoch that the rest is about.
        classes: Names of the classes.
        ious: IoU of each class by network (``student``, ``teacher``); ``None`` where a class is
            absent from labels and predictions.
        frames: Pictures of validation frames, by the frame's number and by what they show:
            ``image`` as RGB, ``truth``, ``student`` and ``teacher`` as class ids (255 = void).
    """

    epochs: int
    best_epoch: int
    classes: Sequence[str] = ()
    ious: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    frames: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep has found.

    Attributes:
        session: Number of the session at whose end this is known, from 1.
        facts: Single numbers and texts.
        tables: Rows by the table's name; the keys of a row are the table's columns.
        page: The report's page.
    """

    session: int
    facts: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    page: Path | None = None


class Tracker(Protocol):
    """Somewhere that trials are sent to besides the ledger.

    No method raises because of what is behind it, and none waits for it, but :meth:`close`, which
    waits for a limited time. What goes wrong is one warning.
    """

    @property
    def is_active(self) -> bool:
        """Whether anything that it is told goes anywhere."""

    def trial(self, number: int, label: str, job: Mapping[str, Any], kind: str) -> None:
        """A trial begins, or goes on after a pause, a crash or a retry.

        Args:
            number: Number of the trial; the same one continues the same run.
            label: Name for tables, for example ``resnet34→resnet18``.
            job: The job as plain JSON.
            kind: ``search`` or ``control``.
        """

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """A trial finished its epoch number ``epoch``, counted from 1."""

    def trial_end(
        self,
        number: int,
        state: str,
        summary: Mapping[str, Any] | None = None,
        details: TrialDetails | None = None,
    ) -> None:
        """A trial will report no more.

        Args:
            number: Number of the trial.
            state: ``complete``, ``stopped`` or ``failed``.
            summary: What is to be known of it as a whole. The best mIoU of the epochs seen by this
                tracker is known anyway; one that was resumed has seen only a part.
            details: Its classes and pictures, if it has any.
        """

    def summary(self, summary: SweepSummary) -> None:
        """The sweep has ended, or its session."""

    def close(self) -> None:
        """Send what is left. Trials that have not ended were interrupted."""


class NullTracker:
    """Tracks nothing."""

    is_active = False

    def trial(self, number: int, label: str, job: Mapping[str, Any], kind: str) -> None:
        """Do nothing."""

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Do nothing."""

    def trial_end(
        self,
        number: int,
        state: str,
        summary: Mapping[str, Any] | None = None,
        details: TrialDetails | None = None,
    ) -> None:
        """Do nothing."""

    def summary(self, summary: SweepSummary) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
