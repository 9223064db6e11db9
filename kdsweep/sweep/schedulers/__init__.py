"""Rules that stop weak trials early: one file each, registered in ``kdsweep.config.sweep``."""

from __future__ import annotations

from collections.abc import Sequence

from kdsweep.config.metrics import Metric
from kdsweep.config.sweep import SCHEDULERS
from kdsweep.ledger.rungs import Rungs
from kdsweep.registry import named
from kdsweep.sweep.schedulers.base import Scheduler


def make_scheduler(name: str, rungs: Rungs, objectives: Sequence[Metric] = ()) -> Scheduler:
    """Return a sweep's scheduler.

    Args:
        name: Its name in a space.
        rungs: What trials have reached.
        objectives: What is optimised, the score first.

    Raises:
        ConfigError: There is none of that name.
    """
    member = SCHEDULERS.get(name, ("sweep", "scheduler"))
    make: type[Scheduler] = named(member) if isinstance(member, str) else member
    return make(rungs, objectives)


__all__ = ["Scheduler", "make_scheduler"]
