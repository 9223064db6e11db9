"""What mask files hold, and the table of classes that would read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdsweep.data.classes_file import MAX_CLASSES, Colour, packed
from kdsweep.data.guessed_classes import listed
from kdsweep.data.pictures import mask_palette, read_mask
from kdsweep.data.sources.camvid import ORIGINAL
from kdsweep.data.sources.cityscapes import LABELS
from kdsweep.data.splitting import evenly_spaced
from kdsweep.labels import VOID

_LOOKED_AT = 200
_BLACK: Colour = (0, 0, 0)
_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
)


@dataclass(frozen=True)
class MaskValues:
    """What some masks hold.

    Attributes:
        modes: Number of files by kind, such as ``grey``, ``palette``, ``colour``.
        ids: Ids by their number of pixels; empty if there are colours.
        colours: RGB colours by their number of pixels.
        palette: The palette of the first file, uint8 of (C, 3), if it has one.
    """

    modes: dict[str, int]
    ids: dict[int, int]
    colours: dict[Colour, int]
    palette: np.ndarray | None

    def describe(self) -> str:
        """Return it in words: ``grey, ids 0 … 11``."""
        text = ", ".join(self.modes)
        if self.colours:
            return f"{text}, {len(self.colours)} colours"
        return f"{text}, ids {listed(sorted(self.ids))}"

    def table(self) -> dict[str, Any]:
        """Return a ``classes.yaml`` to begin with: names are known for some colours only."""
        if self.colours:
            colours = sorted(self.colours.keys() - {_BLACK}, key=lambda c: (-self.colours[c], c))
            colours = colours[:MAX_CLASSES]
            known = _names_of(colours)
            names = _distinct([known.get(c, f"class_{i}") for i, c in enumerate(colours)])
            found = {"names": names, "palette": [list(colour) for colour in colours]}
            return found | ({"void": [list(_BLACK)]} if _BLACK in self.colours else {})
        ids = [value for value in sorted(self.ids) if value != VOID]
        if len(ids) == 1 and VOID in self.ids:
            return {"names": {ids[0]: "background", VOID: "foreground"}}
        by_id = {value: f"class_{value}" for value in ids}
        if self.palette is not None and len(ids) == 21 and ids == list(range(21)):
            by_id = dict(enumerate(_VOC.split()))
        return {"names": by_id, "void": VOID}


def look_at(masks: Sequence[Path], *, every: bool = False) -> MaskValues:
    """Return what masks hold.

    Args:
        masks: Mask files.
        every: Look at every one, as a table of classes must; else at some evenly spaced ones.

    Raises:
        FrameError: A file cannot be read.
    """
    chosen = masks if every else evenly_spaced(masks, _LOOKED_AT)
    modes: Counter[str] = Counter()
    ids = np.zeros(256, np.int64)
    colours: Counter[int] = Counter()
    palettes = []
    for path in chosen:
        values = read_mask(path)
        palette = mask_palette(path) if values.ndim == 2 else None
        modes[_mode(path, values)] += 1
        if palette is not None:
            palettes.append(palette)
        if values.ndim == 3 and not (values == values[..., :1]).all():
            colours.update(_counted(packed(values)))
        else:
            ids += np.bincount(values.reshape(*values.shape[:2], -1)[..., 0].ravel(), minlength=256)
    alike = all((palettes[0][: len(p)] == p[: len(palettes[0])]).all() for p in palettes[1:])
    if not alike:  # colours are what they have in common
        ids[:] = 0
        for path in chosen:
            values, palette = read_mask(path), mask_palette(path)
            if palette is not None and values.ndim == 2:
                colours.update(_counted(packed(palette[values])))
    return MaskValues(
        modes=dict(modes),
        ids={} if colours else {int(v): int(ids[v]) for v in np.flatnonzero(ids)},
        colours={(c >> 16, c >> 8 & 255, c & 255): n for c, n in colours.items()},
        palette=palettes[0] if palettes else None,
    )


def _counted(colours_HW: np.ndarray) -> dict[int, int]:
    """Pixels of each packed colour; runs are sorted instead of pixels, which are far more."""
    flat = colours_HW.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    found, place = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(place, np.diff(np.append(starts, flat.size))).astype(np.int64)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _mode(path: Path, values: np.ndarray) -> str:
    if values.ndim == 3:
        return "grey stored in colour" if (values == values[..., :1]).all() else "colour"
    with Image.open(path) as picture:
        return {"P": "palette", "1": "1 bit"}.get(picture.mode, "grey")


def _names_of(colours: Sequence[Colour]) -> dict[Colour, str]:
    """Names in the published palette that has all of these colours; none where no palette has.

    The palettes share colours that mean other things: CamVid's building is Pascal VOC's aeroplane.
    """
    camvid = {c: ORIGINAL.names[k] for c, k in ORIGINAL.colours.items() if k != VOID}
    for known in ({label.colour: label.name for label in LABELS}, camvid):
        if known.keys() >= set(colours):
            return known
    return {}


def _distinct(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return found
