"""Augmentation on the CPU, repeatable frame by frame.

A frame's augmentation depends on (seed, epoch, index) alone. All transforms of a preset draw from
one generator that is set anew for each frame: setting each transform's own seed, as
``Compose.set_random_seed`` does, costs more and gives all of them the same stream, so that for
example only flipped frames would be blurred.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from kdsweep.data.frame_draws import frame_generators
from kdsweep.data.presets import CROP, FLIP, STRETCH, Cast, Flaw, Preset, preset_named
from kdsweep.labels import VOID

if TYPE_CHECKING:
    import albumentations


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
        preset: Its name.
        image_size: (height, width) of the frames.
        seed: First part of every frame's seed.
    """

    def __init__(self, preset: str, image_size: tuple[int, int], seed: int) -> None:
        self._seed = seed
        # One thread per process: frames are small, and the cores belong to training.
        cv2.setNumThreads(0)
        steps = preset_named(preset)
        self._transform = None if steps is None else _compose(steps, image_size)

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
        self._transform.set_random_state(*frame_generators(self._seed, epoch, index))
        done = self._transform(image=image_HWC, mask=labels_HW)
        return done["image"], done["mask"]


def _compose(preset: Preset, image_size: tuple[int, int]) -> albumentations.Compose:
    # Before the first import: albumentations otherwise asks the network for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    steps: list[Any] = [A.HorizontalFlip(p=FLIP)]
    if preset.rotation is not None:
        probability, degrees = preset.rotation
        steps.append(
            A.Rotate(
                limit=degrees,
                border_mode=cv2.BORDER_CONSTANT,
                fill_mask=VOID,
                mask_interpolation=cv2.INTER_NEAREST,
                p=probability,
            )
        )
    if preset.crop is not None:
        aspect = image_size[1] / image_size[0]
        steps.append(
            A.RandomResizedCrop(
                size=image_size,
                scale=(preset.crop, 1.0),
                ratio=(STRETCH[0] * aspect, STRETCH[1] * aspect),
                mask_interpolation=cv2.INTER_NEAREST,
                p=CROP,
            )
        )
    probability, limit = preset.exposure
    # Relative to the frame's mean: relative to white, dark frames would lose everything.
    steps.append(A.RandomBrightnessContrast(limit, limit, brightness_by_max=False, p=probability))
    if preset.gamma is not None:
        steps.append(A.RandomGamma(preset.gamma[1], p=preset.gamma[0]))
    if preset.cast is not None:
        steps.append(_one_of(_casts(preset.cast), preset.cast.probability))
    if preset.flaw is not None:
        steps.append(_one_of(_flaws(preset.flaw, image_size), preset.flaw.probability))
    return A.Compose(steps)


def _casts(cast: Cast) -> list[Any]:
    import albumentations as A

    found: list[Any] = [A.RGBShift(cast.shift, cast.shift, cast.shift)]
    if cast.hue_saturation is not None:
        found.append(A.HueSaturationValue(*cast.hue_saturation, 0))
    if cast.grey:
        found.append(A.ToGray())
    return found


def _flaws(flaw: Flaw, image_size: tuple[int, int]) -> list[Any]:
    import albumentations as A

    from kdsweep.data.grain import Grain

    found: list[Any] = [A.GaussianBlur(blur_limit=0, sigma_limit=flaw.blur)]
    if flaw.motion is not None:
        found.append(A.MotionBlur(blur_limit=flaw.motion))
    if flaw.scale is not None:
        found.append(A.Downscale(flaw.scale))
    return [*found, Grain(flaw.grain, image_size)]


def _one_of(kinds: list[Any], probability: float) -> Any:
    import albumentations as A

    if len(kinds) > 1:
        return A.OneOf(kinds, p=probability)
    kinds[0].p = probability
    return kinds[0]
