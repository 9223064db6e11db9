"""Do labels fit their images? Two statistics of the labels as they are, and as if moved.

Both are cheap and need no network: labels that fit do so better than the same labels mirrored,
turned, shifted, zoomed or paired with other frames. Where a moved version fits better, the masks
were most likely moved when they were made. ``docs/data.md`` says how often this was right.

Shape suffixes: N frames, H rows, W columns, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from kdsweep.data.pictures import resize_image, resize_labels
from kdsweep.data.split import Split
from kdsweep.data.splitting import evenly_spaced
from kdsweep.labels import VOID

NUM_FRAMES = 60
LEAST_FRAMES = 12
HEIGHT = 90
# A moved version must be better by so much. Masks of road alone reach 1.19 upside down by chance.
_MARGIN = 1.25
# Labels that fit have so much more contrast than in other frames; 1.38 was the least, for poles.
_OVER_OTHERS = 1.1
OTHERS = "paired with other images"
_NUM_BANDS = 6
_LEVELS = 4  # of each colour channel

Move = Callable[[np.ndarray], np.ndarray]


def _shifted(down: float, right: float) -> Move:
    """Shares of height and width; what comes in from outside is void."""

    def move(labels_NHW: np.ndarray) -> np.ndarray:
        height, width = labels_NHW.shape[1:]
        dy, dx = round(down * height), round(right * width)
        moved = np.full_like(labels_NHW, VOID)
        target = moved[:, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        source = labels_NHW[
            :, max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
        ]
        target[...] = source
        return moved

    return move


def _zoomed(factor: float) -> Move:
    def move(labels_NHW: np.ndarray) -> np.ndarray:
        height, width = labels_NHW.shape[1:]
        rows = np.round((np.arange(height) + 0.5 - height / 2) / factor + height / 2 - 0.5)
        columns = np.round((np.arange(width) + 0.5 - width / 2) / factor + width / 2 - 0.5)
        is_inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
        rows = rows.clip(0, height - 1).astype(int)
        columns = columns.clip(0, width - 1).astype(int)
        return np.where(is_inside, labels_NHW[:, rows[:, None], columns], VOID)

    return move


MOVES: Mapping[str, Move] = {
    "mirrored": lambda labels: labels[:, :, ::-1],
    "upside down": lambda labels: labels[:, ::-1],
    "turned by 180°": lambda labels: labels[:, ::-1, ::-1],
    **{
        f"shifted {where} by {share:.0%}": _shifted(down * share, right * share)
        for share in (0.03, 0.1)
        for where, down, right in (
            ("down", 1, 0),
            ("up", -1, 0),
            ("right", 0, 1),
            ("left", 0, -1),
        )
    },
    "zoomed in by 10%": _zoomed(1.1),
    "zoomed out by 10%": _zoomed(1 / 1.1),
    OTHERS: lambda labels: np.roll(labels, len(labels) // 2, axis=0),
}
"""What may have been done to masks, by its name in "the masks fit better …"."""


@dataclass(frozen=True)
class Fit:
    """How well labels fit images.

    Attributes:
        contrast: Image gradient on borders between labels, over that elsewhere.
        information: Bits that the colour of a pixel tells about its label, beyond what the height
            in the picture tells; on frames that it was not fitted on.
    """

    contrast: float
    information: float


def fits_of(split: Split, num_classes: int) -> dict[str, Fit] | None:
    """Return how well labels fit as they are (``""``) and moved, by the name of the move.

    ``None`` where nothing can be told: of fewer than ``LEAST_FRAMES`` frames.

    Args:
        split: Decoded frames; at most ``NUM_FRAMES`` of them are looked at.
        num_classes: K.
    """
    chosen = evenly_spaced(range(len(split)), NUM_FRAMES)
    if len(chosen) < LEAST_FRAMES:
        return None
    height, width = split.image_size
    size = (HEIGHT, max(8, round(HEIGHT * width / height))) if height > HEIGHT else (height, width)
    images = np.stack([resize_image(split.images_NHWC[index], size) for index in chosen])
    labels = np.stack([resize_labels(split.labels_NHW[index], size) for index in chosen])
    gradients = np.stack([_gradient(image) for image in images])
    colours = _quantised(images)
    return {
        name: Fit(_contrast(gradients, moved), _information(colours, moved, num_classes))
        for name, moved in [("", labels), *((name, move(labels)) for name, move in MOVES.items())]
    }


def misfit(fits: Mapping[str, Fit]) -> str | None:
    """Return what speaks against labels, as the end of "the masks fit …", if anything does."""
    as_is = fits[""]
    better = {
        name: fit.contrast
        for name, fit in fits.items()
        if fit.contrast > _MARGIN * as_is.contrast and fit.information > as_is.information
    }
    if better:
        return f"their images better {max(better, key=lambda name: better[name])}"
    if as_is.contrast < _OVER_OTHERS * fits[OTHERS].contrast:
        return "other images as well as their own"
    return None


def _gradient(image_HWC: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
    right, down = np.zeros_like(grey), np.zeros_like(grey)
    right[:, :-1] = np.abs(np.diff(grey, axis=1))
    down[:-1] = np.abs(np.diff(grey, axis=0))
    return np.stack([right, down])


def _contrast(gradients_N2HW: np.ndarray, labels_NHW: np.ndarray) -> float:
    on, off, num_on, num_off = 0.0, 0.0, 0, 0
    for axis, (one, other) in enumerate(
        (
            (labels_NHW[:, :, :-1], labels_NHW[:, :, 1:]),
            (labels_NHW[:, :-1], labels_NHW[:, 1:]),
        )
    ):
        gradient = gradients_N2HW[:, axis, : one.shape[1], : one.shape[2]]
        known = (one != VOID) & (other != VOID)
        border = known & (one != other)
        inside = known & ~border
        on += float(gradient[border].sum())
        off += float(gradient[inside].sum())
        num_on, num_off = num_on + int(border.sum()), num_off + int(inside.sum())
    if not num_on or not off:
        return 0.0
    return (on / num_on) / (off / num_off)


def _quantised(images_NHWC: np.ndarray) -> np.ndarray:
    levels = images_NHWC.astype(np.int32) * _LEVELS // 256
    return (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]


def _information(colours_NHW: np.ndarray, labels_NHW: np.ndarray, num_classes: int) -> float:
    height = labels_NHW.shape[1]
    bands = (np.arange(height) * _NUM_BANDS // height)[None, :, None]
    cells = np.broadcast_to(bands, labels_NHW.shape) * _LEVELS**3 + colours_NHW
    num_cells = _NUM_BANDS * _LEVELS**3
    first = np.arange(len(labels_NHW)) % 2 == 0

    def counted(chosen: np.ndarray) -> np.ndarray:
        labels, where = labels_NHW[chosen], cells[chosen]
        known = labels != VOID
        flat = where[known] * num_classes + labels[known]
        counts = np.bincount(flat, minlength=num_cells * num_classes)
        return counts.reshape(_NUM_BANDS, -1, num_classes).astype(np.float64)

    total, bits = 0.0, 0.0
    one, two = counted(first), counted(~first)
    for fitted, scored in ((one, two), (two, one)):
        prior = fitted.sum(1, keepdims=True) + 1 / num_classes
        prior = prior / prior.sum(-1, keepdims=True)
        # Cells that were seldom seen say what the band says.
        given = (fitted + prior) / (fitted.sum(-1, keepdims=True) + 1)
        bits += float((scored * np.log2(given / prior)).sum())
        total += float(scored.sum())
    return bits / total if total else 0.0
