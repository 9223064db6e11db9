"""Leaving void pixels out of a loss, at the resolution the loss works on.

Shape legend: B batch, C channels, H W image size, h w feature map size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdsweep.labels import VOID


def valid_fraction(labels_BHW: Tensor, size: Sequence[int]) -> Tensor:
    """Share of labelled pixels under each cell of a coarser grid.

    Args:
        labels_BHW: Class ids, 255 = void.
        size: (h, w) of the grid.

    Returns:
        float32 in [0, 1] of shape (B, h, w).
    """
    valid_B1HW = (labels_BHW != VOID).unsqueeze(1).float()
    if tuple(labels_BHW.shape[-2:]) == tuple(size):
        return valid_B1HW.squeeze(1)
    height, width = size
    return F.adaptive_avg_pool2d(valid_B1HW, (height, width)).squeeze(1)


def pool_valid(values_BCHW: Tensor, labels_BHW: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Average-pool over labelled pixels only, so that nothing under void leaks into a cell.

    Args:
        values_BCHW: Activations at the size of the labels.
        labels_BHW: Class ids, 255 = void.
        stride: Side of a cell in pixels; cells at the border may be smaller.

    Returns:
        Pooled float32 values of shape (B, C, h, w), zero where a cell has no labelled pixel, and
        which cells have one, bool of shape (B, h, w).
    """
    valid_B1HW = (labels_BHW != VOID).unsqueeze(1)
    values_BCHW = values_BCHW.float()
    if stride == 1:
        return values_BCHW, valid_B1HW.squeeze(1)
    kept_BCHW = torch.where(valid_B1HW, values_BCHW, 0.0)
    mean_BChw = F.avg_pool2d(kept_BCHW, stride, ceil_mode=True, count_include_pad=False)
    share_B1hw = F.avg_pool2d(valid_B1HW.float(), stride, ceil_mode=True, count_include_pad=False)
    pooled_BChw = mean_BChw / share_B1hw.clamp(min=torch.finfo(torch.float32).tiny)
    return pooled_BChw, share_B1hw.squeeze(1) > 0


def masked_mean(values_BHW: Tensor, weights_BHW: Tensor) -> Tensor:
    """Weighted mean over all positions of the batch; zero, with a graph, if no weight is positive.

    Args:
        values_BHW: One value per position.
        weights_BHW: Weight of each position, bool or float.
    """
    weights_BHW = weights_BHW.to(values_BHW.dtype)
    # torch.where and not a product: a non-finite value under void must not become NaN.
    kept_BHW = torch.where(weights_BHW > 0, values_BHW * weights_BHW, 0.0)
    total = weights_BHW.sum()
    return kept_BHW.sum() / torch.where(total > 0, total, torch.ones_like(total))
