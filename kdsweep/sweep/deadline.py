"""Whether there is time: for another trial before a sweep's hours end, for the next rung of one.

All of it follows from the ledger and the clock: how long epochs take is what this sweep's own have
taken, and before there are any what was measured beforehand. A resumed sweep judges likewise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from kdsweep.ledger import Event
from kdsweep.ledger.events import EpochEvent, StartEvent
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import Trial
from kdsweep.sweep.forecast import segments

HOURS, MAX_HOURS = "hours", "max_hours"
# By so much a sweep may exceed its hours to let trials come to their next rung.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Hours:
    """The hours of a new sweep.

    Attributes:
        asked: How many.
        began: Unix time from which on they count.
        seconds: What steps were measured to take, as :class:`~kdsweep.ledger.events.SweepEvent` has
            it.
    """

    asked: float
    began: float
    seconds: dict[str, float]

    def to_header(self, now: float) -> dict[str, float]:
        """Return what the ledger's first line says of them."""
        return {"asked": self.asked, "spent_s": round(now - self.began, 1), **self.seconds}


@dataclass
class _Times:
    """What trials of one kind of network have taken, relative to what :class:`Pace` expects."""

    epochs: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)


class Pace:
    """How long epochs take, in seconds, by a state into which each event goes first."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._heard: dict[int, float] = {}
        self._is_first: dict[int, bool] = {}
        # By whether it is a control that trains alone, then by the networks' names.
        self._times: dict[bool, dict[str, _Times]] = {
            alone: defaultdict(_Times) for alone in (False, True)
        }

    def apply(self, event: Event) -> None:
        """Take in how long an epoch took."""
        if isinstance(event, StartEvent):
            self._heard[event.trial], self._is_first[event.trial] = event.time, True
        elif isinstance(event, EpochEvent) and event.trial in self._heard:
            trial = self._sweep.trials[event.trial]
            seconds = event.time - self._heard[event.trial]
            self._heard[event.trial] = event.time
            times = self._times[self._is_alone(trial)][trial.label]
            expected = self._expected_s(self._beside(trial, event.epoch))
            if self._is_first.pop(event.trial, False):
                times.starts_s.append(max(0.0, seconds - expected * median(times.epochs or [1.0])))
            else:
                times.epochs.append(seconds / expected)

    def start_s(self, trials: Sequence[Trial] = ()) -> float | None:
        """Return what an attempt takes on top of its epochs; ``None`` if nothing tells.

        Args:
            trials: Its trials; of a cohort that is not drawn yet, none.
        """
        found = self._known(trials)
        starts = [median(times.starts_s) for times in found if times.starts_s]
        if starts:
            return max(starts)
        steps = self._sweep.header.hours
        if not steps:
            return None
        single = bool(trials) and self._is_alone(trials[0])
        heads = len(trials) or self._sweep.header.students_per_teacher
        begun = single or any(trial.epoch for trial in trials)
        return steps["start_s"] * (heads + (not single)) / 2 + (
            0.0 if begun else steps["head_start_s"]
        )

    def epoch_s(self, trials: Sequence[Trial] = (), students: int = 0) -> float | None:
        """Return what an epoch takes; ``None`` if nothing tells.

        Args:
            trials: That train together; of a cohort that is not drawn yet, none.
            students: How many of them are students of the teacher; all if left out.
        """
        ratios = [median(t.epochs) for t in self._known(trials) if t.epochs]
        if not ratios and not self._sweep.header.hours:
            return None
        if not trials:
            students = students or self._sweep.header.students_per_teacher
            expected = self._expected_s((students, students * self._controls_each, False))
        else:
            controls = sum(trial.is_control for trial in trials)
            pairs = len(trials) - controls
            counted = students or pairs
            controls = math.ceil(controls * counted / pairs) if pairs else controls
            expected = self._expected_s((counted, controls, self._is_alone(trials[0])))
        return expected * max(ratios, default=1.0)

    @property
    def _controls_each(self) -> int:
        header = self._sweep.header
        return 1 + len(header.further_controls) if header.controls == "paired" else 0

    def _known(self, trials: Sequence[Trial]) -> list[_Times]:
        """The times to go by: those of the same networks, or else of all of the kind."""
        times = self._times[bool(trials) and self._is_alone(trials[0])]
        same = [times[t.label] for t in trials if t.label in times and not self._rides(t)]
        if any(found.epochs for found in same):
            return same
        return list(times.values())

    def _expected_s(self, beside: tuple[int, int, bool]) -> float:
        """Seconds of an epoch as they were measured; 1 where nothing was."""
        students, controls, is_alone = beside
        steps = self._sweep.header.hours
        if not steps:
            return 1.0
        if is_alone:
            return steps["alone_s"]
        return steps["teacher_s"] + students * steps["student_s"] + controls * steps["control_s"]

    def _beside(self, trial: Trial, epoch: int) -> tuple[int, int, bool]:
        """Who trained in an epoch of a trial: students, controls, whether it is one control."""
        cohort = self._sweep.cohort(trial.number)
        present = [t for t in cohort if t.epoch >= epoch or not t.state.is_final]
        controls = sum(t.is_control for t in present)
        return len(present) - controls, controls, self._is_alone(trial)

    def _is_alone(self, trial: Trial) -> bool:
        return trial.is_control and not self._rides(trial)

    def _rides(self, trial: Trial) -> bool:
        return trial.is_control and trial.rides_with is not None


class Deadline:
    """Judges what there is time for before ``max_hours``, after which the sweep pauses."""

    def __init__(self, sweep: Sweep, max_hours: float | None) -> None:
        self._sweep = sweep
        self._max_hours = max_hours
        self.pace = Pace(sweep)

    def is_over(self, now: float) -> str | None:
        """Return which hours are used up, if some are."""
        left = self._left_s(now, 1 + _TOLERANCE)
        if left is not None and left <= 0:
            return HOURS
        if self._max_hours is not None and self._sweep.hours(now) >= self._max_hours:
            return MAX_HOURS
        return None

    def forbids(self, now: float, trials: Sequence[Trial] = ()) -> str | None:
        """Return which hours have no time left for an attempt; ``None`` if there is time.

        In a sweep's hours a cohort begins only if it can come to its end, if as many of it are
        stopped at rungs as of others, and goes on only if it comes to its next rung. The first ones
        begin if they come to a rung: what was measured may be far from what epochs take. Before a
        pause it is to come to its next rung, except for the first of a session.

        Args:
            now: Unix time.
            trials: Those of the attempt; of a cohort that is not drawn yet, none.
        """
        start_s = self.pace.start_s(trials)
        rung_s = self._to_next_rung_s(trials)
        if start_s is None or rung_s is None:
            return None
        left = self._left_s(now, 1 + _TOLERANCE if any(t.epoch for t in trials) else 1.0)
        if left is not None:
            is_new = not any(trial.epoch for trial in trials)
            is_first = not any(trial.epoch for trial in self._sweep.trials.values())
            to_end = is_new and not is_first
            if start_s + (self._to_end_s(trials) if to_end else rung_s) > left:
                return HOURS
        if self._max_hours is not None and self._has_begun:
            left = (self._max_hours - self._sweep.hours(now)) * 3600
            if start_s + rung_s > left:
                return MAX_HOURS
        return None

    def ends(self, trial: Trial, epoch: int, now: float) -> bool:
        """Return whether a trial that has finished an epoch cannot come to its next rung.

        Controls beside others go as far as these.
        """
        left = self._left_s(now, 1 + _TOLERANCE)
        if left is None or (trial.is_control and trial.rides_with is not None):
            return False
        training = [t for t in self._sweep.cohort(trial.number) if not t.state.is_final]
        epoch_s = self.pace.epoch_s(training)
        assert epoch_s is not None  # what was measured tells, if nothing else does
        return (self._next_rung(epoch, trial.epochs) - epoch) * epoch_s > left

    def _left_s(self, now: float, share: float) -> float | None:
        """Seconds until a share of the hours is used; ``None`` without such."""
        hours = self._sweep.header.hours
        if not hours:
            return None
        return 3600 * (share * hours["asked"] - self._sweep.used_hours(now))

    @property
    def _has_begun(self) -> bool:
        """Whether some trial has come to an epoch in this session."""
        sessions = self._sweep.sessions
        trials = self._sweep.trials.values()
        return any((t.heard or 0.0) > sessions[-1].start for t in trials) if sessions else False

    def _to_next_rung_s(self, trials: Sequence[Trial]) -> float | None:
        epoch_s = self.pace.epoch_s(trials)
        if epoch_s is None:
            return None
        epoch = min((trial.epoch for trial in trials), default=0)
        return (self._next_rung(epoch, self._epochs(trials)) - epoch) * epoch_s

    def _to_end_s(self, trials: Sequence[Trial]) -> float:
        header = self._sweep.header
        epoch, stops = 0, []
        while epoch < self._epochs(trials):
            epoch = self._next_rung(epoch, self._epochs(trials))
            stops.append(epoch)
        students = sum(not trial.is_control for trial in trials) or header.students_per_teacher
        parts = segments(stops, students, header.reduction_factor)
        return sum(n * (self.pace.epoch_s(trials, heads) or 0.0) for n, heads in parts)

    def _epochs(self, trials: Sequence[Trial]) -> int:
        return max((trial.epochs for trial in trials), default=self._sweep.header.epochs or 1)

    def _next_rung(self, epoch: int, epochs: int) -> int:
        """The next epoch after one at which a trial is judged: a rung, or its end."""
        if self._sweep.header.scheduler == "none":
            return epochs
        return min(self._sweep.rungs.after(epoch), epochs)
