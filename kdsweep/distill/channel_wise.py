"""Per-channel KL divergence over all positions, on logits or features.

Shape legend: B batch, C channels, N positions, h w map size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import ChannelWiseConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    TapChannels,
    tapped,
)
from kdsweep.distill.masking import pool_valid, valid_fraction
from kdsweep.distill.projection import Projections, match_size


class ChannelWise(DistillationLoss[ChannelWiseConfig]):
    """``T²/C · Σ_c Σ_i φ(t)_ci log(φ(t)_ci / φ(s)_ci)``, φ a softmax over positions; sum over taps.

    Logits (B, K, H, W) are pooled over labelled pixels to (B, K, h, w); features (B, C, h, w) are
    projected to the teacher's width where theirs differs, and resized where strides differ. φ is
    taken over the N = h·w positions of one channel, with T dividing the activations.

    Averaged over:
        Channels, and images with a labelled pixel, after the sum over positions. Void positions
        take no part in the softmax.

    Defaults:
        weight 3, temperature 4: the paper, for logits. Without logits among the taps weight 50,
        the paper's for features. Both were tuned on maps of stride 8, hence stride 8: the gradient
        at one position falls with the number of positions.

    Taps:
        Published on the logits, or the last feature map before them; here ``logits`` (``decoder``
        and others on request).

    Reference:
        Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, arXiv 2011.13256.
        Formula and authors' code agree; where the code takes the logarithm of a softmax, which can
        underflow, here it is a log-softmax. The authors' published runs are named by weight 3 and
        T = 5 (logits), 35 to 40 and T = 1 to 10 (features); the paper's values are followed.
    """

    def __init__(self, channels: TapChannels, keys: ChannelWiseConfig) -> None:
        super().__init__(channels, keys)
        self.projections = Projections(channels, self.taps)

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            if tap == "logits":
                student_BChw, valid_Bhw = pool_valid(
                    student.logits_BKHW, labels_BHW, self.keys.stride
                )
                teacher_BChw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.keys.stride)
            else:
                teacher_BChw = tapped(teacher, tap)
                student_BChw = self.projections(tap, tapped(student, tap))
                student_BChw = match_size(student_BChw, teacher_BChw.shape[-2:])
                valid_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:]) > 0
            total = total + self._divergence(student_BChw, teacher_BChw, valid_Bhw)
        return total

    def _divergence(self, student_BChw: Tensor, teacher_BChw: Tensor, valid_Bhw: Tensor) -> Tensor:
        log_student_BCN = self._log_map(student_BChw, valid_Bhw)
        log_teacher_BCN = self._log_map(teacher_BChw, valid_Bhw)
        valid_B1N = valid_Bhw.flatten(1).unsqueeze(1)
        # Void positions hold −∞ − (−∞); where() keeps that NaN out of values and gradients alike.
        gap_BCN = torch.where(valid_B1N, log_teacher_BCN, 0.0) - torch.where(
            valid_B1N, log_student_BCN, 0.0
        )
        probability_BCN = torch.where(valid_B1N, log_teacher_BCN, -torch.inf).exp()
        divergence_B = (probability_BCN * gap_BCN).sum(2).mean(1)
        labelled_B = valid_Bhw.flatten(1).any(1)
        num_labelled = labelled_B.sum().clamp(min=1)
        kept_B = torch.where(labelled_B, divergence_B, 0.0)
        return self.keys.temperature**2 * kept_B.sum() / num_labelled

    def _log_map(self, values_BChw: Tensor, valid_Bhw: Tensor) -> Tensor:
        values_BCN = values_BChw.flatten(2) / self.keys.temperature
        valid_B1N = valid_Bhw.flatten(1).unsqueeze(1)
        # A finite floor instead of −∞: an image that is all void would give NaN gradients.
        floor = torch.finfo(values_BCN.dtype).min
        return F.log_softmax(torch.where(valid_B1N, values_BCN, floor), dim=2)
