"""What a figure is, and how its parts are written so that plotly.js draws them safely.

Figures are plotly's own JSON, made without plotly's Python classes: these take seconds to validate
what tests validate once. Colours are CSS variables, which the page resolves for a light or a dark
screen.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.plain_text import printable
from kdsweep.reporting import formats

Trace = dict[str, Any]

# Roles that every figure colours alike; the page's stylesheet says which colours these are.
STUDENT, TEACHER, CONTROL = "var(--student)", "var(--teacher)", "var(--control)"
TOO_COSTLY = "var(--series-6)"
INK, MUTED = "var(--ink)", "var(--muted)"
SERIES = tuple(f"var(--series-{index})" for index in range(1, 7))
# Light to dark reads as little to much on a light page, and the other way round on a dark one.
SEQUENTIAL = [[0.0, "var(--low)"], [0.5, "var(--middle)"], [1.0, "var(--high)"]]
DIVERGING = [[0.0, "var(--worse)"], [0.5, "var(--neutral)"], [1.0, "var(--better)"]]

_LONGEST_LABEL = 28


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure of the report.

    Attributes:
        name: Names its files and its place in the page: letters, digits, dots and dashes.
        title: The question that it answers.
        caption: How to read it, in a sentence or two.
        tables: The numbers it shows by file name, each written as CSV.
        layout: What it changes of the page's layout.
        height: In pixels.
        least_width: Pixels below which the page scrolls it sideways.
        wide: Whether it takes the page's whole width.
    """

    name: str
    title: str
    caption: str
    tables: Mapping[str, pd.DataFrame]
    traces: Sequence[Trace]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 380
    least_width: int = 0
    wide: bool = False

    def to_plotly(self) -> dict[str, Any]:
        """Return the figure as ``Plotly.newPlot`` takes it, in plain JSON."""
        return {"data": list(self.traces), "layout": {"height": self.height, **self.layout}}


def safe(text: Any) -> str:
    """Return a name that plotly.js draws as it is: it would take ``<b>`` for markup."""
    return html.escape(printable(str(text)), quote=False)


def short(text: Any, longest: int = _LONGEST_LABEL) -> str:
    """Return a name for an axis: safe, and shortened in the middle if it is long."""
    name = printable(str(text))
    if len(name) > longest:
        half = (longest - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return html.escape(name, quote=False)


def listed(values: Iterable[Any], digits: int = 5) -> list[Any]:
    """Return numbers as JSON, to so many significant digits; ``None`` for missing or infinite."""
    column = pd.to_numeric(pd.Series(list(values)), errors="coerce").to_numpy(
        dtype=np.float64, na_value=np.nan
    )
    return [float(f"{number:.{digits}g}") if np.isfinite(number) else None for number in column]


def axis(title: str, **settings: Any) -> dict[str, Any]:
    """Return an axis with a title that names quantity and unit."""
    return {"title": {"text": title}, **settings}


def epoch_axis(title: str, longest: float) -> dict[str, Any]:
    """Return an axis of epochs, which are whole: a tick for each while they are few."""
    ticks = {"dtick": 1} if longest <= 12 else {}
    return axis(title, rangemode="tozero", **ticks)


def legend_above() -> dict[str, Any]:
    """Return a legend above the figure, where it takes no width and meets no axis title."""
    place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return {"orientation": "h", "traceorder": "normal", **place}


def colorbar(title: str) -> dict[str, Any]:
    """Return a narrow colour bar."""
    return {"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0}


def line(x0: float, y0: float, x1: float, y1: float, **settings: Any) -> dict[str, Any]:
    """Return a reference line; ``xref`` and ``yref`` may be ``paper``."""
    style = {"color": MUTED, "width": 1, **settings.pop("line", {})}
    return {
        "type": "line", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "line": style, "layer": "below",
        **settings,
    }  # fmt: skip


def trial_hovers(trials: pd.DataFrame) -> list[str]:
    """Return what trials are called where the pointer is on them."""
    return [
        f"trial {trial}, {safe(label)}, {formats.counted(epochs, 'epoch')}"
        for trial, label, epochs in trials[["trial", "label", "epochs"]].itertuples(index=False)
    ]
