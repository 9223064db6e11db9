"""kdsweep: small, accurate road-scene segmentation networks by online knowledge distillation.

``kdsweep.run(space)`` runs a sweep, ``kdsweep.plan(space)`` says what it would take,
``kdsweep.train(job)`` runs one job, ``kdsweep.load(experiment)`` gives an experiment's tables,
``kdsweep.confirm(experiment)`` trains its best jobs again with fresh seeds,
``kdsweep.evaluate(experiment)`` scores its best student with intervals,
``kdsweep.postprocess(experiment)`` says which post-processing pays, and
``kdsweep.export(experiment)`` writes a file that ``kdsweep.deploy.load`` predicts with.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsweep.api import confirm, evaluate, export, load, plan, postprocess, resume, run, train

# Of tqdm in a notebook, which a library imports; kdsweep draws its own progress there.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
_VERBS = ("confirm", "evaluate", "export", "load", "plan", "postprocess", "resume", "run", "train")
__all__ = [
    "__version__",
    "confirm",
    "evaluate",
    "export",
    "load",
    "plan",
    "postprocess",
    "resume",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    """Verbs and ``deploy`` are loaded when first used: importing kdsweep loads nothing else."""
    if name in _VERBS:
        from kdsweep import api

        return getattr(api, name)
    if name == "deploy":
        return import_module("kdsweep.deploy")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
