"""A student as a function of a picture, whatever file it lies in.

Shape legend: N frames, H W height and width of the model, C RGB channels, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from kdsweep.data.pictures import resize_image
from kdsweep.deploy.card import Card
from kdsweep.deploy.windows import Windows, sliding_logits
from kdsweep.errors import ConfigError


class DeployedModel(ABC):
    """A student to predict with.

    Args:
        card: What it says of itself.

    Attributes:
        card: Likewise.
    """

    def __init__(self, card: Card) -> None:
        self.card = card

    @abstractmethod
    def class_ids(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Class ids of frames that have the model's size.

        Args:
            images_NHWC: uint8 RGB.

        Returns:
            uint8 of (N, H, W).
        """

    @abstractmethod
    def logits(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Class scores of frames that have the model's size.

        Args:
            images_NHWC: uint8 RGB.

        Returns:
            float32 of (N, K, H, W).
        """

    def __call__(self, image_HWC: np.ndarray, windows: Windows | None = None) -> np.ndarray:
        """Class ids of a picture.

        The picture is resized to the size that the student was trained on, as its training images
        were, and the class scores back to the picture's.

        Args:
            image_HWC: uint8 RGB, of any size.
            windows: Look at the picture's own pixels in windows instead.

        Returns:
            uint8 of the picture's height and width.

        Raises:
            ConfigError: It is no such array.
        """
        if not _is_picture(image_HWC):
            kind = getattr(image_HWC, "dtype", type(image_HWC).__name__)
            raise ConfigError(
                "this is no picture to predict on",
                value=f"{kind} of shape {np.shape(image_HWC)}",
                allowed="a NumPy array, uint8, of shape (height, width, 3), in RGB",
            )
        if windows is not None:
            found_KHW = sliding_logits(self.logits, image_HWC, windows)
            return np.asarray(found_KHW.argmax(0).astype(np.uint8))
        height, width = image_HWC.shape[:2]
        frame_HWC = np.ascontiguousarray(resize_image(image_HWC, self.card.image_size))
        if (height, width) == self.card.image_size:
            return self.class_ids(frame_HWC[None])[0]
        return enlarged_class_ids(self.logits(frame_HWC[None])[0], (height, width))


def enlarged_class_ids(logits_Khw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The classes with the highest scores at another size, scores being interpolated linearly.

    One class after another, so that a large picture takes three planes and not K.

    Args:
        logits_Khw: float32.
        size: Height and width of the picture.

    Returns:
        uint8 of that size.
    """
    import cv2

    best_HW = np.full(size, -np.inf, np.float32)
    ids_HW = np.zeros(size, np.uint8)
    for k, logits_hw in enumerate(logits_Khw):
        # Between the middles of pixels, as torch does with align_corners=False.
        found_HW = cv2.resize(logits_hw, size[::-1], interpolation=cv2.INTER_LINEAR)
        ids_HW[found_HW > best_HW] = k
        np.maximum(best_HW, found_HW, out=best_HW)
    return ids_HW


def _is_picture(image: object) -> bool:
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )
