"""A contact sheet: image, mask and both of frames that show every class, the rarest first.

Shape suffixes: H rows, W columns, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kdsweep.data.dataset import SegmentationData
from kdsweep.data.health import Health
from kdsweep.data.pictures import resize_image, resize_labels
from kdsweep.data.source import SplitName
from kdsweep.data.split import Split
from kdsweep.labels import VOID

_MOST_ROWS = 12
_WIDTH = 320
_LINE, _GAP, _MARGIN = 20, 6, 10
_VOID_COLOUR = (255, 255, 255)


def write_sheet(health: Health, path: Path) -> int:
    """Draw the sheet, and return how many frames are on it.

    Args:
        health: A data set that was looked through.
        path: A picture file; its suffix says of which kind.
    """
    data = health.data
    rows = _chosen(health)
    height, width = data.train.image_size
    size = max(1, round(_WIDTH * height / width)), _WIDTH
    font = ImageFont.load_default(size=14)
    legend = _legend(data, font, 3 * _WIDTH + 2 * _GAP)
    total = legend.height + len(rows) * (size[0] + _LINE + _GAP) + 2 * _MARGIN
    sheet = Image.new("RGB", (3 * _WIDTH + 2 * _GAP + 2 * _MARGIN, total), (24, 24, 27))
    sheet.paste(legend, (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN + legend.height
    for split, index, what in rows:
        frames = _split(data, split)
        text = f"{what}   {frames.names[index]}"
        draw.text((_MARGIN, top + 2), text, font=font, fill=(230, 230, 230))
        image = resize_image(frames.images_NHWC[index], size)
        labels = resize_labels(frames.labels_NHW[index], size)
        mask = _coloured(labels, data.palette)
        both = np.where((labels == VOID)[..., None], image, (image // 2 + mask // 2))
        for column, picture in enumerate((image, mask, both)):
            left = _MARGIN + column * (_WIDTH + _GAP)
            sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (left, top + _LINE))
        top += size[0] + _LINE + _GAP
    sheet.save(path)
    return len(rows)


def _chosen(health: Health) -> list[tuple[SplitName, int, str]]:
    """For each class, rarest first, the frame that shows most of it; then any frames."""
    chosen: list[tuple[SplitName, int, str]] = []
    taken: set[tuple[SplitName, int]] = set()
    train = health.splits["train"]
    for k in np.argsort(train.frames_K, kind="stable"):
        for split in ("train", "val"):
            found = health.splits.get(split)
            facts = _split(health.data, split).facts
            if found is None or facts is None or not found.frames_K[k]:
                continue
            index = int(facts.pixels_NV[:, k].argmax())
            if (split, index) not in taken:
                taken.add((split, index))
                frames = found.frames_K[k]
                what = f"{health.data.classes[k]}: in {frames} of {found.num_frames} {split} frames"
                chosen.append((split, index, what))
            break
    return chosen[:_MOST_ROWS]


def _split(data: SegmentationData, name: SplitName) -> Split:
    split = {"train": data.train, "val": data.val, "test": data.test}[name]
    assert split is not None
    return split


def _coloured(labels_HW: np.ndarray, palette_KC: np.ndarray) -> np.ndarray:
    colours = np.full((256, 3), _VOID_COLOUR, np.uint8)
    colours[: len(palette_KC)] = palette_KC
    return colours[labels_HW]


def _legend(
    data: SegmentationData, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> Image.Image:
    """Each class with its colour, in as many lines as they take."""
    places, left, top = [], 0.0, 0
    for name in (*data.classes, "void"):
        needed = 34 + font.getlength(name)
        if left and left + needed > width:
            left, top = 0.0, top + _LINE
        places.append((left, top))
        left += needed
    legend = Image.new("RGB", (width, top + _LINE + _GAP), (24, 24, 27))
    draw = ImageDraw.Draw(legend)
    colours = [*map(tuple, data.palette.tolist()), _VOID_COLOUR]
    for (x, y), name, colour in zip(places, (*data.classes, "void"), colours, strict=True):
        draw.rectangle((x, y + 3, x + 14, y + 16), fill=colour, outline=(90, 90, 90))
        draw.text((x + 20, y + 1), name, font=font, fill=(230, 230, 230))
    return legend
