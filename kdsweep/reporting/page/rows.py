"""The page's tables: what is shown, and by what it is sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from kdsweep.reporting import formats
from kdsweep.reporting.columns import printable
from kdsweep.reporting.figures import FRONTS, class_ious, networks
from kdsweep.reporting.front import front_title, further_costs
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM
from kdsweep.spec.metrics import metric_of

_MOST_ROWS = 200
_MOST_SETTINGS = 12
_LONGEST_MESSAGE = 300
_GAIN = "+z.3f"  # no gain is +0.000, never -0.000


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
        title: Its heading.
        headers: Headings, each with its unit (or an empty text) and whether the column is numeric.
        rows: The cells.
        note: What is left out, if anything is.
    """

    name: str
    title: str
    headers: Sequence[tuple[str, str, bool]]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


_Column = tuple[str, str, bool, list[Cell]]


def trial_rows(results: Results, metric: str) -> Table:
    """The best search trials."""
    ranked = results.ranked()
    shown = ranked.head(_MOST_ROWS)
    unit, factor, form = formats.time_unit(float(shown["hours"].max()) if len(shown) else 0.0)
    columns = [
        _numbers("rank", "", range(1, len(shown) + 1), "d"),
        _numbers("trial", "", shown["number"], "d"),
        _numbers(metric, "", shown["value"], ".3f"),
        _numbers("gain", "", shown["gain"], _GAIN),
        _names("student", shown["student"]),
        _names("teacher", shown["teacher"]),
        _numbers("size", "M parameters", shown["params_m"], ".1f"),
        *_costs(shown, "macs_g", "latency_ms"),
        *_settings(shown),
        _numbers("best epoch", "", shown["best_epoch"], "d"),
        _numbers("epochs", "", shown["epochs"], "d"),
        _numbers("time", unit, shown["hours"] * factor, form),
        _names("state", shown["state"]),
        _numbers("teacher mIoU", "", shown["teacher_miou"], ".3f"),
        _numbers("agrees", "%", 100 * shown["agreement"], ".0f"),
        _numbers("seed", "", shown["seed"], "d"),
    ]
    return _table("trials", "Best trials", columns, len(ranked), "trials.csv")


def confirmation_rows(results: Results, metric: str) -> Table:
    """What repeated seeds say of each confirmed job; empty but for a confirmation."""
    shown = results.confirmation
    columns = [
        _names("job", shown["job"]),
        _names("student", shown["student"]),
        _names("teacher", shown["teacher"]),
        _names("split", shown["split"]),
        _numbers("seeds", "", shown["seeds"], "d"),
        _numbers("gain", "mean", shown["gain"], _GAIN),
        _numbers("95 % from", "Student's t", shown["low"], _GAIN),
        _numbers("to", "Student's t", shown["high"], _GAIN),
        _numbers("95 % from", "bootstrap", shown["boot_low"], _GAIN),
        _numbers("to", "bootstrap", shown["boot_high"], _GAIN),
        _numbers("p", "signed ranks", shown["rank_p"], ".3f"),
        _numbers(f"student {metric}", "mean", shown["mean"], ".3f"),
        _numbers("student", "sd", shown["sd"], ".3f"),
        _numbers(f"control {metric}", "mean", shown["control_mean"], ".3f"),
        _numbers("control", "sd", shown["control_sd"], ".3f"),
    ]
    return _table("confirmation", "Confirmed jobs", columns, len(shown), "confirmation.csv")


def front_rows(results: Results) -> Table:
    """Several metrics: the trials that no other beats in everything."""
    metrics = results.summary.metrics
    shown = results.front.head(_MOST_ROWS)
    columns = [
        _numbers("trial", "", shown["trial"], "d"),
        _names("student", shown["student"]),
        _names("teacher", shown["teacher"]),
        *(_metric(metric, shown[metric]) for metric in metrics),
        _numbers("gain", "", shown["gain"], _GAIN),
        *(
            _metric(metric, own)
            for metric, own in further_costs(results.trials, metrics, shown).items()
        ),
        _numbers("best epoch", "", shown["best_epoch"], "d"),
        _numbers("epochs", "", shown["epochs"], "d"),
        _names("state", shown["state"]),
    ]
    return _table("front", front_title(metrics), columns, len(results.front), "front.csv")


def _metric(metric: str, values: pd.Series) -> _Column:
    known = metric_of(metric)
    return _numbers(
        known.name, known.unit, values, formats.form_of(values) if known.unit else ".3f"
    )


def pair_rows(results: Results, metric: str) -> Table:
    """All pairs, best first."""
    pairs = results.pairs
    shown = pairs.head(_MOST_ROWS)
    columns = [
        _names("teacher", shown["teacher"]),
        _names("student", shown["student"]),
        _numbers("trials", "", shown["num_trials"], "d"),
        _numbers("complete", "", shown["num_complete"], "d"),
        _numbers("stopped", "", shown["num_stopped"], "d"),
        *(
            [_numbers("too costly", "", shown["num_too_costly"], "d")]
            if shown["num_too_costly"].any()
            else []
        ),
        _numbers("failed", "", shown["num_failed"], "d"),
        _numbers(f"best {metric}", "", shown["best"], ".3f"),
        _numbers("its gain", "", shown["best_gain"], _GAIN),
        _numbers(f"median {metric}", "", shown["median"], ".3f"),
        _numbers("median gain", "", shown["median_gain"], _GAIN),
        _numbers("size", "M parameters", shown["params_m"], ".1f"),
    ]
    return _table("pairs", "Pairs", columns, len(pairs), "pairs.csv")


def term_rows(results: Results) -> Table:
    """The distillation terms of the best trials."""
    order = {number: place for place, number in enumerate(results.ranked()["number"])}
    terms = results.terms
    terms = terms.assign(place=terms["trial"].map(order)).dropna(subset=["place"])
    terms = terms.sort_values("place", kind="stable")
    shown = terms.head(_MOST_ROWS)
    columns = [
        _numbers("trial", "", shown["trial"], "d"),
        _names("pair", shown["label"]),
        _names("term", shown["term"]),
        _numbers("loss", "raw", shown["raw"], ".3g"),
        _numbers("loss", "weighted", shown["weighted"], ".3g"),
        _column(
            "share of gradient", "% at best epoch", True, shown["share"], formats.percent, float
        ),
        _column(
            "share of gradient", "%, median", True, shown["median_share"], formats.percent, float
        ),
        _names("verdict", shown["verdict"]),
    ]
    return _table(
        "terms", "Distillation terms, best trials first", columns, len(terms), "terms.csv"
    )


def network_rows(results: Results, metric: str) -> Table:
    """Every network with its size."""
    table = networks(results)
    shown = table.sort_values("best", ascending=False, kind="stable").head(_MOST_ROWS)
    columns = [
        _names("role", shown["role"]),
        _names("network", shown["name"]),
        _numbers("size", "M parameters", shown["params_m"], ".2f"),
        *_costs(shown),
        _numbers(f"best {metric}", "", shown["best"], ".3f"),
        _numbers(f"median {metric}", "", shown["median"], ".3f"),
        _numbers("trials", "", shown["num_trials"], "d"),
        _numbers("best trial", "", shown["best_trial"], "d"),
        _names("on the front of", [_fronts(row) for row in shown.to_dict("records")]),
    ]
    return _table("networks", "Networks", columns, len(table), "figures/networks.csv")


def class_rows(results: Results) -> Table:
    """IoU of each class for the best student."""
    ious = class_ious(results)
    shown = ious.head(_MOST_ROWS)
    columns = [
        _names("class", shown["class"]),
        _numbers("student", "IoU", shown["student"], ".3f"),
        _numbers("control", "IoU", shown["control"], ".3f"),
        _numbers("teacher", "IoU", shown["teacher"], ".3f"),
        _numbers("gain", "", shown["gain"], _GAIN),
    ]
    return _table("classes", "Classes", columns, len(ious), "classes.csv")


def failure_rows(results: Results, report: PurePath | None) -> Table:
    """The latest failures with their logs.

    Args:
        results: The results.
        report: Folder of the page, for addresses of logs relative to it.
    """
    failures = results.failures
    shown = failures.iloc[::-1].head(_MOST_ROWS)
    logs = [_log(path, report) for path in shown["log"].astype("str")]
    columns = [
        _numbers("trial", "", shown["trial"], "d"),
        _names("pair", shown["label"]),
        _numbers("attempt", "", shown["attempt"], "d"),
        _names("cause", shown["class"]),
        _names("message", [_cut(message) for message in shown["message"]]),
        _names(
            "then", ["started again" if retried else "given up" for retried in shown["retried"]]
        ),
        ("log", "", False, logs),
    ]
    return _table("failures", "Failures, latest first", columns, len(failures), "failures.csv")


def _costs(shown: pd.DataFrame, *names: str) -> list[_Column]:
    """What a frame costs at inference, all of it or what is named."""
    headers = {
        "macs_g": ("MACs", "G"),
        "latency_ms": ("latency", "ms, median"),
        "latency_p95_ms": ("latency", "ms, 95 %"),
        "inference_mb": ("memory", "MB, peak"),
    }
    return [
        _numbers(*headers[name], shown[name], formats.form_of(shown[name]))
        for name in names or headers
    ]


def _fronts(row: dict[Any, Any]) -> str | None:
    """The fronts that a network is on, as words."""
    return ", ".join(name for column, name in FRONTS.items() if row[column]) or None


def _settings(shown: pd.DataFrame) -> list[_Column]:
    names = [
        column.removeprefix(PARAM)
        for column in map(str, shown)
        if column.startswith(PARAM)
        and not column.startswith((f"{PARAM}teacher.encoder", f"{PARAM}student.encoder"))
        and column != f"{PARAM}train.seed"  # which has a column of its own
        and shown[column].astype("object").map(repr).nunique() > 1
    ][:_MOST_SETTINGS]
    short = formats.shortest_names(names)
    columns = []
    for name in names:
        values = shown[f"{PARAM}{name}"]
        numeric = pd.api.types.is_numeric_dtype(values)
        order: Callable[[Any], float | str] = float if numeric else str
        header = printable(short[name])
        columns.append(_column(header, "", numeric, values, formats.setting, order))
    return columns


def _numbers(header: str, unit: str, values: Iterable[Any], form: str) -> _Column:
    return _column(header, unit, True, values, lambda v: formats.number(v, form), float)


def _names(header: str, values: Iterable[Any]) -> _Column:
    return _column(header, "", False, values, lambda v: printable(str(v)), str)


def _column(
    header: str,
    unit: str,
    numeric: bool,
    values: Iterable[Any],
    show: Callable[[Any], str],
    order: Callable[[Any], float | str],
) -> _Column:
    cells = [
        Cell(formats.MISSING, None)
        if value is None or pd.isna(value)
        else Cell(show(value), order(value))
        for value in values
    ]
    return header, unit, numeric, cells


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
    """A log, led to from the page if it lies in the same experiment."""
    if report is None or not PurePath(path).is_relative_to(report.parent):
        return Cell(printable(path), path)
    inside = PurePath(path).relative_to(report.parent).as_posix()
    return Cell(printable(inside), inside, f"../{inside}")
