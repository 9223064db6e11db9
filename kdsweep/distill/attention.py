"""Squared distance of normalised spatial attention maps.

Shape legend: B batch, C channels, N positions, h w feature map size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdsweep.distill.base import (
    DISTILLATION_LOSSES,
    Activations,
    DistillationLoss,
    TapChannels,
    tapped,
)
from kdsweep.distill.masking import valid_fraction
from kdsweep.distill.projection import match_size


@DISTILLATION_LOSSES.register("attention")
class Attention(DistillationLoss):
    """``mean_i (q(s)_i − q(t)_i)²`` with ``q(f) = a/‖a‖₂``, ``a_i = mean_c f_ci²``; sum over taps.

    Reference:
        Zagoruyko & Komodakis, Paying More Attention to Attention, arXiv 1612.03928. The paper
        writes an unsquared L2 norm of the difference; the authors' code takes the mean of squares
        with weight β/2 = 500 a layer, and that is followed here (default weight 1000 = β). Void
        positions are scaled down by their share of valid pixels before the normalisation.

    Args:
        channels: Not used: attention maps have one channel.
        taps: Where the features are taken.
    """

    def __init__(self, channels: TapChannels, *, taps: Sequence[str]) -> None:
        super().__init__()
        self.taps = tuple(taps)

    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.forward`."""
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_B1hw = _energy(teacher, tap)
            student_B1hw = match_size(_energy(student, tap), teacher_B1hw.shape[-2:])
            weight_BN = valid_fraction(labels_BHW, teacher_B1hw.shape[-2:]).flatten(1)
            student_BN = _masked_unit(student_B1hw.flatten(1), weight_BN)
            teacher_BN = _masked_unit(teacher_B1hw.flatten(1), weight_BN)
            total = total + (student_BN - teacher_BN).square().mean()
        return total


def _energy(activations: Activations, tap: str) -> Tensor:
    return tapped(activations, tap).square().mean(dim=1, keepdim=True)


def _masked_unit(energy_BN: Tensor, weight_BN: Tensor) -> Tensor:
    """Energy maps of length one over the labelled positions; zero for an all-void image."""
    return F.normalize(torch.where(weight_BN > 0, energy_BN * weight_BN, 0.0), dim=1)
