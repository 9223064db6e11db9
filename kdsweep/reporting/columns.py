"""Tables that fit the terminal: columns that matter least go first, long names are shortened last.

All text is drawn as it is: square brackets in a class or trial name are no markup, and control
characters never reach the terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.fields import Field, View

_GAP = 2
_ELLIPSIS = "…"


@dataclass(frozen=True)
class Column:
    """One column of a table on the terminal or in a paper.

    Attributes:
        header: Its heading, with the unit; may have several lines.
        cells: One text per row.
        keep: How long the column stays when space is short: the lowest go first, 9 never goes.
        text: Whether it holds names: left-aligned and shortened if need be. Numbers never are.
        least: Narrowest width that a text may be shortened to.
        style: Rich style of the cells.
        bold: Rows whose cell is the best, in papers.
    """

    header: str
    cells: Sequence[str]
    keep: int = 9
    text: bool = False
    least: int = 8
    style: str = ""
    bold: frozenset[int] = frozenset()

    @property
    def width(self) -> int:
        """Width that shows everything, in terminal cells."""
        lines = [*self.header.split("\n"), *(printable(cell) for cell in self.cells)]
        return max(cell_len(line) for line in lines)

    @property
    def least_width(self) -> int:
        """Width below which the column is of no use."""
        return min(self.width, max(self.least, cell_len(self.header))) if self.text else self.width


def declared(
    view: View,
    shown: pd.DataFrame,
    metric: str = "",
    more: Mapping[str, Sequence[Field]] | None = None,
    without: Collection[str] = (),
) -> list[Column]:
    """Return a declared table as columns of the terminal.

    Args:
        view: Its declaration.
        shown: Its rows.
        metric: The sweep's metric as a heading.
        more: As in :meth:`View.of`.
        without: Fields that are not to be shown.
    """
    columns = []
    for field in view.of(view.terminal, shown, more, without):
        name, unit = field.heading(metric)
        heading = "\n".join(filter(None, (field.narrow or name, unit)))
        cells = field.cells(shown[field.key])
        columns.append(Column(heading, cells, field.keep, field.is_text, field.least, field.style))
    return columns


def fit(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """Return the columns that fit into ``width`` terminal cells, each with its own width.

    Columns go in the order of ``keep``, of equal ones the last first. If all that must stay is
    still too wide, the widest texts are shortened beyond their least width.
    """
    kept = list(columns)
    while _total([c.least_width for c in kept]) > width:
        removable = [i for i, column in enumerate(kept) if column.keep < 9]
        if not removable:
            break
        kept.pop(min(removable, key=lambda i: (kept[i].keep, -i)))
    widths = [column.width for column in kept]
    while _total(widths) > width:
        shrinkable = [i for i, c in enumerate(kept) if c.text and widths[i] > 3]
        if not shrinkable:
            break
        # The texts above their least width give way first.
        roomy = [i for i in shrinkable if widths[i] > kept[i].least_width] or shrinkable
        widths[max(roomy, key=lambda i: widths[i])] -= 1
    return list(zip(kept, widths, strict=True))


def draw(title: str, columns: Sequence[Column], width: int) -> list[Text]:
    """Return a table of the columns that fit in ``width`` cells, as lines below its title."""
    fitted = fit(columns, width)
    headers = [column.header.split("\n") for column, _ in fitted]
    height = max(len(lines) for lines in headers)
    lines = [Text(_shortened(title, width), style="bold")]
    for index in range(height):
        # Headings stand at the bottom of their lines, next to the numbers.
        cells = [["", *h][max(index - height + len(h) + 1, 0)] for h in headers]
        lines.append(_line(fitted, cells, "bold"))
    lines.append(Text("─" * _total([cells for _, cells in fitted]), style="dim"))
    for row in zip(*(column.cells for column, _ in fitted), strict=True):
        lines.append(_line(fitted, row))
    return lines


def print_table(console: Console, title: str, columns: Sequence[Column]) -> None:
    """Print a table that has rows, and an empty line after it."""
    if columns and len(columns[0].cells):
        for line in draw(title, columns, console.width):
            console.print(line, no_wrap=True, crop=True)
        console.print()


def print_state(console: Console, name: str | None, state: str, reason: str | None) -> None:
    """Print a sweep's name and state, and why it paused."""
    head = Text(printable(name or "sweep"), style="bold")
    head.append(f"  {state}", style=formats.STATE_STYLES.get(state, "dim"))
    if reason:
        head.append(f" ({printable(formats.pause_reason(reason))})", style="dim")
    console.print(head)


def print_text(
    console: Console, text: str, style: str = "", wrap: bool = True, end: str = "\n"
) -> None:
    """Print plain text; unwrapped lines stay whole so that they can be copied."""
    console.print(Text(printable(text), style=style), soft_wrap=not wrap, end=end)


def print_bullet(console: Console, text: str) -> None:
    """Print a remark; its further lines stand below its words."""
    lines = Text(printable(text)).wrap(console, max(console.width - 2, 20))
    for index, line in enumerate(lines):
        line.rstrip()
        console.print(
            Text("· " if index == 0 else "  ", style="dim").append_text(line), style="dim"
        )


def print_facts(console: Console, facts: Sequence[str]) -> None:
    """Print short facts side by side; a line ends between two of them where that is possible."""
    line = ""
    for fact in map(printable, facts):
        longer = f"{line} · {fact}" if line else fact
        if line and cell_len(longer) > console.width:
            print_text(console, line)
            longer = fact
        line = longer
    print_text(console, line)


def _line(fitted: Sequence[tuple[Column, int]], cells: Sequence[str], style: str = "") -> Text:
    line = Text(style=style)
    for index, ((column, width), cell) in enumerate(zip(fitted, cells, strict=True)):
        cell = _shortened(cell, width)
        fill = " " * (width - cell_len(cell))
        line.append(" " * (_GAP if index else 0))
        line.append(cell + fill if column.text else fill + cell, style=style or column.style)
    line.rstrip()
    return line


def _shortened(text: str, width: int) -> str:
    text = printable(text)
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return text + _ELLIPSIS


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * max(len(widths) - 1, 0)
