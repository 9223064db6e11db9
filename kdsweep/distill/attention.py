"""Squared distance of normalised spatial attention maps.

Shape legend: B batch, C channels, N positions, h w feature map size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import AttentionConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    tapped,
)
from kdsweep.distill.masking import masked_mean, valid_fraction
from kdsweep.distill.projection import match_size


class Attention(DistillationLoss[AttentionConfig]):
    """``mean_i (q(s)_i − q(t)_i)²`` with ``q(f) = a/‖a‖₂``, ``a_i = mean_c f_ci²``; sum over taps.

    Features are (B, C, h, w), attention maps ``a`` (B, N) with N = h·w positions. Maps need no
    projection, whatever the widths; the student's is resized where strides differ.

    Averaged over:
        Positions and images with a labelled pixel (the authors' code has no others): as maps have
        length one, the value falls with the number of positions N.

    Defaults:
        weight 1000: β of the authors' code, with that average. There is no temperature. On CamVid
        from random weights this is 94 to 99 % of the student's gradient (all of it in the encoder),
        and did no worse there than 20 with 28 to 75 % (docs/results.md).

    Taps:
        Published on the ends of the last two residual groups for ImageNet (all groups for
        CIFAR-10); here likewise ``encoder.3`` and ``encoder.4``.

    Reference:
        Zagoruyko & Komodakis, Paying More Attention to Attention, arXiv 1612.03928. The paper
        writes β/2 times the unsquared length of the difference; the authors' code takes β times the
        mean of squares, and that is followed. Void positions are scaled down by their share of
        labelled pixels before the normalisation; neither paper nor code knows void.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_B1hw = _energy(teacher, tap)
            student_B1hw = match_size(_energy(student, tap), teacher_B1hw.shape[-2:])
            weight_BN = valid_fraction(
                labels_BHW, teacher_B1hw.shape[-2:], teacher_B1hw.dtype
            ).flatten(1)
            student_BN = _masked_unit(student_B1hw.flatten(1), weight_BN)
            teacher_BN = _masked_unit(teacher_B1hw.flatten(1), weight_BN)
            distance_B = (student_BN - teacher_BN).square().mean(1)
            total = total + masked_mean(distance_B, weight_BN.any(1))
        return total


def _energy(activations: Activations, tap: str) -> Tensor:
    return tapped(activations, tap).square().mean(dim=1, keepdim=True)


def _masked_unit(energy_BN: Tensor, weight_BN: Tensor) -> Tensor:
    """Energy maps of length one over the labelled positions; zero for an all-void image."""
    return F.normalize(torch.where(weight_BN > 0, energy_BN * weight_BN, 0.0), dim=1)
