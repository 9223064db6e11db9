"""The answer as one picture to share: a line of words, and accuracy over size."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterator

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from kdsweep.plain_text import printable
from kdsweep.reporting.figures.figure import short

_WIDTH, _HEIGHT = 1200, 675
_FINE = 2  # drawn so many times as large, and scaled down: Pillow's lines have hard edges
_LEFT, _RIGHT, _BOTTOM = 110, 50, 90  # margins of the axes, in pixels
_MOST_NAMED = 8
_PAPER, _INK, _MUTED, _GRID = "#ffffff", "#1b2330", "#5d6877", "#e3e8ee"
_STYLES = {"student": ("#0072b2", True), "control": ("#008f68", False)}
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_summary(table: pd.DataFrame, name: str, said: str, doubt: str, metric: str) -> bytes:
    """Return a PNG.

    Args:
        table: What :func:`~kdsweep.reporting.figures.networks` returned.
        name: Of the sweep.
        said: The answer in one line.
        doubt: What weakens it most; may be empty.
        metric: Name of the vertical axis.
    """
    sheet = _Sheet()
    top = sheet.words(printable(name), 20, 28, 20, _MUTED)
    top = sheet.words(printable(said), 34, top + 6, 2, _INK)
    if doubt:
        top = sheet.words(printable(doubt), 19, top + 8, 2, _MUTED)
    rows = table[table["role"].isin(_STYLES) & table["params_m"].notna() & table["best"].notna()]
    if len(rows):
        sheet.axes(rows, top + 50, metric)
    return sheet.png()


class _Sheet:
    """A picture that is drawn on; places and sizes are pixels of the final one."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (_FINE * _WIDTH, _FINE * _HEIGHT), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def png(self) -> bytes:
        """Return the file."""
        file = io.BytesIO()
        small = self._image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
        small.save(file, "PNG", optimize=True)
        return file.getvalue()

    def words(self, text: str, size: int, top: float, most: int, color: str) -> float:
        """Write a text in some lines at most, and return where it ends."""
        font = _font(size)
        lines: list[str] = []
        for word in text.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and font.getlength(longer) <= _FINE * (_WIDTH - 2 * _RIGHT):
                lines[-1] = longer
            else:
                lines.append(word)
        if len(lines) > most:
            lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
        for line in lines:
            self._text(_RIGHT, top, line, font, color, "la")
            top += 1.3 * size
        return top

    def axes(self, rows: pd.DataFrame, top: float, metric: str) -> None:
        """Draw a dot for each network, named where no other is smaller and better."""
        low, high = rows["best"].min(), rows["best"].max()
        room = max(0.1 * (high - low), 0.005)
        x_ticks = list(_ticks(0.0, 1.08 * rows["params_m"].max()))
        y_ticks = list(_ticks(low - room, high + 2 * room))
        right, bottom = 1.08 * rows["params_m"].max(), _HEIGHT - _BOTTOM

        def across(value: float) -> float:
            return _LEFT + value / right * (_WIDTH - _LEFT - _RIGHT)

        def down(value: float) -> float:
            return bottom - (value - low + room) / (high - low + 3 * room) * (bottom - top)

        font = _font(17)
        for value in y_ticks:
            self._line(_LEFT, down(value), _WIDTH - _RIGHT, down(value))
            self._text(_LEFT - 12, down(value), f"{value:.3f}", font, _MUTED, "rm")
        for value in x_ticks:
            self._text(across(value), bottom + 12, f"{value:g}", font, _MUTED, "ma")
        self._line(_LEFT, bottom, _WIDTH - _RIGHT, bottom)
        self._text(
            (_LEFT + _WIDTH - _RIGHT) / 2, bottom + 42, "parameters (millions)", font, _INK, "ma"
        )
        self._text(_RIGHT, top - 34, f"best {metric} of each network", font, _INK, "la")
        place = float(_WIDTH - _RIGHT)
        for role, (color, filled) in _STYLES.items():
            if not (rows["role"] == role).any():
                continue
            word = "student" if role == "student" else "without a teacher"
            self._text(place, top - 34, word, font, _INK, "ra")
            place -= font.getlength(word) / _FINE + 16
            self._dot(place, top - 24, color, filled)
            place -= 26
        named = 0
        for row in rows.sort_values("best", ascending=False).to_dict("records"):
            color, filled = _STYLES[row["role"]]
            x, y = across(row["params_m"]), down(row["best"])
            self._dot(x, y, color, filled)
            if row["front"] and named < _MOST_NAMED:
                named += 1
                label = html.unescape(short(row["name"]))  # which is made for plotly.js
                near_right = x > 0.8 * _WIDTH
                self._text(
                    x + (-14 if near_right else 14),
                    y,
                    label,
                    font,
                    _INK,
                    "rm" if near_right else "lm",
                )

    def _text(self, x: float, y: float, text: str, font: _Font, color: str, anchor: str) -> None:
        self._draw.text((_FINE * x, _FINE * y), text, color, font, anchor)

    def _line(self, x: float, y: float, to_x: float, to_y: float) -> None:
        ends = [(_FINE * x, _FINE * y), (_FINE * to_x, _FINE * to_y)]
        self._draw.line(ends, _GRID, _FINE)

    def _dot(self, x: float, y: float, color: str, filled: bool) -> None:
        box = [_FINE * (x - 7), _FINE * (y - 7), _FINE * (x + 7), _FINE * (y + 7)]
        self._draw.ellipse(box, color if filled else _PAPER, color, 3 * _FINE)


def _font(size: int) -> _Font:
    return ImageFont.load_default(size=_FINE * size)


def _ticks(low: float, high: float) -> Iterator[float]:
    """Yield some round numbers between two."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    value = math.ceil(low / step) * step
    while value <= high:
        yield round(value, 10)
        value += step
