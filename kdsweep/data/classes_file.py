"""``classes.yaml`` of a user's own data: what the values of the masks stand for.

Either the names in the order of their ids, or a mapping from the ids in the files::

    names: [road, car, person]          # or {7: road, 26: car, 24: person}
    palette: [[128, 64, 128], …]        # one colour a class, in the same order; optional
    void: 255                           # values that count nowhere: an id, a colour or a list
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kdsweep.data.source import UnknownIdsError, lookup
from kdsweep.errors import DataError, did_you_mean
from kdsweep.labels import VOID

MAX_CLASSES = 255
_KEYS = ("names", "palette", "void")
_ALLOWED = "names: [road, car, …]   palette: [[128, 64, 128], …] (optional)   void: 255 (optional)"

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """What mask values stand for.

    Attributes:
        names: Class names by class id.
        palette: RGB colour of each class, uint8.
        ids: The id in the files of each class.
        void_ids: Ids in the files that are void.
        void_colours: Colours in the files that are void.
        coloured: Whether the palette was given, so that coloured masks can be read.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    ids: tuple[int, ...]
    void_ids: tuple[int, ...] = (VOID,)
    void_colours: tuple[Colour, ...] = ()
    coloured: bool = False

    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """Class ids of a mask of ids (H, W) or of colours (H, W, 3)."""
        if mask.ndim == 3:
            if not self.coloured and (mask == mask[..., :1]).all():
                return self.labels_from(mask[..., 0])
            return self._from_colours(mask)
        table = np.full(256, -1, np.int16)
        table[list(self.void_ids)] = VOID
        table[list(self.ids)] = np.arange(len(self.ids))
        return lookup(mask, table)

    def _from_colours(self, mask: np.ndarray) -> np.ndarray:
        if not self.coloured:
            raise UnknownIdsError("holds colours, and classes.yaml has no palette; colours are")
        known = np.concatenate([self.palette, np.array(self.void_colours, np.uint8).reshape(-1, 3)])
        values = np.arange(len(known), dtype=np.int64)
        values[len(self.names) :] = VOID
        codes, order = np.unique(_packed(known), return_index=True)
        found = _packed(mask)
        position = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        unknown = codes[position] != found
        if unknown.any():
            red, green, blue = mask[unknown][0]
            raise UnknownIdsError(f"holds the colour ({red}, {green}, {blue})")
        return values[order][position].astype(np.uint8)


def read_classes(path: Path) -> ClassTable:
    """Reads and checks a ``classes.yaml``.

    Raises:
        DataError: The file is no YAML or says something that is not allowed.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no YAML that can be read\n  {error}") from None
    if not isinstance(document, dict):
        raise _wrong(path, "not a mapping", document)
    for key in document:
        if key not in _KEYS:
            raise _wrong(path, "unknown key", key, did_you_mean(str(key), _KEYS))
    if "names" not in document:
        raise _wrong(path, "names are missing", list(document))
    ids, names = _names(path, document["names"])
    default = [] if VOID in ids else [VOID]
    void_ids, void_colours = _void(path, document.get("void", default))
    both = sorted(set(ids) & set(void_ids))
    if both:
        raise _wrong(path, "ids are a class and void at once", both)
    palette = document.get("palette")
    colours = default_palette(len(names)) if palette is None else _palette(path, palette, names)
    return ClassTable(names, colours, ids, void_ids, void_colours, coloured=palette is not None)


def default_palette(num_classes: int) -> np.ndarray:
    """Colours that differ well, uint8 of (num_classes, 3): golden-angle hues in three tones."""
    tones = ((0.65, 0.95), (0.85, 0.7), (0.4, 0.8))
    colours = [
        colorsys.hsv_to_rgb(i * 0.381966 % 1, *tones[i % len(tones)]) for i in range(num_classes)
    ]
    return (np.array(colours) * 255).round().astype(np.uint8)


def _names(path: Path, given: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    pairs: list[tuple[Any, Any]] = []
    if isinstance(given, dict | list):
        pairs = list(given.items() if isinstance(given, dict) else enumerate(given))
    good = all(_is_id(i) and isinstance(name, str) and name for i, name in pairs)
    if not pairs or not good or len(pairs) > MAX_CLASSES:
        raise _wrong(path, "names must be a list of texts, or a mapping from ids 0 … 255", given)
    names = tuple(name for _, name in pairs)
    if len(set(names)) < len(names):
        raise _wrong(path, "names occur twice", sorted({n for n in names if names.count(n) > 1}))
    return tuple(i for i, _ in pairs), names


def _void(path: Path, given: Any) -> tuple[tuple[int, ...], tuple[Colour, ...]]:
    entries = given if isinstance(given, list) and not _is_colour(given) else [given]
    ids = tuple(entry for entry in entries if _is_id(entry))
    colours = tuple((e[0], e[1], e[2]) for e in entries if _is_colour(e))
    if len(ids) + len(colours) < len(entries):
        raise _wrong(path, "void must be an id 0 … 255, an [r, g, b] colour, or a list", given)
    return ids, colours


def _palette(path: Path, given: Any, names: Sequence[str]) -> np.ndarray:
    if not isinstance(given, list) or not all(map(_is_colour, given)):
        raise _wrong(path, "palette must be a list of [r, g, b] colours", given)
    if len(given) != len(names):
        raise _wrong(path, f"{len(names)} names but {len(given)} colours", len(given))
    if len({tuple(colour) for colour in given}) < len(given):
        raise _wrong(path, "two classes share a colour", given)
    return np.array(given, np.uint8)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_id, value))


def _packed(colours: np.ndarray) -> np.ndarray:
    """One number for each RGB colour."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _wrong(path: Path, problem: str, value: object, hint: str | None = None) -> DataError:
    advice = f"\n  try:     {hint}" if hint else ""
    return DataError(f"{path}: {problem}\n  value:   {value!r}\n  allowed: {_ALLOWED}{advice}")
