"""Scores, intervals and times as text, and tables of them on the terminal. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from kdsweep.config.metrics import RESIZED
from kdsweep.deploy.bootstrap import Estimate
from kdsweep.deploy.windows import Windows

_MISSING = "–"


def scored_text(facts: Mapping[str, Any]) -> str:
    """Where predictions and labels were compared, and how images were looked at.

    Args:
        facts: Of an evaluation, as its JSON has them; those of before were all resized.
    """
    if facts.get("protocol", RESIZED) == RESIZED:
        return "whole images, scored at {}×{} (protocol resized)".format(*facts["image_size"])
    looked = "whole images, logits enlarged"
    if facts.get("window") is not None:
        looked = str(Windows(tuple(facts["window"]), tuple(facts["stride"])))
    size = facts.get("scored_size")
    there = "" if size is None else ", {}×{}".format(*size)
    return f"{looked}, scored at the labels' own size{there} (protocol native)"


def plain_table(*columns: str | tuple[str, str]) -> Table:
    """A table without lines, by its headers: of numbers; or of text, as ``(header, "left")``."""
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
