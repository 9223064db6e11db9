"""Asynchronous successive halving, the stopping variant.

Li et al., "A System for Massively Parallel Hyperparameter Tuning" (1810.05934), as Ray Tune's
``ASHAScheduler`` implements it with one bracket: a trial that reaches a rung goes on if its value
is in the best ``1 / reduction_factor`` of all values recorded there so far, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Asha:
    """The rungs of one sweep, and the rule that stops trials at them. Higher values are better.

    Args:
        grace_period: First rung, in epochs.
        reduction_factor: At each rung about one trial in this many goes on; the rungs are
            ``grace_period * reduction_factor ** k``.
    """

    def __init__(self, grace_period: int, reduction_factor: int) -> None:
        self.grace_period = grace_period
        self.reduction_factor = reduction_factor
        self.rungs: dict[int, dict[int, float]] = {}

    def is_rung(self, epoch: int) -> bool:
        """Whether trials are compared at ``epoch``."""
        rung = self.grace_period
        while rung < epoch:
            rung *= self.reduction_factor
        return rung == epoch

    def should_stop(self, trial: int, epoch: int, value: float) -> bool:
        """Whether a trial that reports ``value`` at ``epoch`` would be stopped; records nothing.

        A trial is never compared with its own earlier record, so asking again after a crash gives
        the same answer.
        """
        if not self.is_rung(epoch):
            return False
        cutoff = self._cutoff(v for t, v in self.rungs.get(epoch, {}).items() if t != trial)
        return cutoff is not None and value < cutoff

    def record(self, trial: int, epoch: int, value: float) -> None:
        """Remember what a trial reported, if ``epoch`` is a rung."""
        if self.is_rung(epoch):
            self.rungs.setdefault(epoch, {})[trial] = value

    def _cutoff(self, values: Iterable[float]) -> float | None:
        recorded = list(values)
        if not recorded:
            return None
        return float(np.percentile(recorded, (1 - 1 / self.reduction_factor) * 100))
