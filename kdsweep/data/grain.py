"""Sensor noise that costs next to nothing.

The only module that imports albumentations at its top: it is imported when a preset needs it, after
``augment.py`` has set the environment.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from albumentations import ImageOnlyTransform

from kdsweep.data.frame_draws import GRAIN_MARGIN, GRAIN_TILE_SIGMA, grain_tile


class Grain(ImageOnlyTransform):
    """Adds Gaussian noise cut from a larger tile that is drawn once, at a random place.

    Drawing new noise for each frame takes several times as long as everything else that the
    standard preset does; a random cut-out of a fixed tile serves as well, since no network sees the
    tile.

    Args:
        sigma: Range of the standard deviation, in grey levels of 255.
        image_size: (height, width) of the frames.
        p: Probability.
    """

    def __init__(
        self, sigma: tuple[float, float], image_size: tuple[int, int], p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        self.sigma = sigma
        self.image_size = image_size
        self._tile_HWC = grain_tile(image_size)

    def get_params(self) -> dict[str, Any]:
        """Where the tile is cut, and how strong it is."""
        return {
            "top": self.py_random.randrange(GRAIN_MARGIN),
            "left": self.py_random.randrange(GRAIN_MARGIN),
            "strength": self.py_random.uniform(*self.sigma) / GRAIN_TILE_SIGMA,
        }

    def apply(
        self, img: np.ndarray, top: int, left: int, strength: float, **params: Any
    ) -> np.ndarray:
        """See albumentations."""
        height, width = self.image_size
        noise = self._tile_HWC[top : top + height, left : left + width]
        return cv2.addWeighted(img, 1.0, noise, strength, -128.0 * strength)
