"""Sweeps: many trials side by side, in the processes that Ray starts (see ``ray/``).

Workers import this package too, so what only the driver needs is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsweep.sweep.confirm import jobs_to_confirm as jobs_to_confirm
    from kdsweep.sweep.outcome import Outcome as Outcome
    from kdsweep.sweep.progress import make_progress as make_progress
    from kdsweep.sweep.run import resume_sweep as resume_sweep
    from kdsweep.sweep.run import run_sweep as run_sweep

_HOMES = {
    "Outcome": "kdsweep.sweep.outcome",
    "jobs_to_confirm": "kdsweep.sweep.confirm",
    "make_progress": "kdsweep.sweep.progress",
    "resume_sweep": "kdsweep.sweep.run",
    "run_sweep": "kdsweep.sweep.run",
}

__all__ = ["Outcome", "jobs_to_confirm", "make_progress", "resume_sweep", "run_sweep"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
