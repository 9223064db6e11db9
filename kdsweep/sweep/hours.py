"""What a sweep of so many hours should train: epochs, students per teacher, trials.

What is chosen are few numbers of the space, by steps that were measured; what keeps to the hours
while it runs is :mod:`kdsweep.sweep.deadline`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kdsweep.config.halving import grace_period, warmup_epochs
from kdsweep.errors import ConfigError
from kdsweep.plain_text import counted
from kdsweep.sweep.cohort_size import (
    choose_students_per_teacher,
    cohort_memory,
    have_one_control,
    most_students,
)
from kdsweep.sweep.forecast import needed_hours, rungs, segments
from kdsweep.sweep.outcome import duration
from kdsweep.sweep.preview import Preview, preview

if TYPE_CHECKING:
    from kdsweep.config import Space
    from kdsweep.training.step_cost import StepCost

# So many full trainings, controls among them, and so many search trials: with fewer there is
# little to choose from, and shorter trainings tell more. A space that asks for fewer gets them.
_TRAININGS = 10
_LEAST_TRIALS = 5
# Scores of much shorter trainings order the settings otherwise.
_LEAST_SHARE = 1 / 3
_MOST_TRIALS = 100_000
# Of Ray and the workers, beside what is measured (docs/performance.md).
_RAY_START_S = 15.0


class TooFewHoursError(ConfigError):
    """The least that makes a sweep takes longer than the hours given.

    Attributes:
        needed_hours: What it takes.
        costs: The steps that were measured.
        spent_h: Hours that measuring took.
    """

    needed_hours: float
    costs: list[StepCost]
    spent_h: float


@dataclass(frozen=True)
class HoursPlan:
    """What a sweep of so many hours trains.

    Attributes:
        space: The space with what was chosen.
        hours: In which it is to end, all that comes before its first trial counted.
        seconds: What the steps of the largest job take, as a ledger's first line has it.
        lines: What was chosen and why, for people.
    """

    space: Space
    hours: float
    seconds: dict[str, float]
    lines: tuple[str, ...]


def plan_hours(
    space: Space,
    hours: float,
    *,
    slots: int | None = None,
    scratch: Path | None = None,
    measure: bool | None = None,
    after: TooFewHoursError | None = None,
) -> tuple[HoursPlan, Preview]:
    """Choose what to train in so many hours on this machine, and say what that would take.

    What the command line sets stands as it is, see docs/search-spaces.md.

    Args:
        space: What to search.
        hours: From now on.
        slots: As for :func:`~kdsweep.sweep.preview.preview`.
        scratch: Likewise.
        measure: Likewise.
        after: What a space said that differs in epochs alone; its measured steps are taken.

    Raises:
        ConfigError: The hours are too few, or more was set than fits into them.
        KdsweepError: As for :func:`~kdsweep.sweep.preview.preview`.
    """
    began = time.monotonic()
    if is_set(space, "max_hours"):
        raise ConfigError(
            "two budgets of hours: --hours ends the sweep, sweep.max_hours pauses it",
            hint="one of the two",
        )
    known = after.costs if after else ()
    found = preview(space, measure=measure, slots=slots, scratch=scratch, costs=known)
    spent_h = after.spent_h if after else (time.monotonic() - began + _RAY_START_S) / 3600
    chosen = _Choice(found, hours, spent_h).plan()
    costs = [sample.cost for sample in found.samples]
    shown = preview(chosen.space, slots=slots, costs=costs)
    return chosen, replace(shown, hours=hours, hours_lines=chosen.lines)


def is_set(space: Space, key: str) -> bool:
    """Return whether the command line has set a key of ``sweep``, or ``train.epochs``."""
    name = key if "." in key else f"sweep.{key}"
    return space.document is not None and space.document.is_changed(name)


class _Choice:
    """Chooses what fits; the lines say what was chosen."""

    def __init__(self, found: Preview, hours: float, spent_h: float) -> None:
        self._found = found
        self._space = space = found.space
        self._hours = hours
        self._spent_h = spent_h
        self._budget_h = hours - spent_h
        self._is_paired = space.sweep.num_paired > 0
        self._asked = found.epochs[1]
        self._has_range = len(set(found.epochs)) > 1 or not isinstance(
            space.tree["train"].get("epochs"), int
        )
        self._points = self._most_points()

    def plan(self) -> HoursPlan:
        """Choose, and say why."""
        least = self._least_trials()
        students = self._students(least)
        epochs = self._epochs(least, students)
        trials = least
        if not is_set(self._space, "trials"):
            trials = self._most_trials(least, epochs, students)
            auto = self._students(trials) if self._may_choose_students else students
            if auto != students and self._least_h(least, epochs, auto) <= self._budget_h:
                students = auto
                trials = self._most_trials(least, epochs, students)
        space = self._with(epochs, trials, students)
        return HoursPlan(
            space,
            self._hours,
            self._seconds(),
            tuple(self._lines(space, epochs, trials, students)),
        )

    # -- choosing --------------------------------------------------------------------------------

    def _least_trials(self) -> int:
        sweep = self._space.sweep
        if is_set(self._space, "trials"):
            return min(sweep.trials, self._points)
        shared = 0 if self._is_paired else self._found.num_controls
        wanted = math.ceil((_TRAININGS - shared) / (1 + sweep.num_paired))
        return min(max(wanted, _LEAST_TRIALS), sweep.trials, self._points)

    def _most_points(self) -> int:
        """Different jobs that may be trained, as far as any sweep could."""
        points = self._found.num_points
        if points is None or points > _MOST_TRIALS:
            return _MOST_TRIALS
        # Bounds leave fewer; the preview has counted no further than the space's own trials.
        limited = self._found.num_trials < self._space.sweep.trials
        return self._found.num_trials if limited else points

    @property
    def _may_choose_students(self) -> bool:
        sweep = self._space.sweep
        return sweep.students_per_teacher == "auto" or (
            "students_per_teacher" not in sweep.model_fields_set
        )

    def _students(self, trials: int) -> int:
        space, largest = self._space, self._found.samples[1]
        possible = min(most_students(space), largest.most_students or _MOST_TRIALS)
        wanted = space.sweep.students_per_teacher
        if not self._may_choose_students and wanted != "auto":
            return min(wanted, possible)
        chosen = choose_students_per_teacher(
            largest.cost,
            trials,
            self._found.resources.slots,
            cohort_memory(self._found.machine, self._found.resources),
            riding=partial(space.sweep.num_riding, one_control=have_one_control(space)),
        )
        return min(chosen, possible)

    def _epochs(self, least: int, students: int) -> int:
        """The space's epochs, or as many as leave time for enough trainings."""
        own = self._asked

        def fits(epochs: int) -> bool:
            return self._least_h(least, epochs, students) <= self._budget_h

        if fits(own):
            return own
        floor = self._floor()
        if not fits(floor):
            raise self._too_few(least, floor, students)
        return _most(fits, floor, own)

    def _floor(self) -> int:
        own = self._asked
        if self._has_range or is_set(self._space, "train.epochs"):
            return own
        warmup = max(warmup_epochs(job) for job in self._space.corners())
        first = self._space.sweep.grace_period
        rung = first if isinstance(first, int) and self._space.sweep.stops_early else 0
        return min(own, max(math.ceil(_LEAST_SHARE * own), warmup + 1, rung + 1))

    def _most_trials(self, least: int, epochs: int, students: int) -> int:
        def fits(trials: int) -> bool:
            return self._needed_h(trials, epochs, students) <= self._budget_h

        most = least
        while most < self._points and fits(min(2 * most, self._points)):
            most = min(2 * most, self._points)
        return _most(fits, most, min(2 * most, self._points))

    def _needed_h(self, trials: int, epochs: int, students: int) -> float:
        """Hours that so many trials need, in the mean of smallest and largest job."""
        space = self._space
        rung = grace_period(space, epochs)
        # Fewer trials than make a sweep are to fit even where none of them is stopped.
        must_run = trials <= self._least_trials() and not is_set(space, "trials")
        asha = space.sweep.stops_early and not must_run
        return fmean(
            needed_hours(
                replace(
                    sample.work,
                    num_trials=trials,
                    epochs=sample.work.epochs if self._has_range else epochs,
                    grace_period=rung,
                ),
                sample.cost,
                students=min(students, sample.most_students or students),
                asha=asha,
            )
            for sample in self._found.samples
        )

    def _least_h(self, trials: int, epochs: int, students: int) -> float:
        """Hours without which the sweep would not train so many, or not the largest job."""
        steps, work = self._seconds(), self._found.samples[1].work
        work = replace(work, epochs=epochs, grace_period=grace_period(self._space, epochs))
        stops = [*rungs(work), epochs] if self._space.sweep.stops_early else [epochs]
        of_student = steps["student_s"] + self._space.sweep.num_paired * steps["control_s"]
        cohort_s = steps["start_s"] * (1 + students) / 2 + steps["head_start_s"]
        for length, left in segments(stops, students, work.reduction_factor):
            cohort_s += length * (steps["teacher_s"] + left * of_student)
        return max(self._needed_h(trials, epochs, students), cohort_s / 3600)

    def _too_few(self, least: int, epochs: int, students: int) -> TooFewHoursError:
        needed = self._least_h(least, epochs, students) + self._spent_h
        set_ = [key for key in ("trials", "train.epochs") if is_set(self._space, key)]
        what = f"{least} trials of {epochs} epochs"
        if controls := self._found.num_controls:
            number = "their" if self._is_paired else str(controls)
            what += f" with {number} control{'' if number == '1' else 's'}"
        error = TooFewHoursError(
            f"too few hours: {what}, the {'ones set' if set_ else 'least that makes a sweep'}, "
            f"take {duration(3600 * needed)} on this machine",
            value=f"--hours {self._hours:g}",
            allowed=f"at least --hours {math.ceil(100 * needed) / 100:g}",
            hint="fewer of what is set, or smaller data or networks"
            if set_
            else "smaller data, networks or fewer student architectures; or fewer train.epochs",
        )
        error.needed_hours = needed
        error.costs = [sample.cost for sample in self._found.samples]
        error.spent_h = self._spent_h
        return error

    # -- telling ---------------------------------------------------------------------------------

    def _with(self, epochs: int, trials: int, students: int) -> Space:
        space = self._space
        tree = space.resolved()
        train = {} if self._has_range else {"train": {**tree["train"], "epochs": epochs}}
        chosen = {"trials": trials, "students_per_teacher": students, "max_hours": None}
        resolved = {**tree, **train, "sweep": {**tree["sweep"], **chosen}}
        return replace(type(space).from_resolved(resolved, space.text), document=space.document)

    def _seconds(self) -> dict[str, float]:
        sample = self._found.samples[1]
        return {
            "start_s": sample.cost.start_s,
            "head_start_s": sample.work.head_start_epochs * sample.cost.head_start_epoch_s,
            "teacher_s": sample.cost.teacher_epoch_s,
            "student_s": sample.cost.student_epoch_s,
            "control_s": sample.cost.control_epoch_s,
            "alone_s": sample.cost.alone_epoch_s,
        }

    def _lines(self, space: Space, epochs: int, trials: int, students: int) -> Iterator[str]:
        found = self._found
        controls = ", each with its controls" if self._is_paired else ""
        if found.num_controls and not self._is_paired:
            controls = f", {counted(found.num_controls, 'control')}"
        teachers = f", {students} students a teacher" if students > 1 else ""
        trained = f"{found.epochs[0]} to {epochs}" if self._has_range else str(epochs)
        yield (
            f"{duration(3600 * self._hours)}: {trials} trials of {trained} epochs{teachers}"
            f"{controls}, {found.resources.slots} at a time"
        )
        if self._has_range:
            yield "train.epochs is a range of the space, and stays one"
        elif is_set(self._space, "train.epochs"):
            yield f"{epochs} epochs, as they were set"
        elif epochs < self._asked:
            yield (
                f"{epochs} epochs, not the space's {self._asked}: only so is there time for "
                f"{self._least_trials()} whole trainings beside the controls"
            )
        else:
            yield f"{epochs} epochs, as the space says: there is time for enough whole trainings"
        why = "as many as begin in time to end, by measured steps"
        if is_set(self._space, "trials"):
            why = "as they were set"
        elif space.sweep.sampler == "grid" and trials < self._points:
            why = f"of the grid's {self._points} points no more fit"
        elif trials == self._points:
            why = "all that the space has"
        first = grace_period(space)
        judged = f"; weak ones end from epoch {first} on" if space.sweep.stops_early else ""
        yield f"{trials} trials: {why}{judged}"


def _most(fits: Callable[[int], Any], low: int, high: int) -> int:
    """Return the largest number that fits, from one that does up to ``high``."""
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
