"""Palette masks: whether their indices stand for classes, or the colours behind them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kdsweep.data.classes_file import ClassTable
from kdsweep.data.pictures import FrameError, mask_palette
from kdsweep.errors import DataError


def find_difference(masks: Sequence[Path], root: Path) -> str | None:
    """Return how the palettes of masks differ; ``None`` if they do not, or there are none.

    A palette that ends before another one is equal to it as far as it goes. Only the heads of the
    files are read, and only if the first one is a palette file.
    """
    if not masks or mask_palette(masks[0]) is None:
        return None
    with ThreadPoolExecutor() as threads:
        found = threads.map(_palette_or_none, masks)
    longest, file = np.zeros((0, 3), np.uint8), masks[0]
    for path, palette in zip(masks, found, strict=True):
        if palette is None:
            continue
        both = min(len(longest), len(palette))
        other = np.flatnonzero((longest[:both] != palette[:both]).any(axis=1))
        if other.size:
            index = int(other[0])
            return (
                f"{index} is {_shown(longest[index])} in {_relative(file, root)} and "
                f"{_shown(palette[index])} in {_relative(path, root)}"
            )
        if len(palette) > len(longest):
            longest, file = palette, path
    return None


def check_indices(difference: str | None, root: Path) -> None:
    """Raise a DataError where indices of palette masks cannot stand for classes."""
    if difference is not None:
        raise DataError(
            f"folder: the palettes of the masks in {root} differ, so their indices do not stand "
            f"for classes: {difference}\n"
            f"  try:     give the colour of each class in classes.yaml (`palette:`); "
            f"kdsweep data {root} --write makes one\n"
            f"           or take the indices all the same: accept: [differing_palettes]"
        )


def as_colours(path: Path, indices: np.ndarray, table: ClassTable, alike: bool) -> np.ndarray:
    """Return the colours of a palette mask, where they are those of the classes.

    Args:
        path: The file.
        indices: What it holds: uint8 of (H, W).
        table: The classes and their colours.
        alike: Whether all masks have the same palette, whose indices may be ids.

    Returns:
        uint8 of (H, W, 3); or the indices, where there is no palette or one for display only.

    Raises:
        FrameError: Some colours are those of classes, and others are not.
    """
    palette = mask_palette(path) if indices.ndim == 2 else None
    if palette is None:
        return indices
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    if used[-1] >= len(palette):
        return indices
    colours = [(int(r), int(g), int(b)) for r, g, b in palette[used]]
    unknown = [colour for colour in colours if colour not in table.colours]
    if not unknown:
        return palette[indices]
    is_ramp = all(colour == (index,) * 3 for index, colour in zip(used, colours, strict=True))
    if is_ramp or (alike and len(unknown) == len(colours)):
        return indices
    raise FrameError(path, f"its palette has the colour {unknown[0]}, which is no class's")


def _palette_or_none(path: Path) -> np.ndarray | None:
    try:
        return mask_palette(path)
    except FrameError:  # reading it tells
        return None


def _shown(colour: np.ndarray) -> str:
    return f"({', '.join(str(int(value)) for value in colour)})"


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
