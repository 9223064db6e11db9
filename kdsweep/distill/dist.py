"""Correlation of class probabilities, between classes and between pixels.

Shape legend: B batch, K classes, H W logits size, h w pooled size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import DistConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
)
from kdsweep.distill.masking import masked_mean, pool_valid

PIXELS = (0, 2, 3)  # axes of a (B, K, h, w) map


class Dist(DistillationLoss[DistConfig]):
    """``T² · (β · mean_n (1 − ρ(s_n·, t_n·)) + γ · mean_k (1 − ρ(s_·k, t_·k)))``, ρ Pearson.

    ``s`` and ``t`` are the class probabilities ``softmax_k(z / T)`` of all labelled pixels (cells)
    of the batch: matrices of (B·h·w, K). The first part compares each pixel's row of classes
    (inter-class relation), the second each class's column of pixels (intra-class relation).

    Averaged over:
        Labelled cells, and classes. A row or column without variance in one of the networks, where
        ρ is not defined (a class with probability 0 everywhere), takes no part. With two classes ρ
        of a row is ±1 and gives no gradient; only the second part teaches.

    Defaults:
        weight 1, β = γ = 1, temperature 1: the paper's and the authors' code for Cityscapes (and
        ImageNet; for CIFAR-100 β = γ = 2, T = 4). stride 8, at which they were published: a column
        of whole images then is one of distinct cells rather than of near-copies of them.

    Taps:
        Published and here on the logits; published at stride 8, before they are upsampled.

    Reference:
        Huang et al., Knowledge Distillation from A Stronger Teacher, arXiv 2205.10536. The paper's
        columns are over the batch's images; for segmentation the authors' code takes all pixels of
        the batch as rows, and that is followed (not B per pixel). The factor T² is in the
        classification code, the segmentation code has no temperature. The code leaves void in and
        bounds the lengths from below by 1e-8, so that constant columns count as 1.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        student_BKhw, valid_Bhw = pool_valid(student.logits_BKHW, labels_BHW, self.keys.stride)
        teacher_BKhw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.keys.stride)
        student_BKhw = F.softmax(student_BKhw / self.keys.temperature, dim=1)
        teacher_BKhw = F.softmax(teacher_BKhw / self.keys.temperature, dim=1)
        valid_B1hw = valid_Bhw.unsqueeze(1)
        inter = _mean_distance(
            student_BKhw - student_BKhw.mean(1, keepdim=True),
            teacher_BKhw - teacher_BKhw.mean(1, keepdim=True),
            valid_B1hw,
            axes=(1,),
        )
        intra = _mean_distance(
            _centred_over_pixels(student_BKhw, valid_B1hw),
            _centred_over_pixels(teacher_BKhw, valid_B1hw),
            valid_B1hw.any(),
            axes=PIXELS,
        )
        return self.keys.temperature**2 * (self.keys.beta * inter + self.keys.gamma * intra)


def _centred_over_pixels(values_BKhw: Tensor, valid_B1hw: Tensor) -> Tensor:
    """Values less the mean of their class over labelled pixels; zero elsewhere."""
    kept_BKhw = torch.where(valid_B1hw, values_BKhw, 0.0)
    mean_1K11 = kept_BKhw.sum(PIXELS, keepdim=True) / valid_B1hw.sum().clamp(min=1)
    return torch.where(valid_B1hw, values_BKhw - mean_1K11, 0.0)


def _mean_distance(
    student_BKhw: Tensor, teacher_BKhw: Tensor, counted: Tensor, axes: tuple[int, ...]
) -> Tensor:
    """Mean of 1 − ρ of centred values along ``axes``, where counted and defined."""
    squares_s = student_BKhw.square().sum(axes, keepdim=True)
    squares_t = teacher_BKhw.square().sum(axes, keepdim=True)
    least = torch.finfo(torch.float32).tiny
    defined = (squares_s > least) & (squares_t > least)
    # Replaced before the root, whose gradient at zero would be infinite.
    inverse_s = torch.where(defined, squares_s, 1.0).rsqrt()
    inverse_t = torch.where(defined, squares_t, 1.0).rsqrt()
    product = (student_BKhw * inverse_s * (teacher_BKhw * inverse_t)).sum(axes, keepdim=True)
    return masked_mean(1.0 - product, defined & counted)
