"""``classes.yaml`` of a user's own data: what the values of the masks stand for.

Either the names in the order of their ids, or a mapping from the ids in the files::

    names: [road, car, person]          # or {7: road, 26: car, 24: person}
    palette: [[128, 64, 128], …]        # one colour a class, in the same order; optional
    void: 255                           # values that count nowhere: an id, a colour or a list

or what each class is made of, which may be several ids or colours::

    classes: {road: [7, 8], car: 26, void: [0, 255]}
    classes: {road: [[128, 64, 128], [157, 234, 50]], car: [[0, 0, 142]]}

``labelmap.txt``, as CVAT and LabelMe write it (``road:128,64,128::``), is read as well.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kdsweep.data.source import UnknownIdsError, lookup
from kdsweep.errors import DataError, did_you_mean
from kdsweep.labels import VOID

FILES = ("classes.yaml", "classes.yml", "labelmap.txt")
MAX_CLASSES = 255
_KEYS = ("names", "palette", "void", "classes")
_ALLOWED = (
    "names: [road, car, …]   palette: [[128, 64, 128], …] (optional)   void: 255 (optional); "
    "or classes: {road: [7, 8], void: 255}"
)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """What mask values stand for.

    Attributes:
        names: Class names by class id.
        palette: RGB colour of each class, uint8 of (K, 3).
        ids: Class id, or 255 for void, by the id in the files.
        colours: Likewise by the colour in the files; empty where colours were not given.
        others_are_void: Whether ids and colours that stand for no class are void, and no error.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    ids: Mapping[int, int]
    colours: Mapping[Colour, int] = field(default_factory=dict)
    others_are_void: bool = False

    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """Return class ids of a mask of ids (H, W) or of colours (H, W, 3)."""
        if mask.ndim == 3:
            if not self.colours and (mask == mask[..., :1]).all():
                return self.labels_from(mask[..., 0])
            return self._from_colours(mask)
        table = np.full(256, VOID if self.others_are_void else -1, np.int16)
        for file_id, class_id in self.ids.items():
            table[file_id] = class_id
        return lookup(mask, table)

    def _from_colours(self, mask: np.ndarray) -> np.ndarray:
        if not self.colours:
            raise UnknownIdsError("holds colours, and classes.yaml has no palette; colours are")
        codes = packed(np.array(list(self.colours), np.uint8))
        order = np.argsort(codes)
        codes, values = codes[order], np.array(list(self.colours.values()), np.uint8)[order]
        found = packed(mask)
        position = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        unknown = codes[position] != found
        if self.others_are_void:
            return np.where(unknown, np.uint8(VOID), values[position])
        if unknown.any():
            red, green, blue = mask[unknown][0]
            raise UnknownIdsError(f"holds the colour ({red}, {green}, {blue})")
        return values[position]


def classes_file(root: Path) -> Path | None:
    """Return the file in a folder that says what its masks hold, if there is one."""
    return next((root / name for name in FILES if (root / name).is_file()), None)


def read_classes(path: Path) -> ClassTable:
    """Read and check a ``classes.yaml`` or ``labelmap.txt``.

    Raises:
        DataError: The file is no YAML or says something that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = _labelmap(path, text) if path.suffix == ".txt" else YAML(typ="safe").load(text)
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no YAML that can be read\n  {error}") from None
    if not isinstance(document, dict):
        raise _wrong(path, "not a mapping", document)
    for key in document:
        if key not in _KEYS:
            raise _wrong(path, "unknown key", key, did_you_mean(str(key), _KEYS))
    if "classes" in document:
        if len(document) > 1:
            raise _wrong(path, "classes goes without other keys", list(document))
        return class_table(document["classes"], path)
    if "names" not in document:
        raise _wrong(path, "names are missing", list(document))
    ids, names = _names(path, document["names"])
    default = [] if VOID in ids else [VOID]
    void = document.get("void", default)
    void_ids, void_colours = _members(path, [void] if _is_colour(void) else void, "void")
    both = sorted(set(ids) & set(void_ids))
    if both:
        raise _wrong(path, "ids are a class and void at once", both)
    table = {file_id: number for number, file_id in enumerate(ids)} | dict.fromkeys(void_ids, VOID)
    given = document.get("palette")
    if given is None:
        return ClassTable(names, default_palette(len(names)), table)
    palette = _palette(path, given, names)
    colours = dict.fromkeys(void_colours, VOID)
    colours |= {_colour(colour): number for number, colour in enumerate(palette)}
    return ClassTable(names, palette, table, colours)


def class_table(given: Any, origin: Path | str) -> ClassTable:
    """Return the table that says of each class what it is made of.

    Args:
        given: By class name an id (0 … 255), a list of ids, or a list of [r, g, b] colours;
            ``void`` is what counts nowhere. An id 255 that nobody names is void.
        origin: Where it stands, for messages.

    Raises:
        DataError: It is no such mapping, or an id or colour stands for two classes.
    """
    if not isinstance(given, Mapping) or not set(given) - {"void"}:
        raise _wrong(origin, "not a mapping from names of classes to ids or colours", given)
    names = tuple(str(name) for name in given if name != "void")
    ids: dict[int, int] = {}
    colours: dict[Colour, int] = {}
    palette = default_palette(len(names))
    for name, members in given.items():
        number = VOID if name == "void" else names.index(str(name))
        own_ids, own_colours = _members(origin, members, name)
        twice = [m for m in (*own_ids, *own_colours) if m in ids or m in colours]
        if twice:
            raise _wrong(origin, f"{name}: {twice[0]} stands for another class already", members)
        ids |= dict.fromkeys(own_ids, number)
        colours |= dict.fromkeys(own_colours, number)
        if own_colours and number != VOID:
            palette[number] = own_colours[0]
    if ids:
        ids.setdefault(VOID, VOID)
    return ClassTable(names, palette, ids, colours)


def _labelmap(path: Path, text: str) -> dict[str, Any]:
    """``label:r,g,b:parts:actions``, a line each; ``background`` is a class as any other."""
    classes: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = [part.strip() for part in rest.partition(":")[0].split(",")]
        if len(colour) != 3 or not all(part.isdecimal() and int(part) <= 255 for part in colour):
            raise _wrong(path, "a line is not NAME:R,G,B:…", line)
        classes[name.strip()] = [[int(part) for part in colour]]
    return {"classes": classes}


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


def _members(
    origin: Path | str, given: Any, name: Any
) -> tuple[tuple[int, ...], tuple[Colour, ...]]:
    """The ids and the colours in what a user wrote for one class."""
    entries = given if isinstance(given, list | tuple) else [given]
    ids = tuple(entry for entry in entries if _is_id(entry))
    colours = tuple(_colour(entry) for entry in entries if _is_colour(entry))
    if len(ids) + len(colours) < len(entries):
        raise _wrong(origin, f"{name} must be ids 0 … 255, or a list of [r, g, b] colours", given)
    return ids, colours


def _colour(values: Any) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


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
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_id, value))


def packed(colours: np.ndarray) -> np.ndarray:
    """Return one number for each RGB colour, int32 without the last axis."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _wrong(path: Path | str, problem: str, value: object, hint: str | None = None) -> DataError:
    advice = f"\n  try:     {hint}" if hint else ""
    return DataError(f"{path}: {problem}\n  value:   {value!r}\n  allowed: {_ALLOWED}{advice}")
