"""Generating the teacher's features from a part of the student's.

Shape legend: B batch, C channels, h w feature map size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from kdsweep.config.losses import MaskedConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    TapChannels,
    tapped,
)
from kdsweep.distill.masking import masked_mean, valid_fraction
from kdsweep.distill.projection import Projections, match_size


class Masked(DistillationLoss[MaskedConfig]):
    """``mean_i Σ_c (G(m · p(s))_ci − t_ci)²``, m hiding a random part of the positions.

    p is the 1×1 projection to the teacher's width C (nothing where the widths agree), m of shape
    (B, 1, h, w) is 0 for a share ``mask_ratio`` of the positions, drawn anew in every step, and G
    is a 3×3 convolution, ReLU and another 3×3 convolution, all from C to C channels. G and p belong
    to the student's optimiser. Features of another size are resized to the teacher's first.

    Averaged over:
        Positions of the whole batch by their share of labelled pixels; channels are summed.
        Hidden positions count like the others. Positions without a labelled pixel are always
        hidden, so that G does not carry them to their neighbours, and left out of the mean.

    Defaults:
        Weight 0.08 and ``mask_ratio`` 0.75. The authors' segmentation configurations have 2·10⁻⁵
        on the sum over channels and positions: with their 64×64 positions (512×512 pixels, stride
        8), that is 2·10⁻⁵ · 64² = 0.08 on the mean over positions, which keeps the weight
        independent of the image's size. That is for pretrained features: from random weights it
        was 97 to 99.7 % of the student's gradient in the first two epochs (docs/results.md).

    Taps:
        Published on the last features of the backbone (ResNet, stride 8); ours is ``encoder.3``,
        of stride 16 in most encoders: at ``encoder.4`` a small image leaves few positions to hide,
        and G would have millions of weights.

    Reference:
        Yang et al., Masked Generative Distillation, arXiv 2205.01529. Paper and authors' code sum
        over positions, the code then averages over the batch; the mean over positions here is the
        same for a given size. They have no void, and the code's projection has a bias.
    """

    def __init__(self, channels: TapChannels, keys: MaskedConfig) -> None:
        super().__init__(channels, keys)
        self.projections = Projections(channels, self.taps)
        self.generators = nn.ModuleList(_generator(channels.teacher[tap]) for tap in self.taps)

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap, generator in zip(self.taps, self.generators, strict=True):
            teacher_BChw = tapped(teacher, tap)
            student_BChw = self.projections(tap, tapped(student, tap))
            student_BChw = match_size(student_BChw, teacher_BChw.shape[-2:])
            weight_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:])
            # The global generator: whoever trains seeds it before each forward pass.
            drawn_Bhw = torch.rand(weight_Bhw.shape, device=weight_Bhw.device)
            seen_Bhw = (drawn_Bhw >= self.keys.mask_ratio) & (weight_Bhw > 0)
            generated_BChw = generator(torch.where(seen_Bhw.unsqueeze(1), student_BChw, 0.0))
            squared_Bhw = (generated_BChw - teacher_BChw).square().sum(1)
            total = total + masked_mean(squared_Bhw, weight_Bhw)
        return total


def _generator(width: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
    )
    # As the features mostly come; else the weights would be copied over in every step.
    return layers.to(memory_format=torch.channels_last)
