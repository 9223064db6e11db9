"""KL divergence in two parts: labelled class against the rest, and within the rest.

Shape legend: B batch, K classes, H W logits size, h w pooled size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import DKDConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
)
from kdsweep.distill.masking import majority_label, masked_mean, pool_valid
from kdsweep.distill.pixel_kl import softened_kl
from kdsweep.labels import VOID


class DKD(DistillationLoss[DKDConfig]):
    """``T² · (α · KL(b_t ‖ b_s) + β · KL(p̂_t ‖ p̂_s))`` at every pixel.

    With ``p = softmax_k(z / T)`` of logits (B, K, H, W) and the label y of a pixel,
    ``b = (p_y, 1 − p_y)`` are the probabilities of the labelled class and of all others, and
    ``p̂ = softmax_{k≠y}(z / T)`` those of the K − 1 other classes among themselves. ``pixel_kl`` is
    the same with α = 1 and β = 1 − p_ty, which mutes what a confident teacher knows of the other
    classes. Needs labels and three classes or more.

    Averaged over:
        Labelled pixels (cells) of the batch, after the sums over classes.

    Defaults:
        weight 1, α = 1, β = 2, temperature 1: the segmentation code of GDKD
        (github.com/ZaberKo/seg-gdkd). The authors' classification: β = 8, T = 4 (CIFAR-100),
        β = 0.5, T = 1 (ImageNet, ResNet34 → ResNet18): the factor β · T² of the second part is 128
        in the one, 0.5 in the other, 2 here. stride 1, as for ``pixel_kl``.

    Taps:
        Published on the class scores of an image, here on the logits of every pixel (in GDKD's
        code at stride 8, with the label of the nearest pixel). With ``stride`` a cell has the label
        of most of its labelled pixels.

    Reference:
        Zhao et al., Decoupled Knowledge Distillation, arXiv 2203.08679. Paper and authors' code
        agree on the formula. The code excludes the labelled class by subtracting 1000 from its
        logit and takes the logarithm of a softmax; here it is excluded exactly and all is
        logarithms. The code ramps the weight over 20 epochs on CIFAR-100: ``warmup_epochs``.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        student_BKhw, valid_Bhw = pool_valid(student.logits_BKHW, labels_BHW, self.keys.stride)
        teacher_BKhw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.keys.stride)
        label_Bhw = majority_label(labels_BHW, student_BKhw.shape[1], self.keys.stride)
        # Void pixels are left out of the mean; any class will do for them.
        label_B1hw = torch.where(label_Bhw == VOID, 0, label_Bhw).unsqueeze(1)
        student_BKhw, teacher_BKhw = (
            logits_BKhw / self.keys.temperature for logits_BKhw in (student_BKhw, teacher_BKhw)
        )
        whole_Bhw = softened_kl(student_BKhw, teacher_BKhw)
        others_Bhw = softened_kl(
            _without(student_BKhw, label_B1hw), _without(teacher_BKhw, label_B1hw)
        )
        share_Bhw = 1.0 - F.softmax(teacher_BKhw, dim=1).gather(1, label_B1hw).squeeze(1)
        # KL(p_t ‖ p_s) = KL(b_t ‖ b_s) + (1 − p_ty) · KL(p̂_t ‖ p̂_s), which spares logarithms of
        # small differences.
        divergence_Bhw = (
            self.keys.alpha * whole_Bhw
            + (self.keys.beta - self.keys.alpha * share_Bhw) * others_Bhw
        )
        return self.keys.temperature**2 * masked_mean(divergence_Bhw, valid_Bhw)


def _without(logits_BKhw: Tensor, label_B1hw: Tensor) -> Tensor:
    """Logits that leave the labelled class no probability.

    The floor is finite, so that the class adds 0 · (floor − floor) to a divergence and not NaN.
    """
    return logits_BKhw.scatter(1, label_B1hw, torch.finfo(torch.float32).min)
