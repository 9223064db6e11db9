"""What a sweep tells a tracker. The ledger stays the only record: a tracker may lose everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """Somewhere that trials are sent to besides the ledger.

    No method raises because of what is behind it, and none waits for it, but :meth:`close`, which
    waits for a limited time. What goes wrong is one warning.
    """

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

    def trial_end(self, number: int, state: str, summary: Mapping[str, Any] | None = None) -> None:
        """A trial will report no more.

        Args:
            number: Number of the trial.
            state: ``complete``, ``stopped`` or ``failed``.
            summary: What is to be known of it as a whole. The best mIoU of the epochs seen by this
                tracker is known anyway; one that was resumed has seen only a part.
        """

    def close(self) -> None:
        """Send what is left. Trials that have not ended were interrupted."""


class NullTracker:
    """Tracks nothing."""

    def trial(self, number: int, label: str, job: Mapping[str, Any], kind: str) -> None:
        """Do nothing."""

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Do nothing."""

    def trial_end(self, number: int, state: str, summary: Mapping[str, Any] | None = None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
