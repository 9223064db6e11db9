"""What trials had reached at the rungs of a sweep: the epochs at which halving compares them."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
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
        self._sorted: dict[int, list[float]] = {}  # the scores, so that a cutoff costs no sorting

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
        if not self.is_rung(epoch):
            return
        points, scores = self.points.setdefault(epoch, {}), self._sorted.setdefault(epoch, [])
        if trial in points:  # one that is tried again
            del scores[bisect_left(scores, points[trial][0])]
        points[trial] = tuple(point)
        insort(scores, points[trial][0])

    def cutoff(self, trial: int, epoch: int) -> float | None:
        """Return the score above which the best ``1 / reduction_factor`` of the others lie.

        Args:
            trial: Left out.
            epoch: The rung.

        Returns:
            The percentile as numpy interpolates it; ``None`` if no other trial was there.
        """
        scores, own = self._sorted.get(epoch, []), self.points.get(epoch, {}).get(trial)
        num = len(scores) - (own is not None)
        if num == 0:
            return None
        left_out = len(scores) if own is None else bisect_left(scores, own[0])

        def at(place: int) -> float:
            return scores[place + (place >= left_out)]

        # As numpy does it, to the last bit, as Ray's ASHA decides by it.
        place = (num - 1) * (((1 - 1 / self.reduction_factor) * 100) / 100)
        below = math.floor(place)
        low, high, part = at(below), at(min(below + 1, num - 1)), place - below
        step = high - low
        return high - step * (1 - part) if part >= 0.5 else low + step * part
