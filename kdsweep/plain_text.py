"""Texts of others (names of files and classes, messages), safe for terminals and spreadsheets."""

from __future__ import annotations

# Spreadsheets run a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """Return the text with line breaks and control characters made harmless."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "·" for c in text)


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
