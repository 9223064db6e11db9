"""Encoders on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from kdsweep.models.encoders import MOST_COUNTED, Encoder


def show_encoders(found: Sequence[Encoder], console: Console, *, complete: bool) -> None:
    """Print encoders as a table; ``complete`` where timm's were searched too."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("encoder", no_wrap=True)
    counted = len(found) <= MOST_COUNTED
    if counted:
        table.add_column("M params", justify="right", no_wrap=True)
    table.add_column("weights", overflow="fold")
    for one in found:
        size = "no stages" if one.params is None else f"{one.params / 1e6:.1f}"
        table.add_row(one.name, *([size] if counted else []), _weights(one))
    console.print(table)
    notes = []
    if not counted:
        notes.append(f"Parameters are counted of up to {MOST_COUNTED}: kdsweep encoders WORD.")
    elif any(one.usable is False for one in found):
        notes.append("no stages: it cannot be an encoder here.")
    if not complete:
        notes.append("tu-NAME is any of timm's: kdsweep encoders WORD searches them too.")
    for note in notes:
        console.print(note, markup=False, highlight=False)


def _weights(one: Encoder) -> str:
    if not one.weights:
        return "none published"
    return ", ".join(f"{name} (here)" if here else name for name, here in one.weights.items())
