"""How a table is declared: its columns, their headings, units and formats, and who shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from kdsweep.config.metrics import metric_of
from kdsweep.reporting import formats

# name: a text; cell: a text ranged like a number; count: whole; amount: three digits or so, alike
# in all rows; score and gain: of a metric; share: of 1, in per cent; loss, p: floats; hours: in the
# unit that suits them; setting: a drawn value of any kind.
Kind = Literal[
    "name", "cell", "count", "amount", "size", "score", "gain", "share", "loss", "p", "hours",
    "setting",
]  # fmt: skip
# No gain is +0.000, never -0.000.
_FORMS = {"count": "d", "size": ".1f", "score": ".3f", "gain": "+z.3f", "loss": ".3g", "p": ".3f"}


@dataclass(frozen=True)
class Field:
    """One column.

    Attributes:
        key: Column of the table that it shows.
        name, unit: Its heading. Where the name has a line break the terminal has one too; others
            have a space. ``{metric}`` stands for the sweep's metric; ``{%}`` and ``{points}`` for
            the units of its values and of gains in papers, which others do not name.
        narrow: Its name on the terminal, where that is too wide.
        missing: What stands for a name that is not there.
        kind: How its values are written.
        keep: How long it stays when the terminal is narrow: the lowest go first, 9 never goes.
        least: Narrowest width that a name may be shortened to there.
        style: Of its cells there.
        bold: Whether papers have its best value in bold.
        known: Whether terminal and papers leave it out where no row knows it; the page always does.
            Its table may do without it then.
        form: Format of numbers, where it is not that of their kind.
        metric: What a score or gain is measured in; of ``None`` the sweep's metric.
    """

    key: str
    name: str
    unit: str = ""
    kind: Kind = "name"
    keep: int = 9
    least: int = 8
    style: str = ""
    bold: bool = False
    known: bool = False
    form: str = ""
    metric: str | None = None
    narrow: str = ""
    missing: str = formats.MISSING

    @property
    def is_text(self) -> bool:
        """Whether it holds names, left-aligned."""
        return self.kind == "name"

    def heading(self, metric: str, percent: str = "", points: str = "") -> tuple[str, str]:
        """Return name and unit with what their words stand for."""

        def filled(text: str) -> str:
            text = text.replace("{metric}", metric).replace("{%}", percent)
            return text.replace("{points}", points)

        return filled(self.name), filled(self.unit)

    def in_unit(self, values: pd.Series) -> pd.Series:
        """Return the column's values in the unit of its heading."""
        return values * formats.time_unit(_longest(values))[1] if self.kind == "hours" else values

    def cells(self, values: pd.Series) -> list[str]:
        """Return the column's values as terminal and page show them."""
        if self.kind in ("name", "cell"):
            return formats.names(values, self.missing)
        if self.kind == "share":
            return [formats.percent(value) for value in values]
        if self.kind == "setting":
            return [formats.setting(value) for value in values]
        if self.kind == "hours":
            _, _, form = formats.time_unit(_longest(values))
            return [formats.number(value, form) for value in self.in_unit(values)]
        form = self.form or _FORMS.get(self.kind) or formats.form_of(values)
        return [formats.number(value, form) for value in values]


@dataclass(frozen=True)
class View:
    """A table.

    Attributes:
        terminal, page, paper: Keys of those that each writer shows, in its order.
    """

    fields: Sequence[Field]
    terminal: str = ""
    page: str = ""
    paper: str = ""

    def of(
        self,
        order: str,
        frame: pd.DataFrame,
        more: Mapping[str, Sequence[Field]] | None = None,
        without: Collection[str] = (),
    ) -> list[Field]:
        """Return the fields that one writer shows of some rows.

        Args:
            order: One of the orders.
            frame: The rows.
            more: Fields that only the results know, by the word that stands for them in the order.
            without: Keys that are left out.
        """
        more, named = more or {}, {field.key: field for field in self.fields}
        found: list[Field] = []
        for key in order.split():
            found += more[key] if key in more else [named[key]]
        return [
            _in_unit(field, frame[field.key]) if field.kind == "hours" else field
            for field in found
            if field.key not in without
            and (not field.known or (field.key in frame and frame[field.key].notna().any()))
        ]


def metric_field(metric: str) -> Field:
    """Return a metric in its unit."""
    known = metric_of(metric)
    kind: Kind = "amount" if known.unit else "score"
    return Field(metric, known.name.replace(", ", ",\n"), known.unit, kind, metric=metric)


def _in_unit(field: Field, values: pd.Series) -> Field:
    """Return the field with the unit of its times."""
    return replace(field, unit=formats.time_unit(_longest(values))[0])


def _longest(values: pd.Series) -> float:
    return float(values.max()) if len(values) else 0.0
