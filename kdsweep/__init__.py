"""kdsweep: small, accurate road-scene segmentation networks by online knowledge distillation.

``kdsweep.run(space)`` runs a sweep, ``kdsweep.train(job)`` one job, ``kdsweep.load(experiment)``
gives an experiment's tables.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsweep.api import load, resume, run, train

__version__ = "0.1.0"
__all__ = ["__version__", "load", "resume", "run", "train"]


def __getattr__(name: str) -> Any:
    """Verbs are loaded when they are first used: importing kdsweep loads nothing else."""
    if name in ("load", "resume", "run", "train"):
        from kdsweep import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
