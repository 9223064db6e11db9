"""1×1 projections that bring student features to the teacher's width.

Shape legend: B batch, C student channels, D teacher channels, h w feature map size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdsweep.distill.base import TapChannels


class Projections(nn.Module):
    """One 1×1 convolution per tap where the widths differ, the identity elsewhere.

    Args:
        channels: Channels of both networks at every tap.
    """

    def __init__(self, channels: TapChannels, taps: Sequence[str]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.layers = nn.ModuleList()
        for tap in taps:
            narrow, wide = channels.student[tap], channels.teacher[tap]
            same = narrow == wide
            self.layers.append(nn.Identity() if same else nn.Conv2d(narrow, wide, 1, bias=False))

    def forward(self, tap: str, features_BChw: Tensor) -> Tensor:
        """Student features of shape (B, D, h, w)."""
        projected: Tensor = self.layers[self.taps.index(tap)](features_BChw)
        return projected


def match_size(features_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Resize features bilinearly where the two networks' strides differ."""
    if tuple(features_BChw.shape[-2:]) == tuple(size):
        return features_BChw
    return F.interpolate(features_BChw, size=tuple(size), mode="bilinear", align_corners=False)
