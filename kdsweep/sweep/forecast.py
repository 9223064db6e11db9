"""How long a sweep takes: played through on measured steps, with the sweep's own halving rule."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from kdsweep.ledger.rungs import Rungs
from kdsweep.sweep.schedulers.asha_per_student import AshaPerStudent
from kdsweep.training.step_cost import StepCost

# Played so often with other luck, and averaged. Long sweeps are their own average, and only the
# beginning of very long ones is played.
_NUM_PLAYS = 20
_NUM_PLAYED_TRIALS = 1000
_ROUNDS_PLAYED = 4


def _nobody(students: int) -> int:
    return 0


@dataclass(frozen=True)
class Workload:
    """What a sweep asks for, as far as its time depends on it.

    Attributes:
        num_trials: Search trials.
        epochs: Epochs of each.
        head_start_epochs: Epochs of each teacher before its students begin.
        num_controls: Controls that train by themselves.
        riding: Number of controls that train beside so many students.
        spared: Students of which the best trial goes on at each rung; 0 for plain ASHA.
        slots: Cohorts and controls at a time.
        grace_period: First rung of ASHA.
        reduction_factor: At each rung about one trial in this many goes on.
    """

    num_trials: int
    epochs: int
    head_start_epochs: int
    num_controls: int
    slots: int
    grace_period: int
    reduction_factor: int
    riding: Callable[[int], int] = _nobody
    spared: int = 0


@dataclass(frozen=True)
class Effort:
    """What a sweep takes.

    Attributes:
        hours: From the first trial's start to the last one's end.
        slot_hours: Hours that cohorts and controls train, summed over them.
        epochs_share: Share of all search trials' epochs that is trained.
    """

    hours: float
    slot_hours: float
    epochs_share: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def foresee(work: Workload, cost: StepCost, *, students: int, asha: bool) -> Effort:
    """Return what a sweep is expected to take.

    Trials are taken to be in random order, and each as good at every rung as at the others. A
    sampler that learns, or curves that cross, let more trials through.

    Args:
        work: What is asked for.
        cost: Steps of a job.
        students: Students per teacher.
        asha: Whether ASHA stops trials.
    """
    plays, longer = _played(work, cost, students, asha)
    return Effort(
        hours=longer * statistics.fmean(play.hours for play in plays),
        slot_hours=longer * statistics.fmean(play.slot_hours for play in plays),
        epochs_share=statistics.fmean(play.epochs_share for play in plays),
    )


def needed_hours(work: Workload, cost: StepCost, *, students: int, asha: bool) -> float:
    """Return the hours of a sweep that begins no cohort which might not end in them.

    Args:
        work: What is asked for.
        cost: Steps of a job.
        students: Students per teacher.
        asha: Whether ASHA stops trials.
    """
    plays, longer = _played(work, cost, students, asha)
    return statistics.fmean(play.needed + (longer - 1) * play.hours for play in plays)


def first_epoch_s(cost: StepCost, students: int, controls: int, head_start_epochs: int) -> float:
    """Return what a cohort's first epoch takes on top of the others: its start."""
    # A teacher with all its students, and controls, is so many single networks.
    head_start_s = head_start_epochs * cost.head_start_epoch_s
    return cost.start_s * (1 + students + controls) / 2 + head_start_s


def segments(
    stops: Sequence[int], students: int, reduction_factor: int
) -> Iterator[tuple[int, int]]:
    """Return how a cohort trains if its trials are about as good as others: epochs, and students.

    Args:
        stops: Epochs at which trials are judged, the end among them, in order.
        students: With which it begins.
        reduction_factor: At each stop about one in this many goes on.
    """
    epoch = 0
    for stop in stops:
        yield stop - epoch, students
        epoch, students = stop, math.ceil(students / reduction_factor)


def _played(
    work: Workload, cost: StepCost, students: int, asha: bool
) -> tuple[list[_Course], float]:
    """Return some courses that a sweep may take, and by how much it is longer than these."""
    most = max(_NUM_PLAYED_TRIALS, _ROUNDS_PLAYED * work.slots * students)
    played = replace(work, num_trials=min(work.num_trials, most))
    num_plays = 1
    if asha:
        num_plays = max(1, min(_NUM_PLAYS, _NUM_PLAYED_TRIALS // work.num_trials))
    plays = [_Play(played, cost, students, asha, seed).run() for seed in range(num_plays)]
    return plays, work.num_trials / played.num_trials


@dataclass(frozen=True)
class _Course(Effort):
    """What a sweep took.

    Attributes:
        needed: Hours from the first trial's start to the end that the last one might have had.
    """

    needed: float


class _Play:
    """One course that a sweep may take."""

    def __init__(
        self, work: Workload, cost: StepCost, students: int, asha: bool, seed: int
    ) -> None:
        self._work = work
        self._cost = cost
        self._students = students
        self._stops = asha
        self._rungs = Rungs(work.grace_period, work.reduction_factor)
        self._asha = AshaPerStudent(self._rungs)
        if work.spared:
            self._asha.student_of = lambda trial: str(trial % work.spared)
        self._random = random.Random(seed)
        self._num_epochs = 0

    def run(self) -> _Course:
        """Play it to its end."""
        waiting = self._attempts()
        # When which attempt comes to its next stop; the number keeps equal times in order.
        running: list[tuple[float, int, Iterator[float]]] = []
        now = busy = begun = 0.0
        number = 0
        while True:
            while len(running) < self._work.slots:
                attempt = next(waiting, None)
                if attempt is None:
                    break
                number += 1
                begun = now
                heapq.heappush(running, (now, number, attempt))
            if not running:
                break
            now, order, attempt = heapq.heappop(running)
            seconds = next(attempt, None)
            if seconds is not None:
                busy += seconds
                heapq.heappush(running, (now + seconds, order, attempt))
        all_epochs = self._work.num_trials * self._work.epochs
        needed = max(now, begun + self._longest_s())
        return _Course(now / 3600, busy / 3600, self._num_epochs / all_epochs, needed / 3600)

    def _longest_s(self) -> float:
        """What a cohort takes that halving treats no worse than others, and one trial ends."""
        work, cost = self._work, self._cost
        students = min(self._students, work.num_trials)
        controls = work.riding(students)
        seconds = first_epoch_s(cost, students, controls, work.head_start_epochs)
        parts = segments(list(self._stops_at()), students, work.reduction_factor)
        return seconds + sum(epochs * self._epoch_s(heads) for epochs, heads in parts)

    def _epoch_s(self, students: int) -> float:
        cost = self._cost
        riding_s = self._work.riding(students) * cost.control_epoch_s
        return cost.teacher_epoch_s + students * cost.student_epoch_s + riding_s

    def _attempts(self) -> Iterator[Iterator[float]]:
        """Return what is handed out, in order."""
        for _ in range(self._work.num_controls):
            yield self._control()
        trials = iter(range(self._work.num_trials))
        while cohort := list(itertools.islice(trials, self._students)):
            yield self._cohort(cohort)

    def _control(self) -> Iterator[float]:
        # A single network instead of a pair.
        yield self._cost.start_s / 2
        yield self._work.epochs * (self._cost.batches_epoch_s + self._cost.control_epoch_s)

    def _cohort(self, trials: list[int]) -> Iterator[float]:
        """The seconds between one stop of a cohort and the next; it is judged at each."""
        work, cost = self._work, self._cost
        # Each by its luck alone.
        values = {trial: self._random.random() for trial in trials}
        yield first_epoch_s(cost, len(trials), work.riding(len(trials)), 0)
        if work.head_start_epochs:
            yield work.head_start_epochs * cost.head_start_epoch_s
        epoch = 0
        for stop in self._stops_at():
            yield (stop - epoch) * self._epoch_s(len(values))
            self._num_epochs += (stop - epoch) * len(values)
            epoch = stop
            if epoch == work.epochs:
                return
            for trial, value in list(values.items()):
                if self._asha.should_stop(trial, epoch, value):
                    del values[trial]
                self._rungs.record(trial, epoch, (value,))
            if not values:
                return

    def _stops_at(self) -> Iterator[int]:
        if self._stops:
            yield from rungs(self._work)
        yield self._work.epochs


def rungs(work: Workload) -> list[int]:
    """The epochs at which ASHA may stop a trial."""
    all_rungs = Rungs(work.grace_period, work.reduction_factor)
    return [epoch for epoch in range(1, work.epochs) if all_rungs.is_rung(epoch)]
