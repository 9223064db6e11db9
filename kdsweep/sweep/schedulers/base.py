"""What every scheduler is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from kdsweep.config.metrics import Metric
from kdsweep.ledger.rungs import Rungs


class Scheduler(ABC):
    """Decides after each epoch whether a trial goes on. Higher values are better.

    A scheduler has no memory of its own: it decides by what stands in the ledger, so that a resumed
    sweep decides like one that was never interrupted, and a decision can be asked for again.

    Args:
        rungs: What trials have reached at the rungs so far; read only.
        objectives: What is optimised, the score that decides on epochs first.

    Attributes:
        student_of: Gives the name of a trial's student; ``None`` where a sweep has so few trials
            for each student that rules should not look at them one by one.
    """

    student_of: Callable[[int], str] | None = None

    def __init__(self, rungs: Rungs, objectives: Sequence[Metric] = ()) -> None:
        self._rungs = rungs
        self._objectives = objectives

    @abstractmethod
    def should_stop(
        self, trial: int, epoch: int, value: float, further: Sequence[float] = ()
    ) -> bool:
        """Return whether a trial ends with an epoch; nothing is recorded.

        Args:
            trial: Its number.
            epoch: The epoch that it has finished.
            value: Its score.
            further: Its values of the objectives after the first.
        """
