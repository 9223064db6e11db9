"""How far features vary within their class, as similarity to the class's prototype.

Shape legend: B batch, K classes, H W image size, C channels, h w feature map size, N positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import IFVDConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    tapped,
)
from kdsweep.distill.masking import class_fractions
from kdsweep.distill.projection import match_size


class IFVD(DistillationLoss[IFVDConfig]):
    """``mean_i (cos(s_i, p(s)_k) − cos(t_i, p(t)_k))²``, k the class of position i.

    The prototype ``p(f)_k = Σ_i a_ik f_i / Σ_i a_ik`` is the mean feature of class k in one image,
    where ``a_ik`` is the share of pixels under position i that have class k: features (B, C, N)
    and shares (B, K, N) give prototypes (B, K, C) and similarities (B, K, N). A position with
    several classes counts for each by its share. Both networks have prototypes of their own, so
    nothing is projected. Features of another size are resized to the teacher's first.

    Averaged over:
        Pairs of a position and a class under it, by share, over the whole batch: at the size of
        the image that is the mean over labelled pixels. Void has no share, and a class that an
        image does not show has no prototype there.

    Defaults:
        Weight 200, the authors' ``lambda_ifv``. From random weights that was about 90 % of the
        student's gradient in the first two epochs (docs/results.md).

    Taps:
        Published on the features that the classifier reads (after PSPNet's pyramid, stride 8);
        ours is ``decoder``, which is that for every architecture.

    Reference:
        Wang et al., Intra-class Feature Variation Distillation for Semantic Segmentation,
        ECCV 2020 (found in its proceedings, not on arXiv). Where the paper speaks of the prototype
        of a class, the authors' code takes that of each image, which is followed. The code takes
        the label of one pixel per position; the shares that stand for it here come to the same at
        the size of the image, and lose less of the labels at a coarse one. In the code, void
        positions count as ones without a difference; here they are left out of the mean. Gradients
        pass through the student's prototypes, as in the code.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        num_classes = student.logits_BKHW.shape[1]
        for tap in self.taps:
            teacher_BChw = tapped(teacher, tap)
            student_BChw = match_size(tapped(student, tap), teacher_BChw.shape[-2:])
            share_BKhw = class_fractions(labels_BHW, num_classes, teacher_BChw.shape[-2:])
            share_BKN = share_BKhw.flatten(2).to(teacher_BChw.dtype)
            gap_BKN = _similarities(student_BChw.flatten(2), share_BKN) - _similarities(
                teacher_BChw.flatten(2), share_BKN
            )
            num_positions = share_BKN.sum()
            distance = (share_BKN * gap_BKN.square()).sum()
            total = total + distance / torch.where(num_positions > 0, num_positions, 1.0)
        return total


def _similarities(features_BCN: Tensor, share_BKN: Tensor) -> Tensor:
    labelled_B1N = share_BKN.sum(1, keepdim=True) > 0
    features_BCN = torch.where(labelled_B1N, features_BCN, 0.0)
    sum_BKC = share_BKN @ features_BCN.transpose(1, 2)
    # The mean has the direction of the sum, which is all that a cosine asks for.
    return F.normalize(sum_BKC, dim=2) @ F.normalize(features_BCN, dim=1)
