"""The first rung of a sweep: the epoch after which weak trials may first be stopped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from kdsweep.config.job import Job
from kdsweep.config.sweep import AUTO, PER_STUDENT, SweepConfig

# With a reduction factor of 3 two rungs then lie before the end (docs/decisions.md, 44).
_SHARE = 9
# In shorter sweeps what it takes to train each student to the end is missed elsewhere: simulated,
# five students lost by it in 25 trials, and gained in 75 (docs/performance.md).
_TRIALS_PER_STUDENT = 8


class _Sweep(Protocol):
    @property
    def sweep(self) -> SweepConfig: ...

    def corners(self) -> Iterable[Job]: ...

    def num_students(self) -> int | None: ...


def num_spared(space: _Sweep, trials: int) -> int:
    """Return of how many students the best trial goes on at each rung; 0 for plain ASHA.

    Args:
        space: What is searched.
        trials: How many trials it gets.
    """
    if space.sweep.scheduler != PER_STUDENT:
        return 0
    students = space.num_students()
    return 0 if students is None or trials < _TRIALS_PER_STUDENT * students else students


def grace_period(space: _Sweep, epochs: int | None = None) -> int:
    """Return the first rung of a space or job list, in epochs.

    Where the space says ``auto``: a ninth of the epochs of its longest job, and no earlier than
    the end of its learning rates' and losses' warm-up, before which a score is mostly chance.

    Args:
        space: What is searched.
        epochs: Of its longest job, if they are to be others than it says.
    """
    if space.sweep.grace_period != AUTO:
        return space.sweep.grace_period
    if not space.sweep.stops_early:
        return 1
    jobs = list(space.corners())
    if epochs is None:
        epochs = max(job.train.epochs for job in jobs)
    return max(1, round(epochs / _SHARE), *(min(warmup_epochs(job), epochs) for job in jobs))


def warmup_epochs(job: Job) -> int:
    """Return after how many epochs learning rates and distillation weights have warmed up."""
    lengths = [job.train.warmup_epochs, job.train.student.warmup_epochs or 0.0]
    for term in job.distill.terms().values():
        ramp, warmup, _ = job.distill.course(term)
        if ramp != "constant":
            lengths.append(warmup)
    return math.ceil(max(lengths))
