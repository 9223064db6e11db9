"""Augmentation presets, repeatable frame by frame.

A frame's augmentation depends on (seed, epoch, index) alone. All transforms of a preset draw from
one generator that is set anew for each frame: setting each transform's own seed, as
``Compose.set_random_seed`` does, costs more and gives all of them the same stream, so that for
example only flipped frames would be blurred.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from kdsweep.labels import VOID

if TYPE_CHECKING:
    import albumentations

PRESETS = ("none", "light", "standard", "strong")


class Augmenter:
    """Augments frames of one size by a named preset.

    The presets:

    * ``none``: nothing.
    * ``light``: flip; brightness and contrast.
    * ``standard``: flip; crop of 35 to 100 % of the area, scaled back; brightness, contrast and
      gamma; colour cast; now and then blur or noise.
    * ``strong``: like ``standard`` with crops down to 15 %, small rotations, hue and saturation,
      motion blur, coarse resolution and heavier noise.

    ``standard`` leaves out what costs more than all the rest together: hue shifts, and Gaussian
    noise as albumentations draws it (:class:`~kdsweep.data.grain.Grain` is its cheap stand-in).

    Args:
        preset: One of :data:`PRESETS`.
        image_size: (height, width) of the frames.
        seed: First part of every frame's seed.
    """

    def __init__(self, preset: str, image_size: tuple[int, int], seed: int) -> None:
        self._seed = seed
        # One thread per process: frames are small, and the cores belong to training.
        cv2.setNumThreads(0)
        self._transform = None if preset == "none" else _compose(preset, image_size)

    def __call__(
        self, image_HWC: np.ndarray, labels_HW: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The frame as epoch ``epoch`` shows it; the arguments are left as they are.

        Args:
            image_HWC: uint8, RGB.
            labels_HW: uint8, 255 = void.
            epoch: Number of the epoch.
            index: Number of the frame in its split.
        """
        if self._transform is None:
            return image_HWC, labels_HW
        generator = np.random.default_rng((self._seed, epoch, index))
        numbers = random.Random(int(generator.integers(2**63)))
        self._transform.set_random_state(generator, numbers)
        done = self._transform(image=image_HWC, mask=labels_HW)
        return done["image"], done["mask"]


def _compose(preset: str, image_size: tuple[int, int]) -> albumentations.Compose:
    # Before the first import: albumentations otherwise asks the network for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    from kdsweep.data.grain import Grain

    height, width = image_size
    aspect = width / height

    def crop(least: float) -> Any:
        return A.RandomResizedCrop(
            size=image_size,
            scale=(least, 1.0),
            ratio=(0.8 * aspect, 1.25 * aspect),
            mask_interpolation=cv2.INTER_NEAREST,
            p=0.9,
        )

    def exposure(limit: float, p: float) -> Any:
        # Relative to the frame's mean: relative to white, dark frames would lose everything.
        return A.RandomBrightnessContrast(limit, limit, brightness_by_max=False, p=p)

    if preset == "light":
        transforms = [A.HorizontalFlip(p=0.5), exposure(0.15, p=0.5)]
    elif preset == "standard":
        transforms = [
            A.HorizontalFlip(p=0.5),
            crop(0.35),
            exposure(0.25, p=0.6),
            A.RandomGamma((75, 135), p=0.3),
            A.RGBShift(10, 10, 10, p=0.3),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2)),
                    Grain((2, 8), image_size),
                ],
                p=0.2,
            ),
        ]
    elif preset == "strong":
        transforms = [
            A.HorizontalFlip(p=0.5),
            A.Rotate(
                limit=7,
                border_mode=cv2.BORDER_CONSTANT,
                fill_mask=VOID,
                mask_interpolation=cv2.INTER_NEAREST,
                p=0.3,
            ),
            crop(0.15),
            exposure(0.35, p=0.7),
            A.RandomGamma((60, 160), p=0.4),
            A.OneOf([A.RGBShift(15, 15, 15), A.HueSaturationValue(12, 40, 0), A.ToGray()], p=0.5),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 2.0)),
                    A.MotionBlur(blur_limit=(3, 7)),
                    A.Downscale((0.4, 0.8)),
                    Grain((5, 16), image_size),
                ],
                p=0.35,
            ),
        ]
    else:
        raise ValueError(f"unknown preset {preset!r}, known are {', '.join(PRESETS)}")
    return A.Compose(transforms)
