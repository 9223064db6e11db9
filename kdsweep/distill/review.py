"""Features of several stages, fused from deep to shallow, against the teacher's.

Shape legend: B batch, C student channels, D teacher channels, F channels while fusing, h w
feature map size, P its positions, N cells of positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from kdsweep.config.losses import ReviewConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    TapChannels,
    tapped,
)
from kdsweep.distill.masking import masked_mean, valid_fraction
from kdsweep.distill.projection import match_size

LEVELS = (4, 2, 1)  # cells along the shorter side of the pooled levels


class Review(DistillationLoss[ReviewConfig]):
    """``Σ_k HCL(o_k, t_k)``, o_k the student's stages k and deeper, fused (ABF); sum over taps.

    From the deepest tap to the shallowest, ``u_k = a₁ · c(s_k) + a₂ · up(u_k+1)``, where c is a
    1×1 convolution to F channels, up repeats positions to the size of s_k, and the two attention
    maps a₁ and a₂ of shape (B, 1, h, w) are the sigmoid of a 1×1 convolution of both, stacked; the
    deepest has ``u_k = c(s_k)``. ``o_k`` is a 3×3 convolution of u_k to the teacher's D channels,
    resized to the teacher's map where the sizes differ. HCL is
    ``Σ_l 2^−l · mean (pool_l(o_k) − pool_l(t_k))² / Σ_l 2^−l`` over the full map (l = 0) and the
    maps averaged to 4, 2 and 1 cells a side (l = 1, 2, 3; those that are not coarser than the map
    are skipped). The convolutions belong to the student's optimiser.

    Averaged over:
        Channels, and positions or cells of the whole batch by their share of labelled pixels.
        Positions without any are blanked before the convolutions see them, and have no share in a
        cell.

    Defaults:
        Weight 1, the authors' for ResNet34 → ResNet18 on ImageNet (8 for ResNet50 → MobileNet).
        64 channels while fusing, for speed; the code has 512 for ResNet18.

    Taps:
        Published on the outputs of all four stages of a ResNet and, for classification, the
        pooled features; ours are ``encoder.1`` to ``encoder.4``, the same four stages. They are
        written from shallow to deep.

    Reference:
        Chen et al., Distilling Knowledge via Knowledge Review, arXiv 2104.09044: attention-based
        fusion and hierarchical context loss. The authors' code puts batch normalisation after the
        1×1 and 3×3 convolutions; it is left out here, since its statistics would mix void into all
        positions, and the convolutions have biases in its place. The code pools maps to 4×4, 2×2
        and 1×1 cells, taking them to be square; here so many cells stand along the shorter side
        and as many along the longer as make them about square.
    """

    def __init__(self, channels: TapChannels, keys: ReviewConfig) -> None:
        super().__init__(channels, keys)
        self.fusions = nn.ModuleList(
            _Fusion(channels.student[tap], keys.width, channels.teacher[tap], tap != self.taps[-1])
            for tap in self.taps
        )
        # As the features mostly come; else the weights would be copied over in every step.
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        deeper_BFhw: Tensor | None = None
        for tap, fusion in zip(reversed(self.taps), reversed(self.fusions), strict=True):
            student_BChw, teacher_BDhw = tapped(student, tap), tapped(teacher, tap)
            labelled_Bhw = valid_fraction(labels_BHW, student_BChw.shape[-2:]) > 0
            student_BChw = torch.where(labelled_Bhw.unsqueeze(1), student_BChw, 0.0)
            output_BDhw, deeper_BFhw = fusion(student_BChw, deeper_BFhw)
            output_BDhw = match_size(output_BDhw, teacher_BDhw.shape[-2:])
            weight_Bhw = valid_fraction(labels_BHW, teacher_BDhw.shape[-2:])
            total = total + _context_distance(output_BDhw - teacher_BDhw, weight_Bhw)
        return total


class _Fusion(nn.Module):
    """Attention-based fusion of one stage with what the deeper ones came to."""

    def __init__(self, narrow: int, width: int, wide: int, has_deeper: bool) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(narrow, width, 1)
        self.attend = nn.Conv2d(2 * width, 2, 1) if has_deeper else None
        self.expand = nn.Conv2d(width, wide, 3, padding=1)

    def forward(self, features_BChw: Tensor, deeper_BFhw: Tensor | None) -> tuple[Tensor, Tensor]:
        fused_BFhw = self.reduce(features_BChw)
        if self.attend is not None:
            assert deeper_BFhw is not None
            deeper_BFhw = F.interpolate(deeper_BFhw, size=fused_BFhw.shape[-2:], mode="nearest")
            both_B2Fhw = torch.cat([fused_BFhw, deeper_BFhw], dim=1)
            own_B1hw, other_B1hw = self.attend(both_B2Fhw).sigmoid().split(1, dim=1)
            fused_BFhw = own_B1hw * fused_BFhw + other_B1hw * deeper_BFhw
        return self.expand(fused_BFhw), fused_BFhw


def _context_distance(gap_BDhw: Tensor, weight_Bhw: Tensor) -> Tensor:
    """Hierarchical context loss of the difference of two maps (pooling them first is the same)."""
    size = gap_BDhw.shape[-2:]
    gap_BPD = gap_BDhw.flatten(2).transpose(1, 2)
    weight_B1P = weight_Bhw.flatten(1).unsqueeze(1).to(gap_BPD.dtype)
    distance = masked_mean(gap_BPD.square().mean(2), weight_B1P.squeeze(1))
    share = total_share = 1.0
    for level in (level for level in LEVELS if level < min(size)):
        part_BNP = _cells(size, level, gap_BPD) * weight_B1P
        share_BN = part_BNP.sum(2)
        mean_BND = part_BNP @ gap_BPD / torch.where(share_BN > 0, share_BN, 1.0).unsqueeze(2)
        share /= 2
        total_share += share
        distance = distance + share * masked_mean(mean_BND.square().mean(2), share_BN)
    return distance / total_share


def _cells(size: Sequence[int], level: int, like: Tensor) -> Tensor:
    """Average pooling to ``level`` cells along the shorter side, as a matrix (cells, positions).

    A product with it takes in the weights of positions for nothing, and its gradient is faster
    than that of ``adaptive_avg_pool2d``, whose cells these are.
    """
    rows, columns = (
        F.adaptive_avg_pool1d(
            torch.eye(side, dtype=like.dtype, device=like.device),
            round(level * side / min(size)),
        ).T.contiguous()
        for side in size
    )
    return torch.kron(rows, columns)
