"""Rules that stop weak trials early: one file each, registered in ``kdsweep.config.sweep``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdsweep.config.metrics import Metric
from kdsweep.config.sweep import SCHEDULERS
from kdsweep.ledger.rungs import Rungs
from kdsweep.registry import named
from kdsweep.sweep.schedulers.base import Scheduler


def make_scheduler(
    name: str,
    rungs: Rungs,
    objectives: Sequence[Metric] = (),
    student_of: Callable[[int], str] | None = None,
) -> Scheduler:
    """Return a sweep's scheduler.

    Args:
        name: Its name in a space.
        rungs: What trials have reached.
        objectives: What is optimised, the score first.
        student_of: Gives the name of a trial's student; see
            :class:`~kdsweep.sweep.schedulers.base.Scheduler`.

    Raises:
        ConfigError: There is none of that name.
    """
    member = SCHEDULERS.get(name, ("sweep", "scheduler"))
    make: type[Scheduler] = named(member) if isinstance(member, str) else member
    made = make(rungs, objectives)
    made.student_of = student_of
    return made


__all__ = ["Scheduler", "make_scheduler"]
