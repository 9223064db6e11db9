"""Which student gives the most accuracy for its size, its arithmetic, its time?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdsweep.config.metrics import MIOU, TEACHER_MIOU
from kdsweep.ledger.events import Kind
from kdsweep.ledger.trials import ITSELF, LABELS
from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    CONTROL,
    MUTED,
    SERIES,
    STUDENT,
    TEACHER,
    TOO_COSTLY,
    Figure,
    Trace,
    axis,
    legend_above,
    line,
    listed,
    safe,
    short,
)
from kdsweep.reporting.pareto import names_of
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import has_teacher

_MOST_NAMED = 12
_NEAR_AXIS = 0.2  # of the highest cost
_MOST_NETWORKS = 150  # of each role
_STYLES = {
    "teacher": (TEACHER, "diamond-open"),
    "control": (CONTROL, "circle-open"),
    "self-taught": (CONTROL, "square-open"),
    "too costly": (TOO_COSTLY, "x-thin"),
    "student": (STUDENT, "circle"),
}
_CHOICE = SERIES[3]
_NETWORK = ["params_m", "macs_g", "name"]
_MEASURED = ("latency_ms", "latency_p95_ms", "inference_mb")
# A bound this many times above all that the students cost is no part of the picture.
_FARTHEST_BOUND = 2.0
# Columns that say which students are on which front.
FRONTS = {"front": "size", "front_macs": "MACs", "front_latency": "latency"}


@dataclass(frozen=True)
class _Panel:
    """Accuracy over one kind of cost."""

    name: str
    cost: str
    front: str
    title: str
    axis: str
    unit: str
    caption: str = ""
    wide: bool = False
    searched_only: bool = False


_PANELS = (
    _Panel(
        "accuracy-size", "params_m", "front", "Which network scores best for its size?",
        "parameters (millions)", "M parameters",
    ),
    _Panel(
        "accuracy-macs", "macs_g", "front_macs", "Which network scores best for its arithmetic?",
        "multiply-accumulates of a frame (billions)", "G MACs",
    ),
    _Panel(
        "accuracy-memory", "inference_mb", "front_memory",
        "Which network scores best for its memory?",
        "peak memory of a frame (MB)", "MB", searched_only=True,
    ),
    _Panel(
        "accuracy-latency-p95", "latency_p95_ms", "front_latency_p95",
        "Which network scores best for its slowest frames?",
        "latency of a frame, 95th percentile (ms)", "ms", searched_only=True,
    ),
    _Panel(
        "accuracy-latency", "latency_ms", "front_latency",
        "Which network scores best for its latency?", "latency of a frame (ms)", "ms",
        " Times are medians over single frames, taken when each trial began, beside all that ran "
        "on its machine then; of all trainings of a network the median is shown.",
        wide=True,
    ),
)  # fmt: skip


def networks(results: Results) -> pd.DataFrame:
    """Return every network of the sweep with what it costs and the best that it reached.

    Returns:
        Columns ``role`` (``student``, ``control``, ``self-taught`` (controls that are),
        ``teacher``, or ``too costly``: students whose trainings ended because they cost more than
        allowed), ``name, params_m, macs_g, latency_ms, latency_p95_ms, inference_mb`` (the median
        over all its trainings in any role), ``best, median, num_trials, best_trial`` and ``front,
        front_macs, front_latency``: on a front are the students, with a teacher or without
        (``control``), that no student beats which costs as much or less. Rows of a role are sorted
        by size.
    """
    trials = results.trials[results.trials["teacher"] != LABELS]
    trials = trials.assign(name=formats.names(trials["student"]))
    is_search = trials["kind"] == Kind.SEARCH
    is_own = trials["teacher"] == ITSELF
    roles = {
        "student": is_search & ~trials["breaks_bound"],
        "too costly": trials["breaks_bound"],
        "control": ~is_search & ~trials["breaks_bound"] & ~is_own,
        "self-taught": ~is_search & ~trials["breaks_bound"] & is_own,
    }
    parts = [_grouped(trials[rows], "value").assign(role=role) for role, rows in roles.items()]
    measured = [trials]
    if "teacher/params_m" in results.epochs and results.summary.metric == MIOU:
        taught = _taught(results)
        measured.append(taught)
        parts.append(_grouped(taught, TEACHER_MIOU).assign(role="teacher"))
    table = pd.concat(parts, ignore_index=True).merge(_measured(measured), on=_NETWORK, how="left")
    for panel in _PANELS:
        if panel.front in FRONTS:
            table[panel.front] = _is_on_front(table, panel.cost)
    columns = [
        "role", "name", "params_m", "macs_g", "latency_ms", "latency_p95_ms", "inference_mb",
        "best", "median", "num_trials", "best_trial", *FRONTS,
    ]  # fmt: skip
    return table[columns]


def _taught(results: Results) -> pd.DataFrame:
    """Return the trials with their teacher's name and costs in place of the student's."""
    epochs = results.epochs
    costs = ("params_m", "macs_g")
    known = {f"teacher/{cost}": cost for cost in costs if f"teacher/{cost}" in epochs}
    by_trial = epochs.groupby("trial").agg({TEACHER_MIOU: "max", **dict.fromkeys(known, "last")})
    taught = results.trials.join(by_trial, on="number")
    taught = taught[has_teacher(taught)]
    nothing = dict.fromkeys(("macs_g", *_MEASURED), float("nan"))
    own = {cost: taught[column] for column, cost in known.items()}
    own["latency_ms"] = taught["teacher_latency_ms"]
    return taught.assign(name=formats.names(taught["teacher"]), **(nothing | own))


def _grouped(trials: pd.DataFrame, value: str) -> pd.DataFrame:
    known = trials[trials[value].notna() & trials["params_m"].notna()]
    ordered = known.sort_values([value, "number"], ascending=[False, True], kind="stable")
    groups = ordered.groupby(_NETWORK, sort=True, dropna=False)
    return groups.agg(
        best=(value, "max"),
        median=(value, "median"),
        num_trials=("number", "size"),
        best_trial=("number", "first"),
    ).reset_index()


def _measured(trainings: list[pd.DataFrame]) -> pd.DataFrame:
    """Return what was measured of each network, whatever its role: it costs the same in all."""
    every = pd.concat([trials[[*_NETWORK, *_MEASURED]] for trials in trainings])
    return every.groupby(_NETWORK, dropna=False)[list(_MEASURED)].median().reset_index()


def _is_on_front(table: pd.DataFrame, cost: str) -> pd.Series:
    """Return which students are better than every student that costs as much or less.

    Those without a teacher are students too.
    """
    students = table[
        table["role"].isin(["student", "control", "self-taught"]) & table[cost].notna()
    ]
    students = students.sort_values([cost, "best"], ascending=[True, False], kind="stable")
    highest = students["best"].cummax()
    beats_all = highest.shift().isna() | (students["best"] > highest.shift())
    return beats_all.reindex(table.index, fill_value=False).astype(bool)


def cost_figures(results: Results, metric: str) -> list[Figure]:
    """Draw value over each kind of cost that is known, with the students' Pareto front.

    What the sweep searches by comes first.
    """
    table = networks(results)
    searched = _searched(results)
    bounded = {metric.removeprefix("student/") for metric in results.summary.constraints}
    panels = [
        panel
        for panel in _PANELS
        if _is_known(table, panel)
        and (panel.cost in searched or panel.cost in bounded or not panel.searched_only)
    ]
    panels.sort(key=lambda panel: panel.cost not in searched)
    return [_figure(results, table, panel, metric) for panel in panels]


def _searched(results: Results) -> set[str]:
    """Return the columns of the costs that the sweep searches by."""
    return {metric.removeprefix("student/") for metric in results.summary.metrics[1:]}


def _is_known(table: pd.DataFrame, panel: _Panel) -> bool:
    return bool(table.loc[table["role"] == "student", panel.cost].notna().any())


def _figure(results: Results, table: pd.DataFrame, panel: _Panel, metric: str) -> Figure:
    is_searched = panel.cost in _searched(results)
    numbers = table
    table = table.assign(**{panel.front: _is_on_front(table, panel.cost)})
    # The front of single trials takes the place of that of networks.
    traces: list[Trace] = [] if is_searched else [_front(table, panel)]
    farthest = table[panel.cost].max()
    for role, (color, symbol) in _STYLES.items():
        rows = table[(table["role"] == role) & table[panel.cost].notna()]
        rows = rows.nlargest(_MOST_NETWORKS, "best").sort_values(panel.cost, kind="stable")
        if rows.empty:
            continue
        on_front = rows[panel.front]
        named = on_front & (on_front.cumsum() <= _MOST_NAMED)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": role,
                "x": listed(rows[panel.cost]),
                "y": listed(rows["best"]),
                "text": [
                    short(name) if shown else ""
                    for name, shown in zip(rows["name"], named, strict=True)
                ],
                # What stands at the axis would run over it.
                "textposition": [
                    "top right" if cost < _NEAR_AXIS * farthest else "top center"
                    for cost in rows[panel.cost]
                ],
                "cliponaxis": False,
                "marker": {
                    "color": color,
                    "symbol": symbol,
                    "size": 11,
                    "line": {"width": 2, "color": color},
                },
                "hovertext": [_hover(row, role, panel, metric) for row in rows.to_dict("records")],
                "hovertemplate": "%{hovertext}<extra></extra>",
            }
        )
    front = "The line is the Pareto front: no student of the sweep costs as little and is better."
    if is_searched:
        traces += _compromises(results, panel, metric)
        front = (
            "The sweep searches by this: each diamond is a trial, at its own cost, that no other "
            "beats in "
            f"{'both' if len(results.summary.metrics) == 2 else 'all of'} "
            f"{names_of(results.summary.metrics)}."
        )
    if (table["role"] == "too costly").any():
        front += " Crosses cost more than allowed and ended with their first epoch."
    return Figure(
        name=panel.name,
        title=panel.title,
        caption=f"Best value of each network over its cost. {front}{panel.caption}",
        tables={"networks": numbers, **({"front": results.front} if is_searched else {})},
        traces=traces,
        layout={
            **_bound(results, table, panel),
            "yaxis": axis(metric),
            "legend": legend_above(),
        },
        height=420,
        wide=panel.wide or is_searched,
    )


def _hover(row: Mapping[Any, Any], role: str, panel: _Panel, metric: str) -> str:
    return (
        f"{role} {safe(row['name'])}<br>{metric} {formats.score(row['best'])}, median "
        f"{formats.score(row['median'])} of {formats.counted(row['num_trials'], 'trial')}"
        f"<br>{formats.amount(row[panel.cost])} {panel.unit}"
    )


def _compromises(results: Results, panel: _Panel, metric: str) -> list[Trace]:
    """Return the trials on the searched front; a line joins those of two metrics."""
    front = results.front
    cost, score = f"student/{panel.cost}", results.summary.metric
    shown = front.sort_values(cost, kind="stable").head(_MOST_NETWORKS)
    if shown.empty:
        return []
    is_line = len(results.summary.metrics) == 2
    hovers = [
        f"trial {row['trial']}, {safe(row['label'])}<br>{metric} {formats.score(row[score])}<br>"
        f"{formats.amount(row[cost])} {panel.unit}"
        for row in shown.to_dict("records")
    ]
    return [
        {
            "type": "scatter",
            "mode": "lines+markers" if is_line else "markers",
            "name": "compromises",
            "x": listed(shown[cost]),
            "y": listed(shown[score]),
            "line": {"color": _CHOICE, "width": 1.5, "shape": "hv", "dash": "dot"},
            "marker": {
                "color": _CHOICE,
                "symbol": "diamond",
                "size": 9,
                "line": {"width": 1, "color": "var(--paper)"},
            },
            "hovertext": hovers,
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
    ]


def _bound(results: Results, table: pd.DataFrame, panel: _Panel) -> dict[str, Any]:
    """Return the layout with the most that is allowed, where that is near enough to be seen."""
    x_axis = axis(panel.axis, rangemode="tozero")
    most = results.summary.constraints.get(f"student/{panel.cost}")
    shown = table[table["role"].isin(["student", "too costly"])]
    if most is None or most > _FARTHEST_BOUND * shown[panel.cost].max():
        return {"xaxis": x_axis}
    if most > table[panel.cost].max():
        x_axis["range"] = [0, 1.05 * most]
    style = {"color": "var(--bad)", "width": 1.5, "dash": "dash"}
    bound = line(most, 0, most, 1, yref="paper", line=style, layer="above")
    named = {"name": f"at most {most:g} {panel.unit}", "showlegend": True}
    return {"xaxis": x_axis, "shapes": [{**bound, **named}]}


def _front(table: pd.DataFrame, panel: _Panel) -> Trace:
    front = table[table[panel.front]].sort_values(panel.cost)
    return {
        "type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip",
        "x": listed(front[panel.cost]), "y": listed(front["best"]),
        "line": {"color": MUTED, "width": 1.5, "shape": "hv", "dash": "dot"},
    }  # fmt: skip
