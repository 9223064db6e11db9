"""How numbers, names and times are written in a report; a dash stands for what is not there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

MISSING = "–"


def score(value: Any) -> str:
    """An mIoU or IoU: ``0.623``."""
    return number(value, ".3f")


def gain(value: Any) -> str:
    """A difference of two: ``+0.012``."""
    return number(value, "+.3f")


def number(value: Any, form: str) -> str:
    """A number in a format of Python's."""
    return MISSING if value is None or pd.isna(value) else format(value, form)


def setting(value: Any) -> str:
    """A drawn parameter of any kind."""
    if isinstance(value, float) and not math.isnan(value):
        return f"{value:.3g}"
    return number(value, "") if value is None or pd.isna(value) else str(value)


def names(values: Iterable[Any]) -> list[str]:
    """Names of a table's column."""
    return [MISSING if pd.isna(value) else str(value) for value in values]


def few(values: Sequence[Any]) -> str:
    """The first of many: ``3, 7, 12, 15, …``."""
    return ", ".join([*map(str, values[:4]), *(["…"] if len(values) > 4 else [])])


def counted(num: int, noun: str) -> str:
    """``1 control``, ``2 controls``."""
    return f"{num} {noun}{'' if num == 1 else 's'}"


def duration(hours: float) -> str:
    """A time in the unit that suits it: ``1.5 h``, ``2.5 min``, ``40 s``."""
    unit, factor, form = time_unit(hours)
    return f"{hours * factor:{form}} {unit}"


def time_unit(longest_hours: float) -> tuple[str, float, str]:
    """The unit that suits a column of times, its number in an hour, and the format."""
    if math.isnan(longest_hours) or longest_hours >= 1:
        return "h", 1.0, ".1f"
    if longest_hours >= 1 / 30:
        return "min", 60.0, ".1f"
    return "s", 3600.0, ".0f"


def shortest_names(paths: Sequence[str]) -> dict[str, str]:
    """Each dotted path's shortest ending that no other path shares: ``train.lr`` is ``lr``."""
    short = {}
    for path in paths:
        parts = path.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [f".{other}" for other in paths if other != path]
        unique = (e for e in endings if not any(o.endswith(f".{e}") for o in others))
        short[path] = next(unique, path)
    return short
