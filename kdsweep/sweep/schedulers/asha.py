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

from collections.abc import Sequence

from typing_extensions import override

from kdsweep.config.metrics import Metric
from kdsweep.config.objectives import front
from kdsweep.ledger.rungs import Rungs
from kdsweep.sweep.schedulers.base import Scheduler


class Asha(Scheduler):
    """The rule that stops trials at the rungs of a sweep. Higher values are better.

    At each rung about one trial in ``reduction_factor`` goes on.

    Args:
        rungs: What was reached there so far; read only.
        objectives: What is optimised; values are those of the first.
    """

    def __init__(self, rungs: Rungs, objectives: Sequence[Metric] = ()) -> None:
        super().__init__(rungs, objectives if len(objectives) > 1 else ())

    @override
    def should_stop(
        self, trial: int, epoch: int, value: float, further: Sequence[float] = ()
    ) -> bool:
        # A trial is never compared with its own earlier record, so asking again after a crash gives
        # the same answer.
        if not self._rungs.is_rung(epoch):
            return False
        cutoff = self._rungs.cutoff(trial, epoch)
        if cutoff is None or value >= cutoff:
            return False
        if not self._objectives:
            return True
        others = self._rungs.points[epoch]
        return trial not in front({**others, trial: (value, *further)}, self._objectives)
