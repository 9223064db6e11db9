"""Which sampler ``sweep.sampler: auto`` stands for."""

from __future__ import annotations

from typing import Protocol

from kdsweep.config.sweep import AUTO, SweepConfig

# From here on TPE draws: what the Gaussian process takes for a draw grows with all trials.
_NUM_GP = 200


class _Sweep(Protocol):
    @property
    def sweep(self) -> SweepConfig: ...

    @property
    def is_conditional(self) -> bool: ...

    def num_points(self) -> int | None: ...


def sampler_of(space: _Sweep, number: int = 0) -> str:
    """Return the sampler that draws a trial.

    Where the space says ``auto``: the Gaussian process for the first 200 trials of a single metric
    without constraints, if all trials have the same ranges, as it learns no others, and infinitely
    many differ: of finitely many it would ask again for the best that it knows. Else TPE.

    Args:
        space: What is searched.
        number: Of the trial.
    """
    sweep = space.sweep
    if sweep.sampler != AUTO:
        return sweep.sampler
    if number >= _NUM_GP or len(sweep.objectives) > 1 or sweep.bounds or space.is_conditional:
        return "tpe"
    return "tpe" if space.num_points() is not None else "gp"
