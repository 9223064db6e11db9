"""The lines that open a sweep, and a new part of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdsweep.config import JobList, Space
from kdsweep.config.halving import grace_period
from kdsweep.config.metrics import BEST, LABELLED
from kdsweep.config.sampling import sampler_of
from kdsweep.ledger.events import PartEvent, SweepEvent
from kdsweep.ledger.state import Sweep
from kdsweep.sweep.equal_time import EqualTime
from kdsweep.sweep.feasibility import Costs
from kdsweep.sweep.sweep_data import SweepData, shorts


def first_line(
    space: Space | JobList,
    data: Mapping[str, Any],
    *,
    num_trials: int,
    num_shared: int,
    students_per_teacher: int,
    static_costs: Costs,
    equal_time: EqualTime,
    hours: Mapping[str, float],
) -> SweepEvent:
    """Return the first line of a sweep's ledger.

    Args:
        space: What is trained.
        data: What is known of the data, for reports.
        num_trials: Search trials there will be.
        num_shared: Controls that stand for all trials with their student's architecture.
        students_per_teacher: As the line has it.
        static_costs: Likewise.
        equal_time: Likewise.
        hours: Likewise.
    """
    sweep = space.sweep
    train = space.jobs_to_check()[0].train
    return SweepEvent(
        name=space.name,
        metric=sweep.score,
        metrics=[objective.key for objective in sweep.objectives],
        constraints=sweep.bounds,
        static_costs={key: dict(costs) for key, costs in static_costs.items()},
        sampler=sampler_of(space),
        scheduler=sweep.scheduler,
        grace_period=grace_period(space),
        reduction_factor=sweep.reduction_factor,
        epochs=max(job.train.epochs for job in space.corners()),
        seed=sweep.seed,
        trials=num_trials,
        controls=sweep.controls,
        num_controls=num_trials * sweep.num_paired or num_shared,
        further_controls=list(sweep.further_controls),
        equal_time={name: dict(found) for name, found in equal_time.items()},
        students_per_teacher=students_per_teacher,
        data=dict(data),
        miou_over=LABELLED,
        protocol=train.validate_at,
        select="" if train.select == BEST else train.select,
        until_settled=space.until_settled,
        hours=dict(hours),
    )


def new_part(
    space: Space | JobList, sweep: Sweep, data: SweepData, differences: Sequence[str]
) -> PartEvent:
    """Return the line that begins a new part of a sweep.

    Args:
        space: What is trained.
        sweep: The state.
        data: The data from now on.
        differences: In which ways they differ from those before.
    """
    replaced = [t for t in sweep.trials.values() if not t.state.is_final]
    num_search = sum(not trial.is_control for trial in replaced)
    shared = sum(t.is_control and not t.is_outdated for t in sweep.trials.values())
    is_paired = sweep.header.controls == "paired"
    num_paired = num_search * space.sweep.num_paired
    return PartEvent(
        trials=sweep.header.trials + num_search,
        num_controls=sweep.header.num_controls + (num_paired if is_paired else shared),
        num_trials=sum(not trial.is_control for trial in sweep.trials.values()),
        data=data.facts,
        before=shorts(sweep.data),
        now=data.shorts,
        differences=list(differences),
    )
