"""Augmentation of whole batches, on the device that trains.

Shape suffixes: B frames in a batch, N frames that a step concerns, C channels (RGB), H rows, W
columns, L places along a row or column, P numbers of a frame, T of a tile of noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdsweep.data.augment.batch_draws import (
    AFFINE,
    COARSE,
    EXPOSURE,
    GAMMA,
    GRAIN,
    HUE_SATURATION,
    NUM_VALUES,
    SHIFT,
    Draws,
)
from kdsweep.data.augment.draws import grain_tile
from kdsweep.labels import VOID

_LUMA = (0.299, 0.587, 0.114)
_HUES = 180.0  # OpenCV's steps around the circle


class DeviceAugmenter:
    """Augments batches on whatever device they lie.

    What is done to a frame is what :class:`~kdsweep.data.augment.on_cpu.Augmenter` does to it, from
    the same numbers. What differs:

    * Places between pixels are exact, where OpenCV knows 32 between two.
    * Hues are not rounded to 180 steps.
    * The mean that brightness is relative to is taken after the loss of resolution, not before.

    All other grey levels differ by rounding at most. Labels are only ever resampled by nearest
    neighbour. What comes from outside of the frame is black in the image and void in the labels.

    Nothing waits for the device: what was drawn, and which frames a step concerns, is known on the
    host.

    Args:
        image_size: (height, width) of what is made: the frames', or that of crops.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        self._size = image_size
        self._tile_CTT: Tensor | None = None

    def __call__(
        self, images_BHWC: Tensor, labels_BHW: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images_BHWC: uint8, RGB; left as it is.
            labels_BHW: uint8, 255 = void; left as they are.
            draws: What is done; its numbers may still lie on the host.

        Returns:
            Images and labels, like those given.
        """
        if len(draws.numbers) == 0:
            return images_BHWC, labels_BHW
        numbers = draws.numbers.to(images_BHWC.device, non_blocking=True)
        end = len(images_BHWC) * NUM_VALUES
        values_BP = numbers[:end].view(-1, NUM_VALUES)
        images_BCHW, labels_BHW = _moved(
            images_BHWC, labels_BHW, values_BP, draws.frames, self._size
        )
        images = list(images_BCHW)

        def apply(step: str, change: Callable[[Tensor, Tensor], Tensor]) -> None:
            """Replace the frames that a step concerns; the others stay as they are, bit for bit."""
            places = draws.frames.get(step, ())
            if places:
                some_NP = torch.stack([values_BP[place] for place in places])
                changed_NCHW = change(torch.stack([images[place] for place in places]), some_NP)
                for place, image_CHW in zip(places, changed_NCHW, strict=True):
                    images[place] = image_CHW

        apply("exposure", _expose)
        apply("gamma", _gamma)
        apply("shift", _shift)
        apply("hue_saturation", _hue_saturation)
        apply("grey", _grey)
        apply("blur", lambda images_NCHW, _: _blur(images_NCHW, numbers[end:]))
        apply("grain", lambda images_NCHW, some_NP: self._grain(images_NCHW, some_NP, draws))
        pixels_BHWC = torch.stack(images).permute(0, 2, 3, 1)
        return pixels_BHWC.to(torch.uint8, memory_format=torch.contiguous_format), labels_BHW

    def _grain(self, images_NCHW: Tensor, values_NP: Tensor, draws: Draws) -> Tensor:
        if self._tile_CTT is None or self._tile_CTT.device != images_NCHW.device:
            tile_TTC = torch.from_numpy(grain_tile(self._size))
            tile_CTT = tile_TTC.permute(2, 0, 1).float().sub_(128).contiguous()
            self._tile_CTT = tile_CTT.to(images_NCHW.device)
        height, width = self._size
        noise_NCHW = torch.stack(
            [
                self._tile_CTT[:, top : top + height, left : left + width]
                for top, left in draws.corners
            ]
        )
        return _rounded(images_NCHW.add_(noise_NCHW.mul_(values_NP[:, GRAIN, None, None, None])))


def _moved(
    images_BHWC: Tensor,
    labels_BHW: Tensor,
    values_BP: Tensor,
    frames: dict[str, list[int]],
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Flip, rotation, crop and loss of resolution.

    Returns:
        float32 grey levels of shape (B, C, H, W), and labels of type uint8.
    """
    height, width = size
    affine_BP = values_BP[:, AFFINE]
    columns_BW = torch.arange(width, device=values_BP.device, dtype=torch.float32)[None]
    rows_BH = torch.arange(height, device=values_BP.device, dtype=torch.float32)[None]
    grid_BHW2 = _grid(affine_BP, columns_BW, rows_BH)
    # grid_sample knows no bytes; float32 holds all ids exactly.
    moved_BHW = _sample(labels_BHW[:, None].float(), grid_BHW2, "nearest")[:, 0].to(torch.uint8)
    image_grid_BHW2 = grid_BHW2
    if "coarse" in frames:
        across_B1, down_B1, step_B1 = values_BP[:, COARSE].unsqueeze(-1).unbind(1)
        image_grid_BHW2 = _grid(
            affine_BP,
            _coarse(columns_BW, across_B1, step_B1),
            _coarse(rows_BH, down_B1, step_B1),
        )
    pixels_BCHW = images_BHWC.permute(0, 3, 1, 2).to(
        torch.float32, memory_format=torch.contiguous_format
    )
    pixels_BCHW = _sample(pixels_BCHW, image_grid_BHW2, "bilinear").round_()
    if "rotation" in frames or "window" in frames:
        moved_BHW.masked_fill_(_is_outside(grid_BHW2), VOID)
        pixels_BCHW.masked_fill_(_is_outside(image_grid_BHW2)[:, None], 0.0)
    return pixels_BCHW, moved_BHW


def _grid(affine_BP: Tensor, columns_BW: Tensor, rows_BH: Tensor) -> Tensor:
    a, b, c, d, e, f = affine_BP[:, :, None, None].unbind(1)
    x_BHW = a * columns_BW[:, None, :] + (b * rows_BH[:, :, None] + c)
    y_BHW = d * columns_BW[:, None, :] + (e * rows_BH[:, :, None] + f)
    return torch.stack([x_BHW, y_BHW], dim=-1)


def _coarse(places_BL: Tensor, share_B1: Tensor, step_B1: Tensor) -> Tensor:
    """For each place along an axis the one that stands for it at a lower resolution."""
    last = places_BL.shape[1] - 1
    # Rounding may leave a little less where a whole number is meant.
    kept_BL = (places_BL * share_B1).add_(1e-4).floor_()
    return (kept_BL * step_B1).add_(1e-4).floor_().clamp_(max=last)


def _sample(pixels_BCHW: Tensor, grid_BHW2: Tensor, mode: str) -> Tensor:
    # Beyond the outermost pixels' centres there is half a pixel more of the same.
    return F.grid_sample(
        pixels_BCHW, grid_BHW2, mode=mode, padding_mode="border", align_corners=False
    )


def _is_outside(grid_BHW2: Tensor) -> Tensor:
    return (grid_BHW2.abs() > 1.0).any(dim=-1)


def _rounded(images_NCHW: Tensor) -> Tensor:
    """Grey levels that bytes can hold, as OpenCV makes them."""
    return images_NCHW.round_().clamp_(0.0, 255.0)


def _cut(images_NCHW: Tensor) -> Tensor:
    """Grey levels that bytes can hold, as tables of 256 levels hold them."""
    return images_NCHW.clamp_(0.0, 255.0).floor_()


def _expose(images_NCHW: Tensor, values_NP: Tensor) -> Tensor:
    contrast_N1, brightness_N1 = values_NP[:, EXPOSURE, None].unbind(1)
    # Sums of whole numbers are exact in float64, in whatever order they are added.
    mean_N1 = images_NCHW.flatten(1).sum(1, dtype=torch.float64, keepdim=True).float()
    added_N1 = brightness_N1 * (mean_N1 / images_NCHW[0].numel())
    return _cut(images_NCHW.mul_(contrast_N1[..., None, None]).add_(added_N1[..., None, None]))


def _gamma(images_NCHW: Tensor, values_NP: Tensor) -> Tensor:
    gamma_N111 = values_NP[:, GAMMA, None, None, None]
    return _cut(images_NCHW.div_(255).pow_(gamma_N111).mul_(255))


def _shift(images_NCHW: Tensor, values_NP: Tensor) -> Tensor:
    return _rounded(images_NCHW.add_(values_NP[:, SHIFT, None, None]))


def _hue_saturation(images_NCHW: Tensor, values_NP: Tensor) -> Tensor:
    hue_N11, saturation_N11 = values_NP[:, HUE_SATURATION, None, None].unbind(1)
    red, green, blue = images_NCHW.unbind(1)
    value = images_NCHW.amax(1)
    spread = value - images_NCHW.amin(1)
    # Sixths of the circle; where there is no colour, any hue will do.
    safe = spread.clamp(min=1.0)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + hue_N11 * (6 / _HUES)
    changed = (spread / value.clamp(min=1.0) + saturation_N11 / 255).clamp_(0.0, 1.0)
    # What has no colour gets none.
    depth = value * torch.where(spread > 0, changed, spread)
    channels = []
    for offset in (5, 3, 1):
        sixth = (hue + offset).remainder_(6)
        channels.append(value - depth * torch.minimum(sixth, 4 - sixth).clamp_(0.0, 1.0))
    return _rounded(torch.stack(channels, dim=1))


def _grey(images_NCHW: Tensor, values_NP: Tensor) -> Tensor:
    red, green, blue = images_NCHW.unbind(1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return _rounded(luma)[:, None].expand_as(images_NCHW)


def _blur(images_NCHW: Tensor, kernels: Tensor) -> Tensor:
    num, channels, height, width = images_NCHW.shape
    size = math.isqrt(len(kernels) // num)
    margin = size // 2
    mirrored = "reflect" if margin < min(height, width) else "replicate"
    padded_NCHW = F.pad(images_NCHW, (margin,) * 4, mode=mirrored)
    # Each channel of each frame is a group of its own.
    weights = kernels.view(num, 1, size, size).expand(-1, channels, -1, -1)
    blurred = F.conv2d(
        padded_NCHW.reshape(1, num * channels, *padded_NCHW.shape[2:]),
        weights.reshape(num * channels, 1, size, size),
        groups=num * channels,
    )
    return _rounded(blurred.view(images_NCHW.shape))
