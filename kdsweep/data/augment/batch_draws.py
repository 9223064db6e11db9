"""What augmentation does to the frames of a batch: drawn on the host, for the device.

Shape suffixes: P numbers of a frame, K rows and columns of a blur's kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdsweep.data.augment.draws import (
    GRAIN_TILE_SIGMA,
    FrameChange,
    RandomCrop,
    draw_change,
    frame_numbers,
    gaussian_kernel,
    origin_matrix,
)
from kdsweep.data.augment.presets import Preset, preset_named

# Where in a frame's numbers what stands.
AFFINE = slice(0, 6)
"""Where a pixel comes from: the matrix from column and row to positions between -1 and 1."""
COARSE = slice(6, 9)
"""Share of the columns and of the rows that are left, and the step between two of them."""
EXPOSURE = slice(9, 11)
"""Factor, and share of the mean that is added."""
GAMMA = 11
SHIFT = slice(12, 15)
HUE_SATURATION = slice(15, 17)
GRAIN = 17
"""Factor of the tile of noise."""
NUM_VALUES = 18
_MOVES = ("rotation", "window")


class Draws(NamedTuple):
    """What is done to the frames of a batch.

    Attributes:
        numbers: float32: P for each frame, then the kernels of those that are blurred. One tensor,
            so that one copy takes it to the device.
        frames: Places in the batch that a step concerns, by the step's name. The host knows them,
            and need not ask the device.
        corners: Top and left of each cut from the tile of noise.
    """

    numbers: Tensor
    frames: dict[str, list[int]]
    corners: list[list[int]]

    def moves(self) -> Draws:
        """Return of these only what moves pixels, and leaves colours and sharpness alone."""
        return self._replace(frames={k: v for k, v in self.frames.items() if k in _MOVES})


class BatchDrawer:
    """Draws what is done to the frames of batches, on the host.

    A frame's draws depend on (seed, epoch, index) alone. What it takes is as for
    :class:`~kdsweep.data.augment.on_cpu.Augmenter`.
    """

    def __init__(
        self,
        preset: str,
        image_size: tuple[int, int],
        seed: int,
        crop: RandomCrop | None = None,
    ) -> None:
        self._preset = preset_named(preset)
        self._frame_size = image_size
        self._size = image_size if crop is None else crop.size
        self._crop = crop
        self._seed = seed
        # One size for all kernels of a preset: sums are then the same whatever else is in a batch.
        self._kernel_size = _largest_kernel(self._preset)

    def __call__(self, epoch: int, indices: Sequence[int]) -> Draws:
        """Draw for a batch of frames, by their numbers in the split."""
        frames: dict[str, list[int]] = {}
        if self._preset is None and self._crop is None:
            return Draws(torch.empty(0), frames, [])
        rows, kernels, corners = [], [], []
        for place, index in enumerate(indices):
            numbers = frame_numbers(self._seed, epoch, index)
            change = draw_change(self._preset, self._frame_size, numbers, self._crop)
            rows.append(_row(change, self._frame_size, self._size))
            for step in _steps(change):
                frames.setdefault(step, []).append(place)
            if change.kernel is not None:
                kernels.append(_padded(change.kernel, self._kernel_size))
            if change.grain is not None:
                corners.append([change.grain.top, change.grain.left])
        flat = np.concatenate([np.ravel(part) for part in (rows, kernels)])
        return Draws(torch.from_numpy(flat.astype(np.float32)), frames, corners)


def _row(change: FrameChange, frame_size: tuple[int, int], size: tuple[int, int]) -> list[float]:
    height, width = size
    scale = 1.0 if change.scale is None else change.scale
    grain = 0.0 if change.grain is None else change.grain.sigma / GRAIN_TILE_SIGMA
    return [
        *_affine(change, frame_size),
        *(round(width * scale) / width, round(height * scale) / height, 1 / scale),
        *(change.exposure or (1.0, 0.0)),
        1.0 if change.gamma is None else change.gamma,
        *(change.shift or (0, 0, 0)),
        *(change.hue_saturation or (0.0, 0.0)),
        grain,
    ]


def _steps(change: FrameChange) -> list[str]:
    """Names of the steps that change something about a frame."""
    concerned = {
        "rotation": change.degrees != 0,
        "window": change.window is not None,
        "coarse": change.scale is not None,
        "exposure": change.exposure is not None,
        "gamma": change.gamma is not None,
        "shift": change.shift is not None,
        "hue_saturation": change.hue_saturation is not None,
        "grey": change.grey,
        "blur": change.kernel is not None,
        "grain": change.grain is not None,
    }
    return [step for step, is_concerned in concerned.items() if is_concerned]


def _affine(change: FrameChange, image_size: tuple[int, int]) -> list[float]:
    """The matrix from a pixel's column and row to where it comes from.

    That is what ``grid_sample`` wants: between -1 and 1 from edge to edge.
    """
    height, width = image_size
    edges = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1]])
    found: list[float] = (edges @ origin_matrix(change, image_size)).ravel().tolist()
    return found


def _largest_kernel(preset: Preset | None) -> int:
    if preset is None or preset.flaw is None:
        return 1
    gaussian_K = gaussian_kernel(preset.flaw.blur[1])
    return max(len(gaussian_K), *(preset.flaw.motion or (1,)))


def _padded(kernel: np.ndarray, size: int) -> np.ndarray:
    kernel_KK = kernel if kernel.ndim == 2 else np.outer(kernel, kernel)
    return np.pad(kernel_KK, (size - len(kernel_KK)) // 2)
