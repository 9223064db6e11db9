"""Leaving void pixels out of a loss, at the resolution the loss works on.

Shape legend: B batch, C channels, H W image size, h w feature map size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdsweep.distill.base import precise
from kdsweep.labels import VOID


def valid_fraction(
    labels_BHW: Tensor, size: Sequence[int], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Share of labelled pixels under each cell of a coarser grid.

    Args:
        labels_BHW: Class ids, 255 = void.
        size: (h, w) of the grid.
        dtype: Of the result.

    Returns:
        Values in [0, 1] of shape (B, h, w).
    """
    valid_B1HW = (labels_BHW != VOID).unsqueeze(1).to(dtype)
    if tuple(labels_BHW.shape[-2:]) == tuple(size):
        return valid_B1HW.squeeze(1)
    height, width = size
    return F.adaptive_avg_pool2d(valid_B1HW, (height, width)).squeeze(1)


def class_fractions(labels_BHW: Tensor, num_classes: int, size: Sequence[int]) -> Tensor:
    """Share of the pixels of each class under each cell of a coarser grid.

    Args:
        labels_BHW: Class ids, 255 = void.
        num_classes: K.
        size: (h, w) of the grid.

    Returns:
        float32 in [0, 1] of shape (B, K, h, w). Its sum over classes is :func:`valid_fraction`.
    """
    batch, image_height, image_width = labels_BHW.shape
    index_B1HW = torch.where(labels_BHW == VOID, num_classes, labels_BHW).unsqueeze(1)
    shape = (batch, num_classes + 1, image_height, image_width)
    members_BKHW = torch.zeros(shape, device=labels_BHW.device).scatter_(1, index_B1HW, 1.0)
    members_BKHW = members_BKHW[:, :num_classes]
    height, width = size
    if (height, width) == (image_height, image_width):
        return members_BKHW
    return F.adaptive_avg_pool2d(members_BKHW, (height, width))


def pool_valid(values_BCHW: Tensor, labels_BHW: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Average-pool over labelled pixels only, so that nothing under void leaks into a cell.

    Args:
        values_BCHW: Activations at the size of the labels.
        labels_BHW: Class ids, 255 = void.
        stride: Side of a cell in pixels; cells at the border may be smaller.

    Returns:
        Pooled values of shape (B, C, h, w), zero where a cell has no labelled pixel, and
        which cells have one, bool of shape (B, h, w).
    """
    valid_B1HW = (labels_BHW != VOID).unsqueeze(1)
    values_BCHW = precise(values_BCHW)
    if stride == 1:
        return values_BCHW, valid_B1HW.squeeze(1)
    kept_BCHW = torch.where(valid_B1HW, values_BCHW, 0.0)
    mean_BChw = F.avg_pool2d(kept_BCHW, stride, ceil_mode=True, count_include_pad=False)
    valid_B1HW = valid_B1HW.to(values_BCHW.dtype)
    share_B1hw = F.avg_pool2d(valid_B1HW, stride, ceil_mode=True, count_include_pad=False)
    pooled_BChw = mean_BChw / share_B1hw.clamp(min=torch.finfo(torch.float32).tiny)
    return pooled_BChw, share_B1hw.squeeze(1) > 0


def majority_label(labels_BHW: Tensor, num_classes: int, stride: int) -> Tensor:
    """The class that most labelled pixels of each cell have.

    Args:
        labels_BHW: Class ids, 255 = void.
        num_classes: Number of classes.
        stride: Side of a cell in pixels, as in :func:`pool_valid`.

    Returns:
        Class ids of shape (B, h, w), the lowest of equally frequent ones; 255 where a cell has no
        labelled pixel.
    """
    if stride == 1:
        return labels_BHW
    classes_K11 = torch.arange(num_classes, device=labels_BHW.device).view(-1, 1, 1)
    one_hot_BKHW = (labels_BHW.unsqueeze(1) == classes_K11).float()
    share_BKhw = F.avg_pool2d(one_hot_BKHW, stride, ceil_mode=True, count_include_pad=False)
    largest_Bhw, label_Bhw = share_BKhw.max(dim=1)
    return torch.where(largest_Bhw > 0, label_Bhw, VOID)


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


def pool_nodes(features_BChw: Tensor, weights_Bhw: Tensor, max_side: int) -> tuple[Tensor, Tensor]:
    """Average features over square cells, so that at most ``max_side`` stand along each side.

    Within a cell, positions count by their weight; those of weight zero do not leak into it.

    Args:
        features_BChw: Feature maps.
        weights_Bhw: Share of labelled pixels of each position.
        max_side: Most cells along height and width. Cells at the border may be smaller.

    Returns:
        Features of the cells, zero where none is labelled, and the cells' weights.
    """
    kept_BChw = torch.where(weights_Bhw.unsqueeze(1) > 0, features_BChw, 0.0)
    cell = -(-max(features_BChw.shape[-2:]) // max_side)
    if cell == 1:
        return kept_BChw, weights_Bhw
    weights_B1hw = weights_Bhw.unsqueeze(1).to(features_BChw.dtype)
    options = {"ceil_mode": True, "count_include_pad": False}
    sum_BChw = F.avg_pool2d(kept_BChw * weights_B1hw, cell, **options)
    share_B1hw = F.avg_pool2d(weights_B1hw, cell, **options)
    mean_BChw = sum_BChw / torch.where(share_B1hw > 0, share_B1hw, 1.0)
    return mean_BChw, share_B1hw.squeeze(1)
