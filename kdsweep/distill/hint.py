"""Mean squared distance of projected student features from the teacher's.

Shape legend: B batch, C channels, h w feature map size.
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
from kdsweep.distill.masking import masked_mean, valid_fraction
from kdsweep.distill.projection import Projections, match_size


@DISTILLATION_LOSSES.register("hint")
class Hint(DistillationLoss):
    """``mean_c (r(s)_c − t_c)²``, averaged over positions by their share of valid pixels.

    Reference:
        Romero et al., FitNets, arXiv 1412.6550, eq. 3, with a 1×1 regressor r. The paper sums and
        halves; the mean (as in common re-implementations) keeps the weight independent of the
        feature map's size. The paper trains the hint first and alone; here it is one term.

    Args:
        channels: Channels of both networks at every tap.
        taps: Where the features are taken; several are summed.
        normalize: Divide each position's feature vector by its length first. The squares are then
            summed over channels, giving a distance between 0 and 4 whatever the width.
    """

    def __init__(
        self, channels: TapChannels, *, taps: Sequence[str], normalize: bool = False
    ) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.normalize = normalize
        self.projections = Projections(channels, self.taps)

    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.forward`."""
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_BChw = tapped(teacher, tap)
            student_BChw = self.projections(tap, tapped(student, tap))
            student_BChw = match_size(student_BChw, teacher_BChw.shape[-2:])
            if self.normalize:
                student_BChw = F.normalize(student_BChw, dim=1)
                teacher_BChw = F.normalize(teacher_BChw, dim=1)
                squared_Bhw = (student_BChw - teacher_BChw).square().sum(1)
            else:
                squared_Bhw = (student_BChw - teacher_BChw).square().mean(1)
            weight_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:])
            total = total + masked_mean(squared_Bhw, weight_Bhw)
        return total
