"""Asynchronous successive halving, the stopping variant.

Li et al., "A System for Massively Parallel Hyperparameter Tuning" (1810.05934), as Ray Tune's
``ASHAScheduler`` implements it with one bracket: a trial that reaches a rung goes on if its value
is in the best ``1 / reduction_factor`` of all values recorded there so far, in order of arrival.

Where a sweep has several objectives, values are those of the first. A trial below the cutoff then
goes on nevertheless if it is on the front of its rung, so that no other there is as good in all
objectives and better in one: the rule alone would stop the cheap students that the other
objectives look for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kdsweep.spec.objectives import Objective, front


class Asha:
    """The rungs of one sweep, and the rule that stops trials at them. Higher values are better.

    Args:
        grace_period: First rung, in epochs.
        reduction_factor: At each rung about one trial in this many goes on; the rungs are
            ``grace_period * reduction_factor ** k``.
        objectives: What is optimised; values are those of the first.

    Attributes:
        rungs: Value of each trial at each rung.
    """

    def __init__(
        self, grace_period: int, reduction_factor: int, objectives: Sequence[Objective] = ()
    ) -> None:
        self.grace_period = grace_period
        self.reduction_factor = reduction_factor
        self.rungs: dict[int, dict[int, float]] = {}
        self._objectives = objectives if len(objectives) > 1 else ()
        self._further: dict[int, dict[int, tuple[float, ...]]] = {}

    def is_rung(self, epoch: int) -> bool:
        """Whether trials are compared at ``epoch``."""
        rung = self.grace_period
        while rung < epoch:
            rung *= self.reduction_factor
        return rung == epoch

    def should_stop(
        self, trial: int, epoch: int, value: float, further: Sequence[float] = ()
    ) -> bool:
        """Whether a trial that reports ``value`` at ``epoch`` would be stopped; records nothing.

        A trial is never compared with its own earlier record, so asking again after a crash gives
        the same answer.

        Args:
            trial: Its number.
            epoch: The epoch that it has finished.
            value: Its score.
            further: Values of the objectives after the first.
        """
        if not self.is_rung(epoch):
            return False
        others = {t: v for t, v in self.rungs.get(epoch, {}).items() if t != trial}
        cutoff = self._cutoff(others.values())
        if cutoff is None or value >= cutoff:
            return False
        if not self._objectives:
            return True
        points = {t: (v, *self._further[epoch][t]) for t, v in others.items()}
        return trial not in front({**points, trial: (value, *further)}, self._objectives)

    def record(self, trial: int, epoch: int, value: float, further: Sequence[float] = ()) -> None:
        """Remember what a trial reported, if ``epoch`` is a rung; arguments as before."""
        if self.is_rung(epoch):
            self.rungs.setdefault(epoch, {})[trial] = value
            if self._objectives:
                self._further.setdefault(epoch, {})[trial] = tuple(further)

    def _cutoff(self, values: Iterable[float]) -> float | None:
        recorded = list(values)
        if not recorded:
            return None
        return float(np.percentile(recorded, (1 - 1 / self.reduction_factor) * 100))
