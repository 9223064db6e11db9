"""Mean squared distance of projected student features from the teacher's.

Shape legend: B batch, C channels, h w feature map size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import HintConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    TapChannels,
    tapped,
)
from kdsweep.distill.masking import masked_mean, valid_fraction
from kdsweep.distill.projection import Projections, match_size


class Hint(DistillationLoss[HintConfig]):
    """``mean_c (r(s)_c − t_c)²`` at every position, r a learnt 1×1 convolution; sum over taps.

    Features are (B, C, h, w); the student's are projected to the teacher's width C where theirs
    differs, and resized where strides differ. With ``normalize``: ``‖r(s)/‖r(s)‖ − t/‖t‖‖²``, the
    squares summed over channels.

    Averaged over:
        Channels, and positions of the batch, each weighted by its share of labelled pixels.

    Defaults:
        weight 1: CIRKD's segmentation scripts for Cityscapes, with the same average (10 for VOC and
        COCO-Stuff). The value follows the size of the teacher's activations, so look at its share
        of the gradient. There is no temperature.

    Taps:
        Published on the middle layers of both networks; CIRKD takes the last features before the
        classifier. Here ``encoder.4``, where a U-Net changes from encoder to decoder.

    Reference:
        Romero et al., FitNets, arXiv 1412.6550, eq. 3. The paper sums and halves the squares; the
        mean (as in re-implementations) keeps the weight independent of the feature map's size. The
        paper trains the hint first and alone; here it is one term: ``until_epoch`` ends it early.
    """

    def __init__(self, channels: TapChannels, keys: HintConfig) -> None:
        super().__init__(channels, keys)
        self.projections = Projections(channels, self.taps)

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_BChw = tapped(teacher, tap)
            student_BChw = self.projections(tap, tapped(student, tap))
            student_BChw = match_size(student_BChw, teacher_BChw.shape[-2:])
            if self.keys.normalize:
                student_BChw = F.normalize(student_BChw, dim=1)
                teacher_BChw = F.normalize(teacher_BChw, dim=1)
                squared_Bhw = (student_BChw - teacher_BChw).square().sum(1)
            else:
                squared_Bhw = (student_BChw - teacher_BChw).square().mean(1)
            weight_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:], teacher_BChw.dtype)
            total = total + masked_mean(squared_Bhw, weight_Bhw)
        return total
