"""Distillation losses and the objective that sums them.

A new loss is one file here, one class with its keys in ``kdsweep/config/losses.py``, and one line
in the contract tests. ``docs/extending.md`` says how another package brings one.
"""

from kdsweep.config.losses import LOSSES
from kdsweep.distill.base import DistillationLoss, TapChannels, build_loss
from kdsweep.distill.objective import DistillationObjective, build_objective
from kdsweep.distill.ramp import Ramp

__all__ = [
    "LOSSES",
    "DistillationLoss",
    "DistillationObjective",
    "Ramp",
    "TapChannels",
    "build_loss",
    "build_objective",
]
