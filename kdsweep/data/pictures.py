"""Decoding picture files, and resizing frames.

Pillow decodes, because it turns damaged files into exceptions: OpenCV returns half-grey pictures
for cut JPEG files and writes its complaints to the terminal. Both are equally fast on PNG.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
LOSSLESS_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})
_RGB_MODES = frozenset({"RGB", "RGBA", "L", "P", "1", "CMYK", "YCbCr", "LA", "PA", "RGBX"})


class FrameError(Exception):
    """One file cannot be used; collected and shown with all others in one DataError.

    Args:
        path: The file.
        problem: What is wrong with it.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def read_rgb(path: Path) -> np.ndarray:
    """The picture as uint8 of (H, W, 3) in RGB.

    Raises:
        FrameError: The file is no picture, is cut off, or has more than 8 bits a channel.
    """
    with _decoding(path) as picture:
        if picture.mode not in _RGB_MODES:
            raise FrameError(path, f"mode {picture.mode!r}; images must have 8 bits a channel")
        return np.asarray(picture.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """The values of a mask file: uint8 of (H, W), or of (H, W, 3) for a coloured one.

    The pixels of a palette file are its indices, not its colours.

    Raises:
        FrameError: The file is no picture, is cut off, or has another number of bits.
    """
    with _decoding(path) as picture:
        if picture.mode in ("L", "P", "RGB"):
            return np.asarray(picture)
        if picture.mode == "1":
            return np.asarray(picture.convert("L")) // 255
        if picture.mode == "RGBA":
            return np.asarray(picture)[..., :3]
        raise FrameError(path, f"mode {picture.mode!r}; masks must have 8 bits a channel")


def mask_palette(path: Path) -> np.ndarray | None:
    """The colours stored in a palette mask, uint8 of (num_colours, 3); None for other files."""
    with _decoding(path) as picture:
        colours = picture.getpalette() if picture.mode == "P" else None
        return None if colours is None else np.array(colours, np.uint8).reshape(-1, 3)


class _decoding:  # noqa: N801  (reads as a verb at its call sites)
    """Opens and decodes a picture; whatever goes wrong becomes a :class:`FrameError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Image.Image:
        try:
            with self._path.open("rb") as stream:
                self._picture = Image.open(stream)
                self._picture.load()
        except FileNotFoundError:
            raise FrameError(self._path, "is not there") from None
        except Image.UnidentifiedImageError:
            size = self._path.stat().st_size
            raise FrameError(self._path, "is no picture" if size else "is an empty file") from None
        # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error, …
        # for damaged input; each of them is a damaged file and none a mistake of ours.
        except Exception as error:
            raise FrameError(self._path, f"cannot be decoded ({error})") from None
        return self._picture

    def __exit__(self, *_: object) -> None:
        self._picture.close()


def resize_image(image_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a photograph: area averages when it shrinks, linear interpolation otherwise."""
    height, width = image_HWC.shape[:2]
    if (height, width) == size:
        return image_HWC
    shrinks = size[0] <= height and size[1] <= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image_HWC, (size[1], size[0]), interpolation=method)


def resize_labels(labels_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes labels: each pixel takes the label found at its centre.

    This keeps every class's share of the pixels on average. A majority vote would fit the
    area-averaged image a little better, but it erases poles and road lines that are thinner than
    half a pixel; OpenCV's ``INTER_NEAREST`` takes corners instead of centres and so shifts labels
    against the image by up to half a (large) pixel.
    """
    height, width = labels_HW.shape
    if (height, width) == size:
        return labels_HW
    rows = ((np.arange(size[0]) + 0.5) * (height / size[0])).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * (width / size[1])).astype(np.intp)
    return labels_HW[rows[:, None], columns]
