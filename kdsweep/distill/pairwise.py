"""Squared distance of affinities between the nodes of an image.

Shape legend: B batch, C channels, h w feature map size, N M nodes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import PairwiseConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    tapped,
)
from kdsweep.distill.masking import pool_nodes, valid_fraction
from kdsweep.distill.projection import match_size


class Pairwise(DistillationLoss[PairwiseConfig]):
    """``mean_nm (A(s)_nm − A(t)_nm)²`` with ``A(f)_nm = cos(f_n, f_m)`` over pairs of nodes.

    Features of shape (B, C, h, w) are averaged over square cells to nodes (B, C, N); the
    affinities of one network then have the shape (B, N, N), whatever its number of channels, so
    nothing is projected. Features of another size are resized to the teacher's first.

    Averaged over:
        All ordered pairs of nodes of one image, over the whole batch. A position counts in its
        node, and a pair in the mean, by the share of labelled pixels (of both nodes); nodes
        without any take no part.

    Defaults:
        Weight 10, the λ₁ of the paper's pixel-wise and pair-wise terms. The authors' script runs
        with 0.5 for this term. At most 32 nodes along each side, 32² · 32² affinities an image.

    Taps:
        Published on PSPNet's features after the pyramid (stride 8); ours is ``encoder.4``, the
        deepest of an encoder, of stride 32 in most. ``encoder.3`` gives four times the nodes.

    Reference:
        Liu et al., Structured Knowledge Distillation for Dense Prediction, arXiv 1903.04197,
        pair-wise distillation. The paper averages features over cells; the authors' code takes
        their maximum, over cells of half the map (2×2 nodes in all), and lets no gradient through
        the features' lengths. The paper is followed, with cells of one position for as long as
        memory allows, and cosines are differentiated as they are. Both average over all pairs.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_BChw = tapped(teacher, tap)
            student_BChw = match_size(tapped(student, tap), teacher_BChw.shape[-2:])
            weight_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:])
            student_BNM, weight_BN = self._affinities(student_BChw, weight_Bhw)
            teacher_BNM, _ = self._affinities(teacher_BChw, weight_Bhw)
            weight_BN = weight_BN.to(student_BNM.dtype)
            # Σ_nm w_n w_m d²_nm as a matrix product: the weights of all pairs are never stored.
            squared_BNM = (student_BNM - teacher_BNM).square()
            distance_BN = (squared_BNM @ weight_BN.unsqueeze(2)).squeeze(2) * weight_BN
            num_pairs = weight_BN.sum(1).square().sum()
            total = total + distance_BN.sum() / torch.where(num_pairs > 0, num_pairs, 1.0)
        return total

    def _affinities(self, features_BChw: Tensor, weight_Bhw: Tensor) -> tuple[Tensor, Tensor]:
        nodes_BChw, weight_Bhw = pool_nodes(features_BChw, weight_Bhw, self.keys.max_side)
        unit_BCN = F.normalize(nodes_BChw.flatten(2), dim=1)
        return unit_BCN.transpose(1, 2) @ unit_BCN, weight_Bhw.flatten(1)
