"""The catalogue of losses on the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdsweep.distill.catalogue import HEADINGS, Entry, short_taps

_WIDEST = 100  # lines longer than this are hard to read
_CODE = re.compile(r"``(.+?)``", re.DOTALL)


def show_all(entries: Sequence[Entry], console: Console) -> None:
    """Print the losses as a table, and how to read on."""
    table = _table()
    table.add_column("loss", no_wrap=True, style="bold")
    table.add_column("what it compares")
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("T", justify="right", no_wrap=True)
    table.add_column("taps", no_wrap=True)
    table.add_column("paper", no_wrap=True)
    for entry in entries:
        weight, temperature = entry.default("weight"), entry.default("temperature")
        table.add_row(
            entry.name,
            _styled(entry.compares.removesuffix(".")),
            "–" if weight is None else f"{weight:g}",
            "–" if temperature is None else f"{temperature:g}",
            short_taps(entry.default("taps") or ("logits",)),
            entry.paper,
        )
    console.print(table)
    console.print(Text("weight and T (temperature) are defaults; papers are numbers on arXiv."))
    console.print(Text("kdsweep losses NAME explains one, with all its keys."))


def show_one(entry: Entry, console: Console) -> None:
    """Print all there is about a loss."""
    width = min(console.width, _WIDEST)
    _print(f"{entry.name}: {entry.compares}", console, width)
    console.print()
    _print(entry.formula, console, width)
    for heading in HEADINGS:
        if heading in entry.sections:
            console.print(Text(f"\n{heading}", style="bold"))
            _print(entry.sections[heading], console, width, indent=2)
    table = _table()
    table.add_column("key", no_wrap=True, style="cyan")
    table.add_column("default", min_width=8)
    table.add_column("meaning")
    for key in entry.keys:
        table.add_row(
            key.name, Text(key.default), _styled(f"{key.meaning} Allowed: {key.allowed}.")
        )
    console.print(Text(f"\nKeys of distill.{entry.name}", style="bold"))
    console.print(table, width=width)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _print(text: str, console: Console, width: int, indent: int = 0) -> None:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            console.print()
        for line in _styled(" ".join(paragraph.split())).wrap(console, width - indent):
            line.rstrip()
            console.print(Text(" " * indent).append_text(line))


def _styled(text: str) -> Text:
    """Text with what stands between double backticks in colour instead."""
    styled = Text()
    for number, part in enumerate(_CODE.split(text)):
        styled.append(part, style="cyan" if number % 2 else "")
    return styled
