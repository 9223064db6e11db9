"""What a search space would train, and what that would take. Starts no Ray and keeps no folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config.halving import grace_period, num_spared
from kdsweep.config.sampling import sampler_of
from kdsweep.config.sweep import ALL_LABELS
from kdsweep.errors import ConfigError
from kdsweep.sweep.cohort_size import (
    USABLE_MEMORY,
    choose_students_per_teacher,
    cohort_memory,
    have_one_control,
    most_students,
    num_heads,
    num_processes,
    num_with_all_labels,
)
from kdsweep.sweep.feasibility import Feasibility
from kdsweep.sweep.forecast import Effort, Workload, foresee, rungs
from kdsweep.sweep.range_rows import RangeRow, range_row
from kdsweep.sweep.resources import Node, Plan, plan

if TYPE_CHECKING:
    from kdsweep.config import Job, Space
    from kdsweep.training.step_cost import StepCost
    from kdsweep.trial.gpu_memory import PackedTrials
    from kdsweep.trial.machine import Machine


@dataclass(frozen=True)
class DataRow:
    """One data set of a space."""

    source: str
    image_size: tuple[int, int]
    num_train: int
    num_val: int
    notice: str | None
    num_unlabelled: int = 0


@dataclass(frozen=True)
class Sample:
    """A job that was measured: its steps, and what a sweep of such jobs asks for."""

    job: Job
    work: Workload
    cost: StepCost

    @property
    def most_students(self) -> int | None:
        """The most that its teacher can have; ``None`` sets no limit."""
        return 1 if self.job.distill.is_mutual else None


@dataclass(frozen=True)
class Estimate:
    """What a sweep takes with a number of students per teacher; pairs are of smallest and largest.

    Attributes:
        students_per_teacher: The number.
        asked: Whether the space asks for it.
        chosen: Whether ``auto`` would choose it.
        num_cohorts: Teachers that are trained.
        asha: What it takes with ASHA.
        complete: What it takes if all trials run to their end.
        memory_bytes: Memory of one cohort.
    """

    students_per_teacher: int
    asked: bool
    chosen: bool
    num_cohorts: int
    asha: tuple[Effort, Effort]
    complete: tuple[Effort, Effort]
    memory_bytes: tuple[int, int]


@dataclass(frozen=True)
class Preview:
    """What a search space would train, and what that would take.

    Attributes:
        num_points: Different jobs in the space; ``None`` if infinitely many.
        epochs: Fewest and most epochs of a trial.
        rungs: Epochs at which ASHA may stop the longest trials; none without it.
        weights: Pretrained weights that it needs, and whether they are on this machine.
        teachers: Trained teachers that it begins with.
        ranges: The ranges, in the order of the file.
        machine: The machine that it is planned for.
        resources: Trials at a time, and what each gets.
        samples: Smallest and largest job, measured; empty where nothing was.
        estimates: By the number of students per teacher; empty likewise.
        packed: The largest job on a GPU, as often as it is to train there; ``None`` without one.
        notes: What else should be known.
        hours: In which it is to end, if it was planned for so many.
        hours_lines: What was chosen for them and why.
    """

    space: Space
    num_trials: int
    num_controls: int
    num_points: int | None
    epochs: tuple[int, int]
    rungs: tuple[int, ...]
    data: tuple[DataRow, ...]
    weights: tuple[str, ...]
    teachers: tuple[str, ...]
    ranges: tuple[RangeRow, ...]
    machine: Machine
    resources: Plan
    samples: tuple[Sample, ...]
    estimates: tuple[Estimate, ...]
    packed: PackedTrials | None
    notes: tuple[str, ...]
    hours: float | None = None
    hours_lines: tuple[str, ...] = ()

    @property
    def expected(self) -> tuple[Effort, Effort] | None:
        """What the sweep takes as it is asked for, with the smallest and the largest job."""
        for estimate in self.estimates:
            if estimate.asked:
                asha = self.space.sweep.stops_early
                return estimate.asha if asha else estimate.complete
        return None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        sweep = self.space.sweep
        return {
            "name": self.space.name,
            "trials": self.num_trials,
            "controls": {"kind": sweep.controls, "number": self.num_controls},
            "points": self.num_points,
            "epochs": list(self.epochs),
            "metric": sweep.metric,
            "constraints": sweep.constraints,
            "sampler": sampler_of(self.space),
            "scheduler": sweep.scheduler,
            "rungs": list(self.rungs),
            "reduction_factor": sweep.reduction_factor,
            "students_per_teacher": sweep.students_per_teacher,
            **({} if self.hours is None else {"hours": self.hours, "why": list(self.hours_lines)}),
            "max_hours": sweep.max_hours,
            "max_gpu_hours": sweep.max_gpu_hours,
            "data": [asdict(row) for row in self.data],
            "weights": list(self.weights),
            **({"teachers": list(self.teachers)} if self.teachers else {}),
            "ranges": [asdict(row) for row in self.ranges],
            **({"try_first": [dict(s) for s in sweep.try_first]} if sweep.try_first else {}),
            "machine": asdict(self.machine),
            "resources": asdict(self.resources),
            "jobs": [
                {
                    "label": sample.job.label,
                    "job": sample.job.model_dump(mode="json"),
                    "cost": sample.cost.to_json(),
                }
                for sample in self.samples
            ],
            "estimates": [self._estimate_json(estimate) for estimate in self.estimates],
            "packed": None if self.packed is None else asdict(self.packed),
            "notes": list(self.notes),
        }

    def _estimate_json(self, estimate: Estimate) -> dict[str, Any]:
        gpus = self.resources.gpus_per_trial

        def efforts(pair: Sequence[Effort]) -> list[dict[str, Any]]:
            return [{**e.to_json(), "gpu_hours": e.slot_hours * gpus} for e in pair]

        return {
            "students_per_teacher": estimate.students_per_teacher,
            "asked": estimate.asked,
            "chosen": estimate.chosen,
            "cohorts": estimate.num_cohorts,
            "asha": efforts(estimate.asha),
            "complete": efforts(estimate.complete),
            "memory_bytes": list(estimate.memory_bytes),
        }


def preview(
    space: Space,
    *,
    measure: bool | None = None,
    slots: int | None = None,
    scratch: Path | None = None,
    costs: Sequence[StepCost] = (),
) -> Preview:
    """Say what a search space would train, and what that would take on this machine.

    Args:
        space: What to search.
        measure: Whether to measure a few steps of the smallest and the largest job; without it
            nothing is said of hours and memory. ``None`` takes times of the last hour if there are
            any.
        slots: Trials at a time; as many as fit on this machine if left out.
        scratch: Folder that checkpoints are written to, to time them; they are deleted again.
        costs: Steps of the smallest and the largest job, where they were measured before.

    Raises:
        ConfigError: The space says something that is not allowed.
        DataError: Its data are missing or laid out differently.
        ResourceError: A trial does not fit on this machine.
        KdsweepError: The steps could not be measured.
    """
    from kdsweep.config import distinct_data
    from kdsweep.data import count_frames
    from kdsweep.ledger.given_teachers import coming_notes
    from kdsweep.trial import check_jobs, weights_notes
    from kdsweep.trial.extremes import smallest_and_largest
    from kdsweep.trial.machine import this_machine

    try:
        to_check = space.jobs_to_check()
        check_jobs(to_check)
        weights = weights_notes(to_check)
        corners = list(space.corners())
        configs = distinct_data(corners)
        counts = [count_frames(config) for config in configs]
        feasibility = _feasibility(space, counts[0].num_classes)
        controls = space.controls() if space.sweep.controls == "shared" else []
        num_controls = sum(map(feasibility.allows, controls))
        corners = feasibility.to_train(corners)
        if space.sweep.controls == "paired":  # of the others each rides with its pair
            num_controls += num_with_all_labels(space, corners)
    except ConfigError as error:
        raise space.locate(error) from None
    machine = this_machine()
    node = Node("this machine", machine.cpus, len(machine.gpus))
    resources = plan([node], space.resources, space.sweep.max_concurrent)
    if slots is not None:
        resources = Plan(slots, resources.cpus_per_trial, resources.gpus_per_trial)
    num_points = space.num_points()
    num_trials = feasibility.num_points(space.sweep.trials)
    epochs = [job.train.epochs for job in corners]
    one_control = have_one_control(space)
    first_rung = grace_period(space)

    def work(job: Job) -> Workload:
        return Workload(
            num_trials=num_trials,
            epochs=job.train.epochs,
            head_start_epochs=0 if job.teacher is None else job.distill.head_start_epochs,
            riding=partial(space.sweep.num_riding, one_control=one_control),
            num_controls=num_controls,
            slots=resources.slots,
            grace_period=first_rung,
            reduction_factor=space.sweep.reduction_factor,
            spared=num_spared(space, num_trials),
        )

    longest = max(corners, key=lambda job: job.train.epochs)
    samples: tuple[Sample, ...] = ()
    if measure is not False:
        if not costs:
            num_frames = [(count.num_train, count.num_val) for count in counts]
            how = {"scratch": scratch, "num_frames": num_frames, "afresh": bool(measure)}
            costs = _measured(space, corners, machine, resources, **how)
        jobs = smallest_and_largest(corners)
        samples = tuple(Sample(job, work(job), cost) for job, cost in zip(jobs, costs, strict=True))
    estimates = _estimates(space, num_trials, samples, machine, resources)
    packed = _packed(space, corners, samples, estimates, machine, resources)
    return Preview(
        space=space,
        num_trials=num_trials,
        num_controls=num_trials * space.sweep.num_paired or num_controls,
        num_points=num_points,
        epochs=(min(epochs), max(epochs)),
        rungs=tuple(rungs(work(longest))) if space.sweep.stops_early else (),
        data=tuple(
            DataRow(
                count.name,
                config.image_size,
                count.num_train,
                count.num_val,
                count.notice,
                count.num_unlabelled,
            )
            for count, config in zip(counts, configs, strict=True)
        ),
        weights=tuple(weights),
        teachers=tuple(coming_notes(to_check)),
        ranges=tuple(range_row(range_, shared) for range_, shared in space.ranges()),
        machine=machine,
        resources=resources,
        samples=samples,
        estimates=tuple(estimates),
        packed=packed,
        notes=(
            *_notes_on_bounds(space, num_trials, feasibility),
            *_notes(space, samples, estimates, packed, machine, resources),
        ),
    )


def _feasibility(space: Space, num_classes: int) -> Feasibility:
    """Return what the space's bounds leave of it."""
    from kdsweep.trial import static_costs

    if not space.sweep.static_bounds:
        return Feasibility(space, {})
    known = space.architectures()
    costs = static_costs([architecture.job for architecture in known], num_classes)
    return Feasibility(space, {a.key: cost for a, cost in zip(known, costs, strict=True)})


def _notes_on_bounds(space: Space, num_trials: int, feasibility: Feasibility) -> Iterator[str]:
    """Return what bounds and the size of the space leave of it."""
    if feasibility.is_limiting:
        keys = {architecture.key for architecture in space.architectures()}
        left = {architecture.key for architecture in feasibility.architectures}
        yield (
            f"{len(left)} of {len(keys)} student architectures keep to sweep.constraints; the "
            f"others are never trained"
        )
    if num_trials < space.sweep.trials:
        yield (
            f"sweep.trials is {space.sweep.trials}, but the space has only {num_trials} different "
            f"jobs{' within its constraints' if feasibility.is_limiting else ''}: each is trained "
            f"once"
        )


def _measured(
    space: Space,
    corners: Sequence[Job],
    machine: Machine,
    resources: Plan,
    **how: Any,
) -> Sequence[StepCost]:
    """What steps of the smallest and the largest job cost."""
    from kdsweep.trial import check_job
    from kdsweep.trial.extremes import smallest_and_largest
    from kdsweep.trial.parallel_timing import measure_in_parallel

    jobs = smallest_and_largest(corners)
    try:
        for job in jobs:
            check_job(job)
    except ConfigError as error:
        raise space.locate(error) from None
    differ = jobs[0].model_dump() != jobs[1].model_dump()
    costs = measure_in_parallel(
        jobs if differ else jobs[:1],
        num_processes(machine, resources),
        device=resources.device,
        num_threads=resources.cpus_per_trial,
        **how,
    )
    return costs if differ else [*costs, *costs]


def _packed(
    space: Space,
    corners: Sequence[Job],
    samples: Sequence[Sample],
    estimates: Sequence[Estimate],
    machine: Machine,
    resources: Plan,
) -> PackedTrials | None:
    """The largest job on a GPU: as it was measured, or else as it is estimated."""
    if not resources.gpus_per_trial or not machine.gpu_bytes:
        return None
    from kdsweep.trial.extremes import smallest_and_largest
    from kdsweep.trial.gpu_memory import pack

    largest = samples[1].job if samples else smallest_and_largest(corners)[1]
    wanted = space.sweep.students_per_teacher
    students = 1 if wanted == "auto" or largest.distill.is_mutual else wanted
    packed = pack(
        largest,
        gpus_per_trial=resources.gpus_per_trial,
        gpu_bytes=machine.gpu_bytes,
        students=num_heads(space, students),
    )
    asked = next((estimate for estimate in estimates if estimate.asked), None)
    return packed if asked is None else packed.as_measured(asked.memory_bytes[1])


def _estimates(
    space: Space,
    num_trials: int,
    samples: Sequence[Sample],
    machine: Machine,
    resources: Plan,
) -> list[Estimate]:
    if not samples:
        return []
    smallest, largest = samples
    possible = most_students(space)
    chosen = min(
        choose_students_per_teacher(
            largest.cost,
            num_trials,
            resources.slots,
            cohort_memory(machine, resources),
            riding=partial(space.sweep.num_riding, one_control=have_one_control(space)),
        ),
        largest.most_students or possible,
        possible,
    )
    wanted = space.sweep.students_per_teacher
    asked = chosen if wanted == "auto" else min(wanted, possible)
    found = []
    for students in sorted({1, asked, chosen}):
        each = [min(students, sample.most_students or students) for sample in samples]

        def efforts(asha: bool, each: Sequence[int] = each) -> tuple[Effort, Effort]:
            first, second = (
                foresee(sample.work, sample.cost, students=number, asha=asha)
                for sample, number in zip(samples, each, strict=True)
            )
            return first, second

        heads = [num_heads(space, number) for number in each]
        found.append(
            Estimate(
                students_per_teacher=students,
                asked=students == asked,
                chosen=students == chosen,
                num_cohorts=math.ceil(num_trials / students),
                asha=efforts(True),
                complete=efforts(False),
                memory_bytes=(
                    smallest.cost.memory_bytes(heads[0]),
                    largest.cost.memory_bytes(heads[1]),
                ),
            )
        )
    return found


def _notes(
    space: Space,
    samples: Sequence[Sample],
    estimates: Sequence[Estimate],
    packed: PackedTrials | None,
    machine: Machine,
    resources: Plan,
) -> Iterator[str]:
    """Return what else should be known."""
    sweep = space.sweep
    if packed is not None and packed.cannot_fit:
        yield f"kdsweep run would refuse this: {packed.error()}"
    elif packed is not None and not packed.fits:
        yield packed.warning
    asked = next((estimate for estimate in estimates if estimate.asked), None)
    if asked is None:
        return
    if isinstance(sweep.students_per_teacher, int) and (
        asked.students_per_teacher < sweep.students_per_teacher
    ):
        yield (
            f"a cohort of this space can have {asked.students_per_teacher} different students, not "
            f"{sweep.students_per_teacher}"
        )
    if any(sample.most_students == 1 for sample in samples):
        yield "mutual learning: a teacher that learns from its student has one student only"
    room = cohort_memory(machine, resources)
    needed = asked.memory_bytes[1]
    if packed is None and room is not None and needed > USABLE_MEMORY * room:
        yield (
            f"the largest job needs about {needed / 1e9:.1f} GB, and {room / 1e9:.1f} GB are there "
            f"for each: try a smaller train.batch_size"
        )
    taught = [s.job for s in samples if s.job.learns_unlabelled and s.job.data.leaves_labels_out]
    if taught and ALL_LABELS not in sweep.further_controls:
        yield (
            "whether the frames without labels have anything to give is not known before: "
            f"sweep.further_controls: [{ALL_LABELS}] trains a control with the labels that are "
            "left out, and the report says the headroom beside the teacher's lead"
        )
    efforts = asked.asha if sweep.stops_early else asked.complete
    gpu_hours = efforts[1].slot_hours * resources.gpus_per_trial
    for name, budget, most in (
        ("max_hours", sweep.max_hours, efforts[1].hours),
        ("max_gpu_hours", sweep.max_gpu_hours, gpu_hours),
    ):
        if budget is not None and most > budget:
            yield f"sweep.{name} is {budget:g}: the sweep may pause before its end"
    if any(sample.job.train.compile_mode for sample in samples):
        yield "measured without train.compile, which takes minutes at first and saves time later"
