"""What stands in the tables that people put into papers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from kdsweep.config.metrics import metric_of
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import data_notes, notes
from kdsweep.reporting.columns import Column
from kdsweep.reporting.fields import Field, View
from kdsweep.reporting.lengths import pairs_with_epochs, with_epochs
from kdsweep.reporting.pareto import front_title
from kdsweep.reporting.results import Results
from kdsweep.reporting.typesetting import PaperTable
from kdsweep.reporting.views import (
    CLASSES,
    CONFIRMATION,
    FRONT,
    GAINS,
    PAIRS,
    TRIALS,
    front_rows,
    without_gains,
)


def paper_tables(results: Results, top: int = 10) -> list[PaperTable]:
    """Return the tables: trials, pairs, gains, classes, front, and what was confirmed.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        top: Rows of the tables of trials, gains and pairs.
    """
    remarks = [*data_notes(results.summary), *notes(results, brief=True)]
    if results.summary.notice:
        remarks = [str(results.summary.notice), *remarks]
    scores = _Scores(str(results.summary.metric))
    made = [
        _trials(results, scores, top),
        _pairs(results, scores, top),
        _gains(results, scores, top),
        _classes(results, scores),
    ]
    if not results.front.empty:
        made.append(_front(results, scores, top))
    if not results.confirmation.empty:
        made.append(_confirmation(results, scores))
    return [PaperTable(name, caption, columns, tuple(remarks)) for name, caption, columns in made]


_Made = tuple[str, str, list[Column]]


class _Scores:
    """How values of the sweep's metric are written: mIoU in per cent, its differences in points."""

    def __init__(self, metric: str) -> None:
        known = metric_of(metric)
        is_share = known.is_share
        self.name = known.name
        self.factor = 100.0 if is_share else 1.0
        self.percent = "%" if is_share else ""
        self.points = "points" if is_share else ""
        self.form = ".1f" if is_share else ".3g"


def _declared(
    view: View,
    shown: pd.DataFrame,
    scores: _Scores,
    more: Mapping[str, Sequence[Field]] | None = None,
    without: Collection[str] = (),
    bold: Mapping[str, pd.Series] | None = None,
) -> list[Column]:
    """Return a declared table for a paper; ``bold`` says of some which rows are in bold."""
    columns = {
        field.key: _column(field, shown[field.key], scores)
        for field in view.of(view.paper, shown, more, without)
    }
    for key, chosen in (bold or {}).items():
        rows = frozenset(np.flatnonzero(chosen.to_numpy()).tolist())
        columns[key] = replace(columns[key], bold=rows)
    return list(columns.values())


def _column(field: Field, values: pd.Series, scores: _Scores) -> Column:
    """Return a column: scores in per cent where they are shares, costs best where least."""
    own = scores if field.metric is None else _Scores(field.metric)
    name, unit = field.heading(scores.name, scores.percent, scores.points)
    unit = {"score": own.percent, "gain": own.points, "hours": "h"}.get(field.kind, unit)
    heading = name.replace("\n", " ") + (f" ({unit})" if unit else "")
    if field.kind == "score":
        return _numbers(heading, values * own.factor, own.form, bold=field.bold)
    if field.kind == "gain":
        bold_gain = field.bold and bool(values.max() > 0)  # the least of losses is no gain
        return _numbers(heading, values * own.factor, f"+{own.form}", bold=bold_gain)
    if field.kind == "hours":
        return _numbers(heading, values, ".2f")
    cells, bold = field.cells(values), frozenset[int]()
    if field.bold and len(set(cells)) > 1:
        least = formats.number(values.min(), formats.form_of(values))
        bold = frozenset(row for row, cell in enumerate(cells) if cell == least)
    return Column(heading, cells, text=field.is_text, bold=bold)


def _trials(results: Results, scores: _Scores, top: int) -> _Made:
    ranked = results.ranked()
    shown = with_epochs(ranked.head(top))
    columns = _declared(TRIALS, shown, scores, without=without_gains(results))
    return "trials", f"Best students{_part(len(shown), len(ranked))}{_on(results)}", columns


def _pairs(results: Results, scores: _Scores, top: int) -> _Made:
    shown = pairs_with_epochs(results.pairs.head(top))
    columns = _declared(PAIRS, shown, scores, without=without_gains(results))
    of = _part(len(shown), len(results.pairs))
    return "pairs", f"Best pairs of teacher and student{of}{_on(results)}", columns


def _gains(results: Results, scores: _Scores, top: int) -> _Made:
    """Return the gains of the trials in their table: the largest would be a choice of luck."""
    ranked = results.searched()
    gains = results.gains.set_index("trial").loc[ranked["number"].head(top).tolist()]
    shown = gains[gains["gain"].notna()].reset_index()
    shown = shown.assign(matched=["yes" if matched else "no" for matched in shown["matched"]])
    bold = {"value": shown["gain"] > 0, "control_value": shown["gain"] < 0}
    columns = _declared(GAINS, shown, scores, bold=bold)
    of = _part(len(shown), len(ranked))
    caption = f"Gains of the best students over themselves without a teacher{of}{_on(results)}"
    return "gains", caption, columns


def _front(results: Results, scores: _Scores, top: int) -> _Made:
    """Return the best compromises of several metrics, the best value of each in bold."""
    shown, more = front_rows(results, top)
    of = _part(len(shown), len(results.front))
    caption = f"{front_title(results.summary.metrics)}{of}{_on(results)}"
    return "front", caption, _declared(FRONT, shown, scores, more)


def _classes(results: Results, scores: _Scores) -> _Made:
    best = results.summary.best
    shown = results.best_classes()
    mean = shown[["student", "control", "teacher"]].mean()
    filled = pd.concat([shown, pd.DataFrame([{"class": "mean", **mean}])])
    filled = filled.assign(gain=filled["student"] - filled["control"])
    bold, without = {}, {"gain"}
    if shown["control"].notna().any():
        # Judged as they are written: what looks equal is equal.
        gain = 100 * shown["student"].round(3) - 100 * shown["control"].round(3)
        bold, without = {"student": gain > 0.05, "control": gain < -0.05}, set()
    columns = _declared(CLASSES, filled, scores, without=without, bold=bold)
    which = "" if best is None else f": trial {best.number}, {best.label}"
    return "classes", f"IoU of each class{which}{_on(results)}", columns


def _confirmation(results: Results, scores: _Scores) -> _Made:
    """Return means over seeds; in bold the gains whose interval lies above zero."""
    shown = results.confirmation
    looked = shown["seeds_saved"].notna().any()
    if looked:
        shown = shown.assign(low=shown["always_low"], high=shown["always_high"])
    names = ["mean", "sd", "control_mean", "control_sd", "low", "high"]
    scaled = scores.factor * shown[names]
    spread = partial(formats.spread, form=scores.form)
    interval = partial(formats.interval, form=scores.form)
    filled = shown.assign(
        students=list(map(spread, scaled["mean"], scaled["sd"])),
        controls=list(map(spread, scaled["control_mean"], scaled["control_sd"])),
        interval=list(map(interval, scaled["low"], scaled["high"])),
    )
    columns = _declared(CONFIRMATION, filled, scores, bold={"gain": shown["low"] > 0})
    data = _on(results).removesuffix(", validation split")
    caption = f"Jobs trained again on fresh seeds, mean ± standard deviation{data}"
    if looked:
        caption += ", always-valid intervals"
    if (shown["seeds"] == 1).any():
        caption += "; nothing can be tested with one seed"
    return "confirmation", caption, columns


def _numbers(header: str, values: pd.Series, form: str, *, bold: bool = False) -> Column:
    """Return numbers; in bold all that look like the highest, if there is something lower."""
    cells = [formats.number(value, form) for value in values]
    best: frozenset[int] = frozenset()
    if bold and len(set(cells) - {formats.MISSING}) > 1:
        highest = formats.number(values.max(), form)
        best = frozenset(index for index, cell in enumerate(cells) if cell == highest)
    return Column(header, cells, bold=best)


def _part(num_shown: int, num_all: int) -> str:
    return f" ({num_shown} of {num_all})" if num_all > num_shown else ""


def _on(results: Results) -> str:
    """Return the data that the scores belong to."""
    data = results.summary.data
    size = data.get("image_size")
    source = f", {data['source']}" if data.get("source") else ""
    pixels = f" at {formats.frame_size(size)}" if size else ""
    scored = formats.of_protocol(results.summary.protocol)
    return f"{source}{pixels}{scored}, validation split"
