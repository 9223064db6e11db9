"""How many students a teacher should have, and how many it can have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kdsweep.config import Job, JobList, Space
from kdsweep.config.sweep import ALL_LABELS
from kdsweep.sweep.resources import Plan
from kdsweep.training.step_cost import StepCost

if TYPE_CHECKING:
    from kdsweep.trial.machine import Machine

MAX_STUDENTS = 8
# One student more in a cohort has to save this share of a student's cost; it also makes a sampler
# draw more of its trials before it hears of the first.
WORTHWHILE = 0.05
# What is left over is for the device's own context and for memory in pieces.
USABLE_MEMORY = 0.9
# More of them at once tell no more about what trials do to each other.
_MAX_PROCESSES = 8


def choose_students_per_teacher(
    cost: StepCost,
    num_trials: int,
    slots: int,
    memory_bytes: int | None = None,
    riding: Callable[[int], int] = lambda _: 0,
) -> int:
    """The number of students for which ``students_per_teacher: auto`` stands.

    The smallest number at which one more would save less than 5 % of what a student costs with its
    share of what all share; no more than keep all slots busy, nor than memory holds.

    Args:
        cost: Measured steps of a job, best of the one that needs most memory.
        num_trials: Search trials.
        slots: Cohorts at a time.
        memory_bytes: Memory of one cohort: its share of a GPU, or of the machine; ``None`` sets no
            limit.
        riding: Number of controls that train beside so many students.
    """
    most = min(MAX_STUDENTS, math.ceil(num_trials / slots))

    def each_s(students: int) -> float:
        shared_s = cost.teacher_epoch_s + riding(students) * cost.control_epoch_s
        return shared_s / students + cost.student_epoch_s

    students = 1
    while students < most:
        now, then = each_s(students), each_s(students + 1)
        heads = students + 1 + riding(students + 1)
        if now - then < WORTHWHILE * now or not _fits(cost, heads, memory_bytes):
            break
        students += 1
    return students


def decide_students_per_teacher(
    space: Space | JobList,
    measured: Mapping[str, Any] | None,
    note: Callable[[str], None],
    *,
    slots: int,
) -> int:
    """Return how many students a teacher gets in a sweep.

    Args:
        space: What is trained.
        measured: What a runner's ``measure`` found, where it was asked.
        note: Told what was decided by that.
        slots: Cohorts at a time.
    """
    wanted = space.sweep.students_per_teacher
    if wanted != "auto":
        return wanted
    if measured is None:  # the ledger knows
        return 1
    chosen = choose_students_per_teacher(
        StepCost.from_json(measured["cost"]),
        space.sweep.trials,
        slots,
        measured["memory_bytes"],
        riding=partial(space.sweep.num_riding, one_control=have_one_control(space)),
    )
    note(f"students per teacher: {chosen}, by a few measured steps")
    return chosen


def _fits(cost: StepCost, students: int, memory_bytes: int | None) -> bool:
    return memory_bytes is None or cost.memory_bytes(students) <= USABLE_MEMORY * memory_bytes


def num_processes(machine: Machine, resources: Plan) -> int:
    """Return how many trials share what one of them trains on."""
    if resources.gpus_per_trial:
        sharing = math.floor(1 / resources.gpus_per_trial + 1e-6)
        return max(1, min(resources.slots, sharing, _MAX_PROCESSES))
    here = max(1, machine.cpus // resources.cpus_per_trial)
    return min(resources.slots, here, _MAX_PROCESSES)


def cohort_memory(machine: Machine, resources: Plan) -> int | None:
    """Return the memory in bytes that one cohort may have; ``None`` if that is not known."""
    if resources.gpus_per_trial:
        return int(machine.gpu_bytes * min(1.0, resources.gpus_per_trial))
    if machine.memory_bytes is None:
        return None
    return machine.memory_bytes // num_processes(machine, resources)


def num_with_all_labels(space: Space, jobs: Sequence[Job]) -> int:
    """Return how many controls train apart, on the labels that the data of some jobs leave out."""
    if ALL_LABELS not in space.sweep.further_controls:
        return 0
    apart = [job.as_all_labels() for job in jobs if job.data.leaves_labels_out]
    return min(space.sweep.trials, len({job.model_dump_json() for job in apart}))


def num_heads(space: Space | JobList, students: int) -> int:
    """Networks that learn beside a teacher: students, and the controls that ride along.

    Args:
        space: What is trained.
        students: Students per teacher, if the space has so many that differ.
    """
    students = 1 if isinstance(space, JobList) else min(students, most_students(space))
    return students + space.sweep.num_riding(students, one_control=have_one_control(space))


def have_one_control(space: Space | JobList) -> bool:
    """Return whether the students of a cohort differ in what a control does not have."""
    if isinstance(space, JobList):
        return False
    own = (range_.path[0] for range_, shared in space.ranges() if not shared)
    return all(section == "distill" for section in own)


def most_students(space: Space) -> int:
    """Return how many different students a cohort of a space can have, at most its trials."""
    siblings = space.num_siblings(space.draw(_First()))
    return space.sweep.trials if siblings is None else min(siblings, space.sweep.trials)


class _First:
    """Draws the first of everything."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[0]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return low

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return low
