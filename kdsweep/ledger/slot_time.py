"""How long each trial held a slot, where several trials may share one.

A cohort holds one slot whatever the number of its students, and each moment of it is shared out
evenly among those that train then. So the times of all trials add up to the time of the slots.
"""

from __future__ import annotations

from collections import defaultdict


class SlotTime:
    """Adds up the time of trials; the caller tells who starts and who ends.

    Attributes:
        seconds: Time by trial, in seconds, up to what was settled.
        gpu_seconds: The same times the GPUs of the slot.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[int, float] = defaultdict(float)
        self.gpu_seconds: defaultdict[int, float] = defaultdict(float)
        self._training: defaultdict[int, dict[int, None]] = defaultdict(dict)
        self._settled: dict[int, float] = {}

    def start(self, cohort: int, trial: int, now: float, num_gpus: float) -> None:
        """A trial begins to train.

        Args:
            cohort: What tells its cohort from others.
            trial: Number of the trial.
            now: Unix time.
            num_gpus: GPUs that its slot holds.
        """
        self.settle(cohort, now, num_gpus)
        self._training[cohort][trial] = None

    def end(self, cohort: int, trial: int, now: float, num_gpus: float) -> None:
        """A trial does not train any more; one that did not train is no error."""
        self.settle(cohort, now, num_gpus)
        self._training[cohort].pop(trial, None)

    def settle(self, cohort: int, now: float, num_gpus: float) -> None:
        """Share out the time of a cohort since the last call."""
        training = self._training[cohort]
        elapsed = max(0.0, now - self._settled.get(cohort, now))
        self._settled[cohort] = now
        for trial in training:
            self.seconds[trial] += elapsed / len(training)
            self.gpu_seconds[trial] += elapsed / len(training) * num_gpus

    def since_settled(self, cohort: int, trial: int, now: float) -> float:
        """A trial's share of the time that is not settled yet; nothing is changed."""
        training = self._training.get(cohort, {})
        if trial not in training:
            return 0.0
        return max(0.0, now - self._settled[cohort]) / len(training)
