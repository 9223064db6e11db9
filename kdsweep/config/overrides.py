"""Changes to a document from the command line: ``--set path=value`` and ``--data SOURCE=PATH``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from kdsweep.config.checking import unknown_key
from kdsweep.config.data import BaseDataConfig
from kdsweep.config.document import Document, parse_value
from kdsweep.config.grammar import RANGE_KEYS, is_range
from kdsweep.config.schema_node import SchemaNode
from kdsweep.config.yaml_reader import Mark
from kdsweep.errors import ConfigError, ConfigPath, dotted

_ANYTHING = SchemaNode(Any)


def set_value(document: Document, text: str, keys: Mapping[str, SchemaNode]) -> None:
    """Put ``--set path=value`` into the document.

    Sections that are not there yet are made. A path may lead into a range
    (``student.encoder.values[0]``), and the value may be a range.

    Args:
        document: Changed in place.
        text: ``path=value``; the value is YAML.
        keys: The places at the top of the document.

    Raises:
        ConfigError: There is no such path, or the value is not valid YAML.
    """
    origin = f"--set {text}"
    left, equals, right = text.partition("=")
    if not equals or not left.strip():
        raise ConfigError(
            "not of the form path=value", allowed="for example train.epochs=4", file=origin
        )
    try:
        path = parse_path(left.strip())
        value = parse_value(right, origin)
        _put(document, path, value, keys, Mark(origin))
    except ConfigError as error:
        raise error.located(origin, None) from None


def set_data(document: Document, text: str, place: SchemaNode) -> None:
    """Put ``--data SOURCE=PATH`` into the document.

    Where the source changes, keys that all sources share (such as ``image_size``) stay, and those
    of the old source go.

    Args:
        document: Changed in place.
        text: ``SOURCE=PATH``.
        place: The place of the ``data`` section.
    """
    origin = f"--data {text}"
    source, equals, folder = text.partition("=")
    sources = place.tags()
    if not equals or not folder:
        raise ConfigError(
            "not of the form SOURCE=PATH", allowed="for example camvid=~/camvid", file=origin
        )
    if source not in sources:
        raise ConfigError("unknown source", value=source, allowed=list(sources), file=origin)
    before = document.tree.get("data")
    if is_range(before):
        raise ConfigError(
            "`data` is a range here, so there is no one source to replace",
            path=("data",),
            file=origin,
            hint="set it as a whole: --set 'data={source: …, path: …, image_size: […]}'",
        )
    kept = dict(before) if isinstance(before, Mapping) else {}
    if kept.get("source") != source:
        known = {key for section in sources.values() for key in section.model_fields}
        # What depends on the frames themselves goes as well.
        special = known - set(BaseDataConfig.model_fields) | {"classes", "accept", "image_bits"}
        kept = {key: value for key, value in kept.items() if key not in special}
    chosen = {"source": source, "path": os.path.abspath(os.path.expanduser(folder))}
    document.tree["data"] = {**chosen, **kept, **chosen}
    for key in chosen:
        _mark(document, ("data", key), Mark(origin))


def parse_path(text: str) -> ConfigPath:
    """``distill.hint.taps[0]`` as ``("distill", "hint", "taps", 0)``."""
    if not re.fullmatch(r"[^.\[\]\s]+(\.[^.\[\]\s]+|\[\d+\])*", text):
        raise ConfigError(
            "not a path", value=text, allowed="keys joined by dots, list items as [0]"
        )
    return tuple(
        int(index) if index else key for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", text)
    )


def place_at(tree: Any, path: ConfigPath, keys: Mapping[str, SchemaNode]) -> SchemaNode:
    """Return what may stand at ``path`` of a document.

    Args:
        tree: The document; it tells which of several sections stands somewhere.
        path: The path; it may lead into ranges.
        keys: The places at the top of the document.

    Raises:
        ConfigError: There is no such place.
    """
    place, node = _ANYTHING, tree
    for depth, part in enumerate(path):
        here = path[: depth + 1]
        if depth == 0:
            place = _child(keys, here, keys, None)
        elif is_range(node):
            place = _in_range(place, node, here)
        elif isinstance(node, list) and isinstance(part, int):
            if part >= len(node):
                raise ConfigError(
                    "there is no such item", path=here, allowed=f"0 to {len(node) - 1}"
                )
            # Inside of `values` the list is of choices, each of which stands for the place itself.
            place = place if path[depth - 1] == "values" else place.items or _ANYTHING
        elif isinstance(part, int) and place.items is not None:
            place = place.items
        elif place.sections and isinstance(part, str):
            place = _child(place.keys(node), here, keys, place)
        elif not place.is_open:
            raise ConfigError(
                f"`{dotted(path[:depth])}` has nothing below it",
                path=here,
                allowed=place.describe(),
            )
        node = _item(node, part)
    return place


def _child(
    known: Mapping[str, SchemaNode],
    path: ConfigPath,
    root: Mapping[str, SchemaNode],
    parent: SchemaNode | None,
) -> SchemaNode:
    part = path[-1]
    if part not in known:
        tagged = parent if parent is not None and parent.tag else None
        raise unknown_key(path, list(known), root=root, tagged=tagged)
    return known[str(part)]


def _in_range(place: SchemaNode, node: Mapping[str, Any], path: ConfigPath) -> SchemaNode:
    part, parent = path[-1], dotted(path[:-1])
    if part not in RANGE_KEYS:
        choice = f"{parent}.values[0]" if "values" in node else f"{parent}.min"
        choice += f".{part}" if "values" in node and place.sections else ""
        raise ConfigError(
            f"`{parent}` is a range here",
            path=path,
            value=dict(node),
            hint=f"set a part of the range, such as {choice}, or {parent} as a whole",
        )
    return place if part in ("values", "value") else _ANYTHING


def _put(
    document: Document, path: ConfigPath, value: Any, keys: Mapping[str, SchemaNode], mark: Mark
) -> None:
    place_at(document.tree, path, keys)
    node: Any = document.tree
    for depth, part in enumerate(path[:-1]):
        below = _item(node, part)
        if not isinstance(below, dict | list):
            if isinstance(path[depth + 1], int):
                raise ConfigError(
                    "there is no list here yet", path=path, hint=f"set all of {dotted(path[:-1])}"
                )
            below = {}
            _mark(document, path[: depth + 1], mark)
        node[part] = below
        node = below
    node[path[-1]] = value
    _mark(document, path, mark)


def _mark(document: Document, path: ConfigPath, mark: Mark) -> None:
    """Note that everything from ``path`` on down comes from an override."""
    size = len(path)
    document.marks = {p: m for p, m in document.marks.items() if p[:size] != path}
    document.marks[path] = mark
    document.blanks = {p for p in document.blanks if p[:size] != path}


def _item(node: Any, part: str | int) -> Any:
    if isinstance(node, Mapping):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return None
