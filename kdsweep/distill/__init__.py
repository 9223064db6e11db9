"""Distillation losses and the objective that sums them.

A new loss is one file here, one class in ``kdsweep/spec/distill.py``, and one line in the
contract tests.
"""

from kdsweep.distill.attention import Attention
from kdsweep.distill.base import DISTILLATION_LOSSES, DistillationLoss, TapChannels
from kdsweep.distill.channel_wise import ChannelWise
from kdsweep.distill.hint import Hint
from kdsweep.distill.objective import DistillationObjective, build_objective
from kdsweep.distill.pixel_kl import PixelKL

__all__ = [
    "DISTILLATION_LOSSES",
    "Attention",
    "ChannelWise",
    "DistillationLoss",
    "DistillationObjective",
    "Hint",
    "PixelKL",
    "TapChannels",
    "build_objective",
]
