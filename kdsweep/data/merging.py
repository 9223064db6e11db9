"""Classes merged, renamed or left out by the ``data:`` section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdsweep.errors import ConfigError, did_you_mean
from kdsweep.labels import VOID

_PATH = ("data", "classes")


def merged_classes(
    names: Sequence[str], given: Mapping[str, Any]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the new classes, and the new class id of each old one.

    A new class stands where the first of the old ones stood that it is made of.

    Args:
        names: The old classes by id.
        given: Names of old classes, one or a list, by new name; ``void`` for what counts nowhere.

    Returns:
        New names by class id; and uint8 of (256,), void for what is left out.

    Raises:
        ConfigError: An old class is not there or named twice, or a new name is taken.
    """
    target: dict[str, str] = {}
    for new, members in given.items():
        for member in members if isinstance(members, list | tuple) else [members]:
            if member not in names:
                raise ConfigError(
                    "the data has no such class",
                    path=(*_PATH, new),
                    value=member,
                    allowed=list(names),
                    hint=did_you_mean(str(member), names),
                )
            if member in target:
                raise ConfigError(
                    f"this class went into {target[member]} already",
                    path=(*_PATH, new),
                    value=member,
                )
            target[member] = new
    for new in given:
        if new in names and new not in target:
            raise ConfigError(
                "a class of that name stays as it is",
                path=(*_PATH, new),
                value=given[new],
                hint=f"{new}: [{new}, …] merges others into it",
            )
    moved = [target.get(name, name) for name in names]
    kept = list(dict.fromkeys(name for name in moved if name != "void"))
    if len(kept) < 2:
        raise ConfigError(
            "fewer than two classes are left", path=_PATH, value=dict(given), allowed="two or more"
        )
    table = np.full(256, VOID, np.uint8)
    for old, name in enumerate(moved):
        if name != "void":
            table[old] = kept.index(name)
    return tuple(kept), table
