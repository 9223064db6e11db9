"""A student as a function of a picture, whatever file it lies in.

Shape legend: N frames, H W height and width of the model, C RGB channels, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from kdsweep.data.pictures import resize_image, resize_labels
from kdsweep.deploy.card import Card
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

    def __call__(self, image_HWC: np.ndarray) -> np.ndarray:
        """Class ids of a picture.

        The picture is resized to the size that the student was trained on, as its training images
        were, and the class ids back to the picture's.

        Args:
            image_HWC: uint8 RGB, of any size.

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
        frame_HWC = np.ascontiguousarray(resize_image(image_HWC, self.card.image_size))
        labels_HW = self.class_ids(frame_HWC[None])[0]
        height, width = image_HWC.shape[:2]
        return resize_labels(labels_HW, (height, width))


def _is_picture(image: object) -> bool:
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )
