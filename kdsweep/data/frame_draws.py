"""What augmentation does to a frame, drawn for it alone.

The numbers are drawn in the order in which albumentations 2.0 draws them, from the generators that
:class:`~kdsweep.data.augment.Augmenter` gives it. So a frame gets the same flip, crop, colours and
flaws whoever carries them out.
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kdsweep.data.presets import CROP, FLIP, STRETCH, Cast, Flaw, Preset, Span

GRAIN_MARGIN = 64
"""By how many pixels a tile of noise is larger than a frame."""

GRAIN_TILE_SIGMA = 32.0
"""Standard deviation of a tile of noise about 128."""


class Generators(NamedTuple):
    """A frame's sources of random numbers; albumentations draws from both.

    Attributes:
        arrays: numpy's.
        numbers: Python's.
    """

    arrays: np.random.Generator
    numbers: random.Random


def frame_generators(seed: int, epoch: int, index: int) -> Generators:
    """The generators of a frame in an epoch."""
    arrays = np.random.default_rng((seed, epoch, index))
    return Generators(arrays, random.Random(int(arrays.integers(2**63))))


class Crop(NamedTuple):
    """A part of a frame, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


class Grain(NamedTuple):
    """Where a tile of noise is cut, and the noise's standard deviation in grey levels."""

    top: int
    left: int
    sigma: float


@dataclass
class FrameChange:
    """What is done to one frame, in this order; the defaults change nothing.

    Attributes:
        flip: Left and right are swapped.
        degrees: Rotation about the middle, counter-clockwise.
        crop: What is scaled to the whole frame.
        exposure: Factor of all grey levels, and what is added as a share of their mean.
        gamma: Exponent of grey levels between 0 and 1.
        shift: Added to red, green and blue.
        hue_saturation: Added to hue (of 180) and saturation (of 255).
        grey: Whether colours are left out.
        kernel_KK: Of a blur; K is odd.
        scale: Resolution that is left.
        grain: Noise.
    """

    flip: bool = False
    degrees: float = 0.0
    crop: Crop | None = None
    exposure: Span | None = None
    gamma: float | None = None
    shift: tuple[int, int, int] | None = None
    hue_saturation: Span | None = None
    grey: bool = False
    kernel_KK: np.ndarray | None = None
    scale: float | None = None
    grain: Grain | None = None


def draw_change(preset: Preset, image_size: tuple[int, int], generators: Generators) -> FrameChange:
    """Draw what is done to a frame.

    Args:
        preset: What may be done.
        image_size: (height, width) of the frame.
        generators: Of the frame.
    """
    numbers = generators.numbers
    change = FrameChange()
    numbers.random()  # whether anything is done at all; it always is
    change.flip = numbers.random() < FLIP
    if preset.rotation is not None and numbers.random() < preset.rotation[0]:
        change.degrees = numbers.uniform(-preset.rotation[1], preset.rotation[1])
    if preset.crop is not None and numbers.random() < CROP:
        change.crop = _draw_crop(preset.crop, image_size, numbers)
    probability, limit = preset.exposure
    if numbers.random() < probability:
        contrast = 1.0 + numbers.uniform(-limit, limit)
        change.exposure = (contrast, numbers.uniform(-limit, limit))
    if preset.gamma is not None and numbers.random() < preset.gamma[0]:
        change.gamma = numbers.uniform(*preset.gamma[1]) / 100
    if preset.cast is not None and numbers.random() < preset.cast.probability:
        _draw_cast(change, preset.cast, generators)
    if preset.flaw is not None and numbers.random() < preset.flaw.probability:
        _draw_flaw(change, preset.flaw, generators)
    return change


def _draw_crop(least: float, image_size: tuple[int, int], numbers: random.Random) -> Crop:
    height, width = image_size
    aspect = width / height
    narrowest, widest = (math.log(stretch * aspect) for stretch in STRETCH)
    for _ in range(10):
        area = numbers.uniform(least * height * width, height * width)
        ratio = math.exp(numbers.uniform(narrowest, widest))
        crop_width = round(math.sqrt(area * ratio))
        crop_height = round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int((height - crop_height + 1) * numbers.random())
            left = int((width - crop_width + 1) * numbers.random())
            return Crop(left, top, crop_width, crop_height)
    return Crop(0, 0, width, height)


def _draw_cast(change: FrameChange, cast: Cast, generators: Generators) -> None:
    kinds = ["shift"]
    if cast.hue_saturation is not None:
        kinds.append("hue_saturation")
    if cast.grey:
        kinds.append("grey")
    kind = _draw_kind(kinds, generators)
    if kind == "shift":
        limit = cast.shift / 255.0
        generators.arrays.integers(0, 2**16)  # a seed for OpenCV, which shifts do not need
        red, green, blue = (
            math.trunc(255 * generators.arrays.uniform(-limit, limit)) for _ in range(3)
        )
        change.shift = (red, green, blue)
    elif kind == "hue_saturation":
        assert cast.hue_saturation is not None
        hue, saturation = (generators.numbers.uniform(-x, x) for x in cast.hue_saturation)
        generators.numbers.uniform(0, 0)  # value, which stays as it is
        change.hue_saturation = (hue, saturation)
    else:
        change.grey = True


def _draw_flaw(change: FrameChange, flaw: Flaw, generators: Generators) -> None:
    kinds = ["blur"]
    if flaw.motion is not None:
        kinds.append("motion")
    if flaw.scale is not None:
        kinds.append("scale")
    kind = _draw_kind([*kinds, "grain"], generators)
    numbers = generators.numbers
    if kind == "blur":
        kernel_K = blur_functions().create_gaussian_kernel_1d(numbers.uniform(*flaw.blur))
        change.kernel_KK = np.outer(kernel_K, kernel_K)
    elif kind == "motion":
        assert flaw.motion is not None
        change.kernel_KK = _draw_motion(flaw.motion, numbers)
    elif kind == "scale":
        assert flaw.scale is not None
        change.scale = numbers.uniform(*flaw.scale)
    else:
        top, left = numbers.randrange(GRAIN_MARGIN), numbers.randrange(GRAIN_MARGIN)
        change.grain = Grain(top, left, numbers.uniform(*flaw.grain))


def _draw_motion(lengths: tuple[int, int], numbers: random.Random) -> np.ndarray:
    functions = blur_functions()
    length = functions.sample_odd_from_range(numbers, *lengths)
    angle, direction = numbers.uniform(0, 360), numbers.uniform(-1, 1)
    kernel_KK: np.ndarray = functions.create_motion_kernel(
        length, angle, direction, allow_shifted=True, random_state=numbers
    )
    return kernel_KK / kernel_KK.sum()


def _draw_kind(kinds: list[str], generators: Generators) -> str:
    if len(kinds) == 1:
        return kinds[0]
    shares = [1 / len(kinds)] * len(kinds)
    return kinds[int(generators.arrays.choice(len(kinds), p=shares))]


def blur_functions() -> Any:
    """The functions with which albumentations makes its kernels."""
    # Before the first import: albumentations otherwise asks the network for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from albumentations.augmentations.blur import functional

    return functional


def grain_tile(image_size: tuple[int, int]) -> np.ndarray:
    """The tile that noise is cut from: always the same one for frames of a size.

    Returns:
        uint8 of (height + margin, width + margin, 3).
    """
    shape = (image_size[0] + GRAIN_MARGIN, image_size[1] + GRAIN_MARGIN, 3)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32) * GRAIN_TILE_SIGMA
    return np.clip(noise + 128, 0, 255).astype(np.uint8)
