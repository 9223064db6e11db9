"""Per-pixel KL divergence of softened class probabilities.

Shape legend: B batch, K classes, H W logits size, h w pooled size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdsweep.distill.base import (
    DISTILLATION_LOSSES,
    Activations,
    DistillationLoss,
    TapChannels,
)
from kdsweep.distill.masking import masked_mean, pool_valid


@DISTILLATION_LOSSES.register("pixel_kl")
class PixelKL(DistillationLoss):
    """``T² · Σ_k p_t log(p_t / p_s)``, summed over classes, averaged over valid pixels.

    Neither ``reduction="mean"`` of ``kl_div`` (weaker by the number of classes) nor
    ``"batchmean"`` on (B, K, H, W) (stronger by H·W) is that average.

    Reference:
        Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, applied to
        every pixel as in Liu et al., arXiv 1903.04197. The paper's factor T² keeps the gradient's
        size when T changes.

    Args:
        channels: Not used.
        temperature: T that divides the logits of both networks.
        stride: Logits are averaged over cells of this many pixels first; 1 keeps them.
    """

    def __init__(self, channels: TapChannels, *, temperature: float, stride: int = 1) -> None:
        super().__init__()
        self.temperature = temperature
        self.stride = stride

    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.forward`."""
        student_BKhw, valid_Bhw = pool_valid(student.logits_BKHW, labels_BHW, self.stride)
        teacher_BKhw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.stride)
        log_student_BKhw = F.log_softmax(student_BKhw / self.temperature, dim=1)
        log_teacher_BKhw = F.log_softmax(teacher_BKhw / self.temperature, dim=1)
        divergence_Bhw = (log_teacher_BKhw.exp() * (log_teacher_BKhw - log_student_BKhw)).sum(1)
        return self.temperature**2 * masked_mean(divergence_Bhw, valid_Bhw)
