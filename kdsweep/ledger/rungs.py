"""What trials had reached at the rungs of a sweep: the epochs at which halving compares them."""

from __future__ import annotations

from collections.abc import Iterable


class Rungs:
    """The rungs, ``grace_period * reduction_factor ** k``, and what was reached there.

    They are filled whether anybody stops trials by them or not; whoever does decides by these
    points alone, so that a resumed sweep decides like one that was never interrupted.

    Args:
        grace_period: First rung, in epochs.
        reduction_factor: Ratio of one rung to the one before.

    Attributes:
        points: By rung and trial, in order of arrival: the score, then the further objectives.
    """

    def __init__(self, grace_period: int, reduction_factor: int) -> None:
        self.grace_period = grace_period
        self.reduction_factor = reduction_factor
        self.points: dict[int, dict[int, tuple[float, ...]]] = {}

    def after(self, epoch: int) -> int:
        """Return the first rung after ``epoch``."""
        rung = self.grace_period
        while rung <= epoch:
            rung *= self.reduction_factor
        return rung

    def is_rung(self, epoch: int) -> bool:
        """Return whether trials are compared at ``epoch``."""
        return self.after(epoch - 1) == epoch

    def record(self, trial: int, epoch: int, point: Iterable[float]) -> None:
        """Remember what a trial has reached, if ``epoch`` is a rung.

        Args:
            trial: Its number.
            epoch: The epoch that it has finished.
            point: Its score, then its values of the further objectives.
        """
        if self.is_rung(epoch):
            self.points.setdefault(epoch, {})[trial] = tuple(point)
