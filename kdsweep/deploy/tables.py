"""Scores, intervals and times as text, and tables of them on the terminal. No torch."""

from __future__ import annotations

import math

from rich.table import Table

from kdsweep.deploy.bootstrap import Estimate

_MISSING = "–"


def plain_table(*columns: str | tuple[str, str]) -> Table:
    """A table without lines.

    Args:
        columns: Headers, of numbers; or of text, as ``(header, "left")``.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        header, side = column if isinstance(column, tuple) else (column, "right")
        table.add_column(header, justify="left" if side == "left" else "right")
    return table


def score(value: float | None, digits: int = 3) -> str:
    """A score, or a dash where there is none."""
    return _MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def change(value: float) -> str:
    """A difference of scores, with its sign."""
    return _MISSING if math.isnan(value) else f"{value:+z.4f}"


def ends(found: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """The ends of an interval; of differences with their signs."""
    if math.isnan(found.low):
        return _MISSING
    form = "+z.4f" if signed else f".{digits}f"
    return f"{found.low:{form}} to {found.high:{form}}"


def milliseconds(value: float) -> str:
    """A time with three digits, or as many as it has before the point."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"
