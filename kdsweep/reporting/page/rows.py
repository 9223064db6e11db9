"""The page's tables: what is shown, and by what it is sorted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import pandas as pd

from kdsweep.plain_text import printable
from kdsweep.reporting import views
from kdsweep.reporting.fields import Field, View
from kdsweep.reporting.figures import FRONTS, class_ious, grouped, networks
from kdsweep.reporting.lengths import pairs_with_epochs
from kdsweep.reporting.pareto import front_title
from kdsweep.reporting.results import Results
from kdsweep.reporting.views import (
    CLASSES,
    CONFIRMATION,
    FAILURES,
    FRONT,
    NETWORKS,
    PAIRS,
    TERMS,
    TRIALS,
    settings,
    with_places,
    with_titles,
    without_none,
)

_MOST_ROWS = 200
_MOST_SETTINGS = 12
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is shown.
        order: What it is sorted by; ``None`` stands last either way.
        link: Relative address that the text leads to.
    """

    text: str
    order: float | str | None
    link: str | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Names it in the page.
        headers: Headings, each with its unit (or an empty text) and whether the column is numeric.
        note: What is left out, if anything is.
    """

    name: str
    title: str
    headers: Sequence[tuple[str, str, bool]]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


_Column = tuple[str, str, bool, list[Cell]]


def trial_rows(results: Results, metric: str) -> Table:
    """Return the best search trials."""
    ranked = results.ranked()
    shown = with_places(ranked, _MOST_ROWS)
    # The seed has a column of its own.
    drawn = settings(shown, ("teacher.encoder", "student.encoder", "train.seed"), _MOST_SETTINGS)
    columns = _columns(TRIALS, shown, metric, {"settings": drawn})
    return _table("trials", "Best trials", columns, len(ranked), "trials.csv")


def confirmation_rows(results: Results, metric: str) -> Table:
    """Return what repeated seeds say of each confirmed job; empty but for a confirmation."""
    shown = results.confirmation
    columns = _columns(CONFIRMATION, shown, metric)
    return _table("confirmation", "Confirmed jobs", columns, len(shown), "confirmation.csv")


def front_rows(results: Results) -> Table:
    """Return the trials that no other beats in everything, of several metrics."""
    shown, more = views.front_rows(results, _MOST_ROWS)
    columns = _columns(FRONT, shown, "", more)
    title = front_title(results.summary.metrics)
    return _table("front", title, columns, len(results.front), "front.csv")


def pair_rows(results: Results, metric: str) -> Table:
    """Return all pairs, best first."""
    pairs = results.pairs
    shown = pairs_with_epochs(pairs.head(_MOST_ROWS))
    columns = _columns(PAIRS, shown, metric, without=without_none(shown, "num_too_costly"))
    return _table("pairs", "Pairs", columns, len(pairs), "pairs.csv")


def term_rows(results: Results) -> Table:
    """Return the distillation terms of the best trials."""
    order = {number: place for place, number in enumerate(results.ranked()["number"])}
    terms = results.terms
    terms = terms.assign(place=terms["trial"].map(order)).dropna(subset=["place"])
    terms = terms.sort_values("place", kind="stable")
    columns = _columns(TERMS, with_titles(terms.head(_MOST_ROWS)))
    title = "Distillation terms at the best epoch, best trials first"
    return _table("terms", title, columns, len(terms), "terms.csv")


def network_rows(results: Results, metric: str) -> Table:
    """Return every network with its size."""
    table = networks(results)
    shown = table.sort_values("best", ascending=False, kind="stable").head(_MOST_ROWS)
    fronts = pd.Series([_fronts(row) for row in shown.to_dict("records")], shown.index, "object")
    columns = _columns(NETWORKS, shown.assign(fronts=fronts), metric)
    return _table("networks", "Networks", columns, len(table), "figures/networks.csv")


def class_rows(results: Results) -> Table:
    """Return the IoU of each class for the best student."""
    ious, missed = grouped(class_ious(results))
    columns = _columns(CLASSES, ious.head(_MOST_ROWS))
    table = _table("classes", "Classes", columns, len(ious), "classes.csv")
    if not missed:
        return table
    note = f"At 0, as no network finds them: {', '.join(map(printable, missed))}. {table.note}"
    return replace(table, note=note.strip())


def failure_rows(results: Results, report: PurePath | None) -> Table:
    """Return the latest failures with their logs, as addresses relative to the page's folder."""
    failures = results.failures
    shown = failures.iloc[::-1].head(_MOST_ROWS)
    logs = [_log(path, report) for path in shown["log"].astype("str")]
    then = ["started again" if retried else "given up" for retried in shown["retried"]]
    filled = shown.assign(message=shown["message"].map(_cut), then=then)
    columns = [*_columns(FAILURES, filled), ("log", "", False, logs)]
    return _table("failures", "Failures, latest first", columns, len(failures), "failures.csv")


def _fronts(row: dict[Any, Any]) -> str | None:
    """Return the fronts that a network is on, as words."""
    return ", ".join(name for column, name in FRONTS.items() if row[column]) or None


def _columns(
    view: View,
    shown: pd.DataFrame,
    metric: str = "",
    more: Mapping[str, Sequence[Field]] | None = None,
    without: Collection[str] = (),
) -> list[_Column]:
    """Return a declared table as columns of the page, each with what it is sorted by."""
    columns = []
    for field in view.of(view.page, shown, more, without):
        values = field.in_unit(shown[field.key])
        heading, unit = field.heading(metric)
        is_numeric = not field.is_text
        if field.kind == "setting":
            heading, is_numeric = printable(heading), pd.api.types.is_numeric_dtype(values)
        cells = [
            Cell(field.missing, None)
            if value is None or pd.isna(value)
            else Cell(printable(text), _order(value) if is_numeric else str(value))
            for value, text in zip(values, field.cells(shown[field.key]), strict=True)
        ]
        columns.append((heading.replace("\n", " "), unit, is_numeric, cells))
    return columns


def _order(value: Any) -> float:
    """Return what a number is sorted by; ``3 of 12`` goes by the first."""
    return float(value.split()[0] if isinstance(value, str) else value)


def _table(name: str, title: str, columns: list[_Column], num_all: int, file: str) -> Table:
    # A column in which nothing is known says nothing.
    columns = [column for column in columns if any(cell.order is not None for cell in column[3])]
    rows = list(zip(*(cells for *_, cells in columns), strict=True))
    left_out = num_all - len(rows)
    note = f"{left_out} more rows are in {file}." if left_out > 0 else ""
    headers = [(header, unit, numeric) for header, unit, numeric, _ in columns]
    return Table(name, title, headers, rows, note)


def _cut(message: Any) -> str | None:
    if message is None or pd.isna(message):
        return None
    text = printable(str(message))
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"


def _log(path: str, report: PurePath | None) -> Cell:
    """Return a log, led to from the page if it lies in the same experiment."""
    if report is None or not PurePath(path).is_relative_to(report.parent):
        return Cell(printable(path), path)
    inside = PurePath(path).relative_to(report.parent).as_posix()
    return Cell(printable(inside), inside, f"../{inside}")
