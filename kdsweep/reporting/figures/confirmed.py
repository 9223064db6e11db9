"""Which gains hold on repeated seeds?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    INK,
    STUDENT,
    TEACHER,
    Figure,
    Trace,
    axis,
    legend_above,
    line,
    listed,
    safe,
    short,
)
from kdsweep.reporting.results import Results

_STYLES = {"validation": (STUDENT, "circle", -0.13), "test": (TEACHER, "diamond", 0.13)}


def confirmed_gains(results: Results) -> pd.DataFrame:
    """Return the gain of each confirmed job on each split with its 95 % interval.

    Returns:
        Columns ``job, teacher, student, split, seeds, gain, low, high, always_low, always_high,
        claim``, where jobs are compared with two controls also ``against``; no rows but for a
        confirmation.
    """
    columns = ["job", "teacher", "student", "split", "seeds", "gain", "low", "high"]
    against = [name for name in ("against",) if name in results.confirmation]
    table = results.confirmation[[*columns, "always_low", "always_high", "claim", *against]]
    return table[table["gain"].notna()].reset_index(drop=True)


def _bars(
    middle: pd.Series, low: pd.Series, high: pd.Series, color: str, thickness: int
) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": listed(high - middle),
        "arrayminus": listed(middle - low),
        "color": color,
        "thickness": thickness,
        "width": 5,
    }


def confirmed_figures(results: Results, metric: str) -> list[Figure]:
    """Draw gains with their intervals, beside the line of no gain."""
    table = confirmed_gains(results)
    if table.empty:
        return []
    students = dict(zip(table["job"], formats.names(table["student"]), strict=True))
    named = [f"{job}: {students[job]}" for job in table["job"]]
    if "against" in table:
        named = [
            f"{job}, against {a}" for job, a in zip(table["job"], table["against"], strict=True)
        ]
    rows_of_jobs = table.assign(named=named)
    names = list(dict.fromkeys(named))
    place = {name: index for index, name in enumerate(names)}
    traces: list[Trace] = []
    for split, rows in rows_of_jobs.groupby("split", sort=False):
        color, symbol, shift = _STYLES[str(split)]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": str(split),
                "x": listed(rows["gain"]),
                "y": listed(rows["named"].map(place) + shift),
                "error_x": _bars(rows["gain"], rows["low"], rows["high"], color, thickness=2),
                "marker": {"color": color, "symbol": symbol, "size": 10},
                "hovertext": [
                    f"{safe(job)}, {split}<br>{safe(claim)}"
                    for job, claim in zip(rows["job"], rows["claim"], strict=True)
                ],
                "hovertemplate": "%{hovertext}<extra></extra>",
            }
        )
        always = rows[rows["always_low"].notna()]
        if always.empty:
            continue
        middle = (always["always_low"] + always["always_high"]) / 2
        ends = middle, always["always_low"], always["always_high"]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{split}, always valid",
                "x": listed(middle),
                "y": listed(always["named"].map(place) + shift),
                "error_x": _bars(*ends, color, thickness=1),
                "marker": {"color": color, "symbol": "line-ns", "size": 1},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    untested = " Nothing can be tested with one seed." if (table["seeds"] == 1).any() else ""
    return [
        Figure(
            name="confirmed",
            title="Which gains hold on repeated seeds?",
            caption="Mean difference between students and their exact controls, seed by seed, with "
            "Student's 95 % interval; thin, from 5 seeds on, the always-valid one, which may be "
            "looked at after every seed. An interval that contains zero shows no gain." + untested,
            tables={"confirmed": table},
            traces=traces,
            layout={
                "xaxis": axis(f"gain ({metric})"),
                "yaxis": axis(
                    "",
                    tickvals=list(place.values()),
                    ticktext=[short(name) for name in names],
                    range=[len(names) - 0.5, -0.5],
                    showgrid=False,
                    ticks="",
                ),
                "shapes": [line(0, 0, 0, 1, yref="paper", layer="above", line={"color": INK})],
                "legend": legend_above(),
            },
            height=150 + 60 * len(names),
            wide=True,
        )
    ]
