"""How much of the student's gradient comes from each distillation term?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    SEQUENTIAL,
    SERIES,
    Figure,
    Trace,
    axis,
    colorbar,
    epoch_axis,
    legend_above,
    line,
    listed,
    safe,
    short,
)
from kdsweep.reporting.results import Results
from kdsweep.training.report import DOMINANT_SHARE, NEGLIGIBLE_SHARE, term_title

_MOST_POINTS = 300
_LEAST_SHARE = 1e-4  # the axis is logarithmic; a term without any gradient stands at its end
_PREFIX = "student/grad_share/"


def share_points(results: Results) -> pd.DataFrame:
    """Return the gradient share of each term in each trial.

    Returns:
        Columns ``term, trial, label, share`` (median over epochs with the full weight, else at the
        best epoch), ``value, verdict``; terms in the order of the table, best trials first.
    """
    terms = results.terms
    value = results.trials.set_index("number")["value"]
    table = pd.DataFrame(
        {
            "term": terms["term"],
            "trial": terms["trial"],
            "label": terms["label"],
            "share": terms["median_share"].fillna(terms["share"]),
            "value": terms["trial"].map(value),
            "verdict": terms["verdict"],
        }
    )
    table = table[table["share"].notna()]
    order = {name: index for index, name in enumerate(dict.fromkeys(terms["term"]))}
    return (
        table.assign(order=table["term"].map(order))
        .sort_values(["order", "value", "trial"], ascending=[True, False, True], kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )


def best_shares(results: Results) -> pd.DataFrame:
    """Return what the best student's gradient is made of: ``epoch`` and each term's share."""
    best = results.summary.best
    rows = results.epochs[results.epochs["trial"] == (-1 if best is None else best.number)]
    columns = [c for c in map(str, rows) if c.startswith(_PREFIX) and rows[c].notna().any()]
    table = rows[["epoch", *columns]]
    names = {column: column.removeprefix(_PREFIX) for column in columns}
    return table.rename(columns=names).reset_index(drop=True)


def share_figures(results: Results, metric: str) -> list[Figure]:
    """Draw shares of all trials, and of the best one over its epochs."""
    points = share_points(results)
    if points.empty:
        return []
    return [_all_trials(points, metric), *_best_trial(results)]


def _all_trials(points: pd.DataFrame, metric: str) -> Figure:
    terms = list(dict.fromkeys(points["term"]))
    place = {term: index for index, term in enumerate(terms)}
    shown = points.groupby("term", sort=False).head(_MOST_POINTS)
    rank = shown.groupby("term").cumcount()
    size = shown.groupby("term")["share"].transform("size")
    shift = ((rank * 0.618034) % 1.0 - 0.5) * 0.6 * (size > 1)
    hidden = len(points) - len(shown)
    left_out = f" {len(shown)} of {len(points)} points are drawn." if hidden else ""
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": listed(100 * shown["share"].clip(lower=_LEAST_SHARE)),
        "y": listed(shown["term"].map(place) + shift),
        "marker": {
            "color": listed(shown["value"]),
            "colorscale": SEQUENTIAL,
            "colorbar": colorbar(metric),
            "size": 8,
            "line": {"width": 0.5, "color": "var(--paper)"},
        },
        "hovertext": [
            f"{safe(term_title(term))} in trial {trial}, {safe(label)}<br>"
            f"{formats.percent(share)} % of the gradient<br>{metric} {formats.score(value)}"
            for term, trial, label, share, value in shown[
                ["term", "trial", "label", "share", "value"]
            ].itertuples(index=False)
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    bounds = [
        line(100 * x, 0, 100 * x, 1, yref="paper", line={"dash": "dash"})
        for x in (NEGLIGIBLE_SHARE, DOMINANT_SHARE)
    ]
    lowest = np.log10(100 * max(float(points["share"].min()), _LEAST_SHARE))
    return Figure(
        name="shares",
        title="How much of the gradient does each distillation loss give?",
        caption="Share of the student's gradient from each loss, one point per trial. "
        "Left of the first dashed line (1 %) a loss changes almost nothing, right of the second "
        f"(95 %) the labels almost do not count.{left_out}",
        tables={"shares": points},
        traces=[trace],
        layout={
            "xaxis": axis(
                "share of the gradient (%)",
                type="log",
                range=[min(float(lowest), -0.3) - 0.1, 2.08],
                tickvals=[0.01, 0.1, 1, 10, 100],
                ticktext=["≤0.01", "0.1", "1", "10", "100"],
            ),
            "yaxis": axis(
                "",
                tickvals=list(place.values()),
                ticktext=[short(term_title(term)) for term in terms],
                range=[len(terms) - 0.5, -0.5],
                showgrid=False,
                zeroline=False,
                ticks="",
            ),
            "shapes": bounds,
            "showlegend": False,
        },
        height=140 + 70 * len(terms),
    )


def _best_trial(results: Results) -> list[Figure]:
    table, best = best_shares(results), results.summary.best
    names = [str(name) for name in table.columns[1:]]
    if best is None or len(names) < 2:
        return []
    traces: list[Trace] = [
        {
            "type": "bar",
            "name": "labels" if name == "supervised" else short(term_title(name)),
            "x": listed(table["epoch"]),
            "y": listed(100 * table[name]),
            "marker": {"color": "var(--control)" if name == "supervised" else _color(index)},
            "hovertemplate": f"epoch %{{x}}: {safe(term_title(name))} %{{y:.2g}} %<extra></extra>",
        }
        for index, name in enumerate(names)
    ]
    return [
        Figure(
            name="best-shares",
            title="Where does the gradient of the best student come from, epoch by epoch?",
            caption=f"Shares of the gradient in trial {best.number}: the labels and each "
            "distillation loss. They are measured on one batch per epoch, so they are noisy.",
            tables={"best-shares": table},
            traces=traces,
            layout={
                "xaxis": {**epoch_axis("epoch", table["epoch"].max()), "rangemode": "normal"},
                "yaxis": axis("share of the gradient (%)", range=[0, 100.5]),
                "barmode": "stack",
                "legend": legend_above(),
            },
            height=320,
        )
    ]


def _color(index: int) -> str:
    return SERIES[index % len(SERIES)]
