"""Per-pixel KL divergence of softened class probabilities.

Shape legend: B batch, K classes, H W logits size, h w pooled size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import PixelKLConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
)
from kdsweep.distill.masking import masked_mean, pool_valid

EPSILON = 1e-8  # added to the variance of a pixel's logits, which may all be equal


class PixelKL(DistillationLoss[PixelKLConfig]):
    """``T² · Σ_k p_t log(p_t / p_s)`` at every pixel, with ``p = softmax_k(z / T)``.

    The logits ``z`` are (B, K, H, W), pooled over labelled pixels to (B, K, h, w) with ``stride``.
    With ``standardize``, ``z`` is first replaced by ``(z − mean_k z) / std_k z`` in both networks:
    the student then learns the order and relative distances of the teacher's logits, not their
    size. With two classes this leaves no more than which of the two is larger.

    Averaged over:
        Labelled pixels (cells) of the batch, after the sum over classes. Neither
        ``reduction="mean"`` of ``kl_div`` (weaker by the number of classes) nor ``"batchmean"`` on
        (B, K, H, W) (stronger by H·W) is that.

    Defaults:
        weight 1, temperature 1: CIRKD's and DIST's segmentation code (``lambda_kd``,
        ``kd_temperature``). Published with other averages: 10 (SKD). With ``standardize`` the
        authors take temperature 2 and weight 9 (CIFAR-100). stride 1: a mean over pixels has the
        same size at any stride, and pooling would blur thin objects.

    Taps:
        Published and here on the logits; published at stride 8, before they are upsampled.

    Reference:
        Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, applied to
        every pixel as in Liu et al., Structured Knowledge Distillation, arXiv 1903.04197. T² keeps
        the gradient's size when T changes. SKD's code takes the cross-entropy with the teacher's
        probabilities (the same gradient) summed over the batch's images, so that it grows with the
        batch; others divide by all elements. The papers' mean over pixels is followed. None of them
        masks void.
        ``standardize``: Sun et al., Logit Standardization, arXiv 2403.01427. The paper's standard
        deviation divides by K, the authors' code (``torch.std``) by K − 1; the paper is followed.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        student_BKhw, valid_Bhw = pool_valid(student.logits_BKHW, labels_BHW, self.keys.stride)
        teacher_BKhw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.keys.stride)
        if self.keys.standardize:
            student_BKhw, teacher_BKhw = _standardized(student_BKhw), _standardized(teacher_BKhw)
        divergence_Bhw = softened_kl(student_BKhw, teacher_BKhw, self.keys.temperature)
        return masked_mean(divergence_Bhw, valid_Bhw)


def softened_kl(student_BKhw: Tensor, teacher_BKhw: Tensor, temperature: float = 1.0) -> Tensor:
    """``T² · KL(p_t ‖ p_s)`` of the class probabilities at each position, of shape (B, h, w)."""
    log_student_BKhw = F.log_softmax(student_BKhw / temperature, dim=1)
    log_teacher_BKhw = F.log_softmax(teacher_BKhw / temperature, dim=1)
    # Not log_teacher.exp(), which is many times slower on a CPU where it underflows.
    teacher_BKhw = F.softmax(teacher_BKhw / temperature, dim=1)
    return temperature**2 * (teacher_BKhw * (log_teacher_BKhw - log_student_BKhw)).sum(1)


def _standardized(logits_BKhw: Tensor) -> Tensor:
    centred_BKhw = logits_BKhw - logits_BKhw.mean(dim=1, keepdim=True)
    variance_B1hw = centred_BKhw.square().mean(dim=1, keepdim=True)
    return centred_BKhw * (variance_B1hw + EPSILON).rsqrt()
