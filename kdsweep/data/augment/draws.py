"""What is done to a frame, drawn for it alone: the one source of numbers for every preset.

Those who carry it out (``on_cpu.py``, ``on_device.py``) draw nothing themselves, so a frame gets
the same flip, crop, colours and flaws on either.

Shape suffix: K rows and columns of a blur's kernel.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kdsweep.data.augment.presets import CROP, FLIP, STRETCH, Cast, Flaw, Preset, Span

GRAIN_MARGIN = 64
"""By how many pixels a tile of noise is larger than a frame."""

GRAIN_TILE_SIGMA = 32.0
"""Standard deviation of a tile of noise about 128."""


def frame_numbers(seed: int, epoch: int, index: int) -> random.Random:
    """Return the random numbers of a frame in an epoch; nothing else decides what they are."""
    return random.Random(f"{seed} {epoch} {index}")


class Crop(NamedTuple):
    """A part of a frame, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


class RandomCrop(NamedTuple):
    """How crops of a scaled frame are drawn.

    Attributes:
        size: (height, width) of a crop.
        scale: Least and greatest factor of the frame's size.
    """

    size: tuple[int, int]
    scale: Span


class Window(NamedTuple):
    """What a crop shows of a frame, in pixels of the frame; it may reach beyond.

    Attributes:
        left, top: Its corner.
        step: From one of the crop's pixels to the next.
    """

    left: float
    top: float
    step: float


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
        window: What is scaled to a crop of a size of its own, in place of ``crop``.
        exposure: Factor of all grey levels, and what is added as a share of their mean.
        gamma: Exponent of grey levels between 0 and 1.
        shift: Added to red, green and blue.
        hue_saturation: Added to hue (of 180) and saturation (of 255).
        grey: Whether colours are left out.
        kernel: Of a blur, K odd: K numbers, the same for rows and columns, or K×K.
        scale: Resolution that is left.
        grain: Noise.
    """

    flip: bool = False
    degrees: float = 0.0
    crop: Crop | None = None
    window: Window | None = None
    exposure: Span | None = None
    gamma: float | None = None
    shift: tuple[int, int, int] | None = None
    hue_saturation: Span | None = None
    grey: bool = False
    kernel: np.ndarray | None = None
    scale: float | None = None
    grain: Grain | None = None


def draw_change(
    preset: Preset | None,
    image_size: tuple[int, int],
    numbers: random.Random,
    crop: RandomCrop | None = None,
) -> FrameChange:
    """Draw what is done to a frame.

    Args:
        preset: What may be done; nothing if left out.
        image_size: (height, width) of the frame.
        numbers: Of the frame.
        crop: Crops to draw in place of the preset's own.
    """
    window = None if crop is None else _draw_window(crop, image_size, numbers)
    if preset is None:
        return FrameChange(window=window)
    change = FrameChange(flip=numbers.random() < FLIP)
    if preset.rotation is not None and numbers.random() < preset.rotation[0]:
        change.degrees = numbers.uniform(-preset.rotation[1], preset.rotation[1])
    if window is not None:
        change.window = window
    elif preset.crop is not None and numbers.random() < CROP:
        change.crop = _draw_crop(preset.crop, image_size, numbers)
    probability, limit = preset.exposure
    if numbers.random() < probability:
        change.exposure = (1 + numbers.uniform(-limit, limit), numbers.uniform(-limit, limit))
    if preset.gamma is not None and numbers.random() < preset.gamma[0]:
        change.gamma = numbers.uniform(*preset.gamma[1]) / 100
    if preset.cast is not None and numbers.random() < preset.cast.probability:
        _draw_cast(change, preset.cast, numbers)
    if preset.flaw is not None and numbers.random() < preset.flaw.probability:
        _draw_flaw(change, preset.flaw, numbers)
    return change


def _draw_crop(least: float, image_size: tuple[int, int], numbers: random.Random) -> Crop:
    height, width = image_size
    narrowest, widest = (math.log(stretch * width / height) for stretch in STRETCH)
    for _ in range(10):
        area = numbers.uniform(least * height * width, height * width)
        ratio = math.exp(numbers.uniform(narrowest, widest))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int((height - crop_height + 1) * numbers.random())
            left = int((width - crop_width + 1) * numbers.random())
            return Crop(left, top, crop_width, crop_height)
    return Crop(0, 0, width, height)


def _draw_window(crop: RandomCrop, image_size: tuple[int, int], numbers: random.Random) -> Window:
    """Draw a scale, then a place: anywhere inside of the frame, or around one that is smaller."""
    step = 1 / numbers.uniform(*crop.scale)
    top, left = (
        (side - step * cut) * numbers.random()
        for side, cut in zip(image_size, crop.size, strict=True)
    )
    return Window(left, top, step)


def _draw_cast(change: FrameChange, cast: Cast, numbers: random.Random) -> None:
    there = {"shift": True, "hue_saturation": cast.hue_saturation is not None, "grey": cast.grey}
    kind = numbers.choice([name for name, is_there in there.items() if is_there])
    if kind == "shift":
        red, green, blue = (int(numbers.uniform(-cast.shift, cast.shift)) for _ in range(3))
        change.shift = (red, green, blue)
    elif kind == "hue_saturation":
        assert cast.hue_saturation is not None
        hue, saturation = (numbers.uniform(-limit, limit) for limit in cast.hue_saturation)
        change.hue_saturation = (hue, saturation)
    else:
        change.grey = True


def _draw_flaw(change: FrameChange, flaw: Flaw, numbers: random.Random) -> None:
    there = {"motion": flaw.motion is not None, "scale": flaw.scale is not None}
    kinds = ["blur", "grain", *(name for name, is_there in there.items() if is_there)]
    kind = numbers.choice(kinds)
    if kind == "blur":
        change.kernel = gaussian_kernel(numbers.uniform(*flaw.blur))
    elif kind == "motion":
        assert flaw.motion is not None
        change.kernel = _draw_motion(flaw.motion, numbers)
    elif kind == "scale":
        assert flaw.scale is not None
        change.scale = numbers.uniform(*flaw.scale)
    else:
        top, left = numbers.randrange(GRAIN_MARGIN), numbers.randrange(GRAIN_MARGIN)
        change.grain = Grain(top, left, numbers.uniform(*flaw.grain))


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Return the kernel of a Gaussian blur, as long as Pillow makes it.

    Args:
        sigma: Standard deviation in pixels.

    Returns:
        K numbers whose sum is 1.
    """
    margin = int(sigma * 3.5)
    kernel_K = np.exp(-0.5 * (np.arange(-margin, margin + 1) / sigma) ** 2)
    found: np.ndarray = kernel_K / kernel_K.sum()
    return found


def _draw_motion(lengths: tuple[int, int], numbers: random.Random) -> np.ndarray:
    """Draw the pixels on a line of any angle, the middle anywhere on it or a little beside it."""
    length = numbers.randrange(lengths[0], lengths[1] + 1, 2)
    half = length // 2
    angle, bias = numbers.uniform(0, 2 * math.pi), numbers.uniform(-1, 1)
    along = np.linspace(-half * (1 - max(bias, 0)), half * (1 + min(bias, 0)), length)
    row, column = (half + numbers.uniform(-half, half) / 2 for _ in range(2))
    places = [row + math.sin(angle) * along, column + math.cos(angle) * along]
    kernel_KK = np.zeros((length, length))
    kernel_KK[tuple(np.rint(places).clip(0, length - 1).astype(int))] = 1
    found: np.ndarray = kernel_KK / kernel_KK.sum()
    return found


def origin_matrix(change: FrameChange, image_size: tuple[int, int]) -> np.ndarray:
    """Return the 3×3 matrix from a pixel's column and row to those of where it comes from.

    Args:
        change: What is done.
        image_size: (height, width) of the frame that it is done to.
    """
    height, width = image_size
    matrix = np.eye(3)
    if change.window is not None:
        left, top, step = change.window
        matrix[:2] = [[step, 0, left + (step - 1) / 2], [0, step, top + (step - 1) / 2]]
    if change.crop is not None:
        left, top, crop_width, crop_height = change.crop
        across, down = crop_width / width, crop_height / height
        matrix[:2] = [[across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2]]
    if change.degrees:
        cos, sin = (f(math.radians(change.degrees)) for f in (math.cos, math.sin))
        x, y = (width - 1) / 2, (height - 1) / 2
        turn = [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]]
        matrix = np.array(turn) @ matrix
    if change.flip:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return matrix


def grain_tile(image_size: tuple[int, int]) -> np.ndarray:
    """Return the tile that noise is cut from: always the same one for frames of a size.

    Drawing new noise for each frame takes several times as long as everything else that the
    standard preset does; a random cut-out of a fixed tile serves as well, since no network sees the
    tile.

    Returns:
        uint8 of (height + margin, width + margin, 3).
    """
    shape = (image_size[0] + GRAIN_MARGIN, image_size[1] + GRAIN_MARGIN, 3)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32) * GRAIN_TILE_SIGMA
    return np.clip(noise + 128, 0, 255).astype(np.uint8)
