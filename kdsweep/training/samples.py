"""A sheet of validation frames with truth and predictions, for people to look at.

Shape legend: H W image size, C colour channels, K classes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image

from kdsweep.labels import VOID

_GAP = 4
_HEADING = 18
_BACKGROUND = 255
_VOID_COLOUR = np.zeros(3, np.uint8)


def colourize(labels_HW: np.ndarray, palette_KC: np.ndarray) -> np.ndarray:
    """Labels as RGB; void is black.

    Args:
        labels_HW: Class ids, 255 = void.
        palette_KC: uint8 RGB of each class.

    Returns:
        uint8 of shape (H, W, 3).
    """
    table = np.broadcast_to(_VOID_COLOUR, (256, 3)).copy()
    table[: len(palette_KC)] = palette_KC
    table[VOID] = _VOID_COLOUR
    return table[labels_HW]


def label_png(labels_HW: np.ndarray, palette_KC: np.ndarray) -> bytes:
    """Labels as a PNG that keeps the class ids and still shows their colours.

    Args:
        labels_HW: Class ids, 255 = void.
        palette_KC: uint8 RGB of each class; it becomes the picture's palette.
    """
    picture = Image.fromarray(np.ascontiguousarray(labels_HW, np.uint8))
    picture.putpalette(colourize(np.arange(256, dtype=np.uint8)[None], palette_KC).tobytes())
    return _png(picture)


def image_png(image_HWC: np.ndarray) -> bytes:
    """A uint8 RGB picture as a PNG."""
    return _png(Image.fromarray(np.ascontiguousarray(image_HWC)))


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def sample_sheet(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Mapping[str, Sequence[np.ndarray]],
    palette_KC: np.ndarray,
) -> np.ndarray:
    """A row a frame: image, truth, each network's prediction, the last network's errors.

    Args:
        images: uint8 RGB, H×W×3 each.
        labels: Class ids, H×W each, 255 = void.
        predictions: Class ids by network, in the order of the columns.
        palette_KC: uint8 RGB of each class.

    Returns:
        uint8 RGB picture.
    """
    rows = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        cells = [image, colourize(label, palette_KC)]
        for predicted in predictions.values():
            # What is void in the labels is not scored, so it is not shown either.
            shown = np.where(label == VOID, VOID, predicted[index])
            cells.append(colourize(shown, palette_KC))
        if predictions:
            last = list(predictions.values())[-1][index]
            cells.append(_errors(image, label, last))
        rows.append(_join(cells, axis=1))
    body = _join(rows, axis=0)
    columns = ["image", "truth", *predictions, *(["errors"] if predictions else [])]
    return np.concatenate([_heading(columns, images[0].shape[1], body.shape[1]), body])


def _errors(image: np.ndarray, label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The frame in grey, wrong pixels in red."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = (grey * 0.6 + 60).astype(np.uint8)
    picture[(label != VOID) & (label != predicted)] = (220, 40, 40)
    return picture


def _join(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, _BACKGROUND, np.uint8)
    spaced = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(spaced, axis=axis)


def _heading(columns: Sequence[str], width: int, total: int) -> np.ndarray:
    strip = np.full((_HEADING, total, 3), _BACKGROUND, np.uint8)
    for index, text in enumerate(columns):
        origin = (index * (width + _GAP) + 2, _HEADING - 5)
        cv2.putText(
            strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA
        )
    return strip
