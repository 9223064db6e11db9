"""Augmentation on the CPU, frame by frame."""

from __future__ import annotations

import cv2
import numpy as np

from kdsweep.data.augment.draws import (
    GRAIN_TILE_SIGMA,
    FrameChange,
    RandomCrop,
    draw_change,
    frame_numbers,
    grain_tile,
    origin_matrix,
)
from kdsweep.data.augment.presets import preset_named
from kdsweep.labels import VOID

_LEVELS = np.arange(256, dtype=np.uint8)


class Augmenter:
    """Augments frames of one size by a named preset.

    A frame's augmentation depends on (seed, epoch, index) alone.

    Args:
        preset: Its name.
        image_size: (height, width) of the frames.
        seed: First part of every frame's seed.
        crop: Crops that take the frames' place, if any.

    Raises:
        ValueError: There is no such preset.
    """

    def __init__(
        self,
        preset: str,
        image_size: tuple[int, int],
        seed: int,
        crop: RandomCrop | None = None,
    ) -> None:
        # One thread per process: frames are small, and the cores belong to training.
        cv2.setNumThreads(0)
        self._preset = preset_named(preset)
        self._frame_size = image_size
        self._size = image_size if crop is None else crop.size
        self._crop = crop
        self._seed = seed
        self._tile_TTC = grain_tile(self._size) if self._preset and self._preset.flaw else None

    def __call__(
        self, image_HWC: np.ndarray, labels_HW: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the frame as epoch ``epoch`` shows it; the arguments are left as they are.

        Args:
            image_HWC: uint8, RGB.
            labels_HW: uint8, 255 = void.
            epoch: Number of the epoch.
            index: Number of the frame in its split.
        """
        _, image_HWC, labels_HW = self.weak_and_strong(image_HWC, labels_HW, epoch, index)
        return image_HWC, labels_HW

    def weak_and_strong(
        self, image_HWC: np.ndarray, labels_HW: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what :meth:`__call__` returns, and before it the same part in its own colours."""
        if self._preset is None and self._crop is None:
            return image_HWC, image_HWC, labels_HW
        numbers = frame_numbers(self._seed, epoch, index)
        change = draw_change(self._preset, self._frame_size, numbers, self._crop)
        if change.window is None:
            image_HWC, labels_HW = _moved(image_HWC, labels_HW, change)
        else:
            image_HWC, labels_HW = _cut(image_HWC, labels_HW, change, self._size)
        weak_HWC = image_HWC
        image_HWC = _recoloured(image_HWC, change)
        if change.kernel is not None and change.kernel.ndim == 1:
            image_HWC = cv2.sepFilter2D(image_HWC, -1, change.kernel, change.kernel)
        elif change.kernel is not None:
            image_HWC = cv2.filter2D(image_HWC, -1, change.kernel)
        if change.scale is not None:
            nearest = cv2.INTER_NEAREST
            small = cv2.resize(
                image_HWC, None, fx=change.scale, fy=change.scale, interpolation=nearest
            )
            image_HWC = cv2.resize(small, self._size[::-1], interpolation=nearest)
        if change.grain is not None:
            assert self._tile_TTC is not None
            (top, left, sigma), (height, width) = change.grain, self._size
            noise = self._tile_TTC[top : top + height, left : left + width]
            factor = sigma / GRAIN_TILE_SIGMA
            image_HWC = cv2.addWeighted(image_HWC, 1.0, noise, factor, -128.0 * factor)
        return weak_HWC, image_HWC, labels_HW


def _moved(
    image_HWC: np.ndarray, labels_HW: np.ndarray, change: FrameChange
) -> tuple[np.ndarray, np.ndarray]:
    """Flip, rotate and crop in one resampling; labels are those at the pixels' centres."""
    height, width = labels_HW.shape
    if change.degrees:
        matrix, size = origin_matrix(change, (height, width))[:2], (width, height)
        inverse = cv2.WARP_INVERSE_MAP
        labels_HW = cv2.warpAffine(
            labels_HW, matrix, size, flags=cv2.INTER_NEAREST | inverse, borderValue=VOID
        )
        image_HWC = cv2.warpAffine(image_HWC, matrix, size, flags=cv2.INTER_LINEAR | inverse)
        return image_HWC, labels_HW
    if change.flip:
        image_HWC, labels_HW = cv2.flip(image_HWC, 1), cv2.flip(labels_HW, 1)
    if change.crop is not None:
        left, top, crop_width, crop_height = change.crop
        part = (slice(top, top + crop_height), slice(left, left + crop_width))
        image_HWC = cv2.resize(image_HWC[part], (width, height))
        labels_HW = cv2.resize(
            labels_HW[part], (width, height), interpolation=cv2.INTER_NEAREST_EXACT
        )
    return image_HWC, labels_HW


def _cut(
    image_HWC: np.ndarray, labels_HW: np.ndarray, change: FrameChange, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Flip, rotate, scale and cut in one resampling; beyond the frame there is void and black."""
    matrix, target = origin_matrix(change, labels_HW.shape)[:2], size[::-1]
    nearest, linear = (how | cv2.WARP_INVERSE_MAP for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR))
    inside_HW = cv2.warpAffine(np.ones_like(labels_HW), matrix, target, flags=nearest)
    labels_HW = cv2.warpAffine(labels_HW, matrix, target, flags=nearest, borderValue=VOID)
    image_HWC = cv2.warpAffine(
        image_HWC, matrix, target, flags=linear, borderMode=cv2.BORDER_REPLICATE
    )
    image_HWC[inside_HW == 0] = 0
    return image_HWC, labels_HW


def _recoloured(image_HWC: np.ndarray, change: FrameChange) -> np.ndarray:
    """Change colours, pixel by pixel: by tables of what becomes of each of the 256 levels."""
    if change.exposure is not None or change.gamma is not None or change.shift is not None:
        levels = _LEVELS
        if change.exposure is not None:
            factor, share = change.exposure
            added = share * sum(cv2.sumElems(image_HWC)) / image_HWC.size
            levels = _bytes(levels.astype(np.float32) * factor + added)
        if change.gamma is not None:
            levels = _bytes((levels / 255) ** change.gamma * 255)
        if change.shift is not None:
            levels = np.dstack([_bytes(levels.astype(int) + shift) for shift in change.shift])
        image_HWC = cv2.LUT(image_HWC, levels)
    if change.hue_saturation is not None:
        hue, saturation = change.hue_saturation
        deeper = _bytes(np.rint(_LEVELS + saturation))
        deeper[0] = 0  # what has no colour gets none
        tables = [np.mod(_LEVELS + hue, 180).astype(np.uint8), deeper, _LEVELS]
        hsv_HWC = cv2.LUT(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2HSV), np.dstack(tables))
        image_HWC = cv2.cvtColor(hsv_HWC, cv2.COLOR_HSV2RGB)
    if change.grey:
        image_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
        image_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_GRAY2RGB)
    return image_HWC


def _bytes(levels: np.ndarray) -> np.ndarray:
    return np.clip(levels, 0, 255).astype(np.uint8)
