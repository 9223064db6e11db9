"""ASHA that lets the best trial of each student go on.

Networks learn at different paces, and the better one is often the slower one. ASHA compares all
trials of a rung with one another; so at an early rung it stops slow students before any of them has
shown how far it gets, and the sampler never learns it. Here a trial that ASHA would stop goes on if
it is the best of its own student at that rung so far, the first one included. So each student is
trained to the end at least once, and its later trials have to beat its own best, or be among the
best of all.

Measured on made-up and real learning curves (``benchmarks/search.py``, docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from kdsweep.sweep.schedulers.asha import Asha


class AshaPerStudent(Asha):
    """The rule of :class:`~kdsweep.sweep.schedulers.asha.Asha` but for the best of each student."""

    @override
    def should_stop(
        self, trial: int, epoch: int, value: float, further: Sequence[float] = ()
    ) -> bool:
        if not super().should_stop(trial, epoch, value, further):
            return False
        if self.student_of is None:
            return True
        own = self.student_of(trial)
        return any(
            point[0] >= value and rival != trial and self.student_of(rival) == own
            for rival, point in self._rungs.points[epoch].items()
        )
