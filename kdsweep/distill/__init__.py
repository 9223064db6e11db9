"""Distillation losses and the objective that sums them.

A new loss is one file here, one class in ``kdsweep/spec/distill.py``, and one line in the
contract tests.
"""

from kdsweep.distill.attention import Attention
from kdsweep.distill.base import DISTILLATION_LOSSES, DistillationLoss, TapChannels
from kdsweep.distill.channel_wise import ChannelWise
from kdsweep.distill.correlation import Correlation
from kdsweep.distill.cross_image import CrossImage
from kdsweep.distill.dist import Dist
from kdsweep.distill.dkd import DKD
from kdsweep.distill.hint import Hint
from kdsweep.distill.ifvd import IFVD
from kdsweep.distill.masked import Masked
from kdsweep.distill.mutual import Mutual
from kdsweep.distill.objective import DistillationObjective, build_objective
from kdsweep.distill.pairwise import Pairwise
from kdsweep.distill.pixel_kl import PixelKL
from kdsweep.distill.ramp import Ramp
from kdsweep.distill.review import Review

__all__ = [
    "DISTILLATION_LOSSES",
    "DKD",
    "IFVD",
    "Attention",
    "ChannelWise",
    "Correlation",
    "CrossImage",
    "Dist",
    "DistillationLoss",
    "DistillationObjective",
    "Hint",
    "Masked",
    "Mutual",
    "Pairwise",
    "PixelKL",
    "Ramp",
    "Review",
    "TapChannels",
    "build_objective",
]
