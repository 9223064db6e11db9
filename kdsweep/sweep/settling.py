"""When a confirmation has seeds enough: decided from the sweep's state alone, so as to resume."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from kdsweep.config import JobList, Space
from kdsweep.config.job_list import JOB, SEED
from kdsweep.ledger.anytime import settle
from kdsweep.ledger.confirmed import pairs_in_order
from kdsweep.ledger.events import SettledEvent
from kdsweep.ledger.state import Sweep


def newly_settled(space: Space | JobList, sweep: Sweep) -> Iterator[SettledEvent]:
    """Return the jobs whose seeds so far settle their gain; none unless they stop at that.

    Seeds that were drawn already are trained to the end. The caller writes each event before it
    takes the next one.
    """
    if not isinstance(space, JobList) or not space.until_settled:
        return
    for job in space.jobs:
        if job in sweep.settled or not sweep.num_undrawn:
            continue
        pairs = pairs_in_order(sweep, job)
        look = settle([_value(trial.best) - _value(control.best) for trial, control in pairs])
        if look is not None and look.is_settled:
            unneeded = _num_to_come(space, sweep, job)
            yield SettledEvent(
                job=job,
                verdict=look.verdict,
                seeds=look.num_seeds,
                low=look.low,
                high=look.high,
                trials=sweep.header.trials - unneeded,
                num_controls=sweep.header.num_controls - unneeded * space.sweep.num_paired,
            )


def _num_to_come(space: JobList, sweep: Sweep, job: str) -> int:
    """How many of the seeds that would be drawn next are a job's."""
    trials = [t for t in sweep.trials.values() if not t.is_control and not t.is_outdated]
    drawn = {(trial.params[JOB], trial.params[SEED]) for trial in trials}
    open_jobs = (point for point in space.grid() if point[JOB] not in sweep.settled)
    to_come = (point for point in open_jobs if (point[JOB], point[SEED]) not in drawn)
    return sum(point[JOB] == job for point in itertools.islice(to_come, sweep.num_undrawn))


def _value(value: float | None) -> float:
    return math.nan if value is None else value
