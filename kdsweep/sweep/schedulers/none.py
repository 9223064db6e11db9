"""No scheduler: every trial runs to its end."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from kdsweep.sweep.schedulers.base import Scheduler


class RunToTheEnd(Scheduler):
    """Stops no trial."""

    @override
    def should_stop(
        self, trial: int, epoch: int, value: float, further: Sequence[float] = ()
    ) -> bool:
        return False
