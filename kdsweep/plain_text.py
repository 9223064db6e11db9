"""Texts of others (names, messages), safe for terminals and spreadsheets; numbers of things."""

from __future__ import annotations

import re

# Spreadsheets run a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_MARKDOWN = re.compile(r"[\\`*\[\]~$|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def printable(text: str) -> str:
    """Return the text with line breaks and control characters made harmless."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "·" for c in text)


def counted(num: int, noun: str) -> str:
    """Return ``1 control`` or ``2 controls``; the plural of a noun in s ends in es."""
    return f"{num} {noun}{'' if num == 1 else 'es' if noun.endswith('s') else 's'}"


def csv_cell(value: object) -> object:
    """Return what a cell of a CSV file may hold: a text that would be a formula gets a quote first.

    Numbers stay as they are, those that are written as texts too.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def markdown(text: str) -> str:
    """Return text as Markdown shows it: no markup, no HTML, no link."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", plain)
    # Some renderers make links of bare addresses.
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")
