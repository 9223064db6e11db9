"""One minus the Pearson correlation of student and teacher features, channel by channel.

Shape legend: B batch, C channels, h w feature map size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import CorrelationConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    TapChannels,
    tapped,
)
from kdsweep.distill.masking import masked_mean, valid_fraction
from kdsweep.distill.projection import Projections, match_size

# Added to variances. A channel that is (nearly) constant, as dead ones are, would otherwise have a
# gradient without bound.
EPSILON = 1e-6


class Correlation(DistillationLoss[CorrelationConfig]):
    """``½ · mean_c mean_i (z(s)_ci − z(t)_ci)²``, z standardised channels: ``1 − mean_c r_c``.

    ``z(f)_c = (f_c − mean f_c) / √(var f_c + 10⁻⁶)``, mean and variance of channel c over all B·h·w
    positions of the batch; r_c is then Pearson's correlation of channel c of both networks (but for
    channels that are nearly constant), and the loss lies between 0 and 2. Features have the shape
    (B, C, h, w); the student's are projected where the widths differ, and resized where the sizes
    do. Scale and offset of a channel do not matter.

    Averaged over:
        Channels, and positions of the whole batch by their share of labelled pixels; means and
        variances are taken with the same weights.

    Defaults:
        Weight 6, for each level of the pyramid, as in MMRazor's configuration for RetinaNet (10
        for FCOS3D).

    Taps:
        Published for object detection on the levels of the feature pyramid; ours is ``encoder.4``,
        the deepest features of the encoder.

    Reference:
        Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson
        Correlation Coefficient, arXiv 2207.02039. The authors' code (in MMRazor) divides by the
        sample standard deviation (n − 1) plus 10⁻⁶; here it is n, for which the paper's identity
        with 1 − r is exact, and the constant stands under the root. The code needs equal widths.
    """

    def __init__(self, channels: TapChannels, keys: CorrelationConfig) -> None:
        super().__init__(channels, keys)
        self.projections = Projections(channels, self.taps)

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_BChw = tapped(teacher, tap)
            student_BChw = self.projections(tap, tapped(student, tap))
            student_BChw = match_size(student_BChw, teacher_BChw.shape[-2:])
            weight_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:])
            gap_BChw = _standardized(student_BChw, weight_Bhw) - _standardized(
                teacher_BChw, weight_Bhw
            )
            total = total + 0.5 * masked_mean(gap_BChw.square().mean(1), weight_Bhw)
        return total


def _standardized(features_BChw: Tensor, weight_Bhw: Tensor) -> Tensor:
    weight_B1hw = weight_Bhw.unsqueeze(1).to(features_BChw.dtype)
    num_positions = weight_B1hw.sum()
    share_B1hw = weight_B1hw / torch.where(num_positions > 0, num_positions, 1.0)
    kept_BChw = torch.where(weight_B1hw > 0, features_BChw, 0.0)
    mean_C11 = (kept_BChw * share_B1hw).sum((0, 2, 3)).view(-1, 1, 1)
    centred_BChw = torch.where(weight_B1hw > 0, kept_BChw - mean_C11, 0.0)
    variance_C11 = (centred_BChw.square() * share_B1hw).sum((0, 2, 3)).view(-1, 1, 1)
    return centred_BChw * (variance_C11 + EPSILON).rsqrt()
