"""How did training go, and what did early stopping stop?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdsweep.config.metrics import MIOU, TEACHER_MIOU
from kdsweep.ledger.events import Kind, Stop
from kdsweep.ledger.trials import FINAL, ITSELF, LABELS, State
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
    epoch_axis,
    legend_above,
    listed,
    safe,
)
from kdsweep.reporting.results import Results

_COSTLY = "too costly"
_MOST_BEST, _MOST_OTHERS = 5, 120
# What ended a trial before its time: name, words and colour.
_MARKS = (
    (Stop.EARLY, "stopped early", "stopped here", MUTED),
    (Stop.CONSTRAINT, "too costly", "costs more than allowed", TOO_COSTLY),
)
_SELF_TAUGHT = "self-taught"
_DASHES = {"control": "dot", _SELF_TAUGHT: "dash"}
_FEW_TRIALS = 40  # up to here every trial has a line of its own and needs no band


def curves(results: Results) -> pd.DataFrame:
    """Return the learning curves worth drawing: the best, the controls, an even choice of others.

    Returns:
        Columns ``trial, label, role`` (``best``, ``control``, ``self-taught`` (a control that is),
        ``other``, or ``too costly``: ended because it costs more than allowed), ``place`` (from 1,
        by the best value; missing for controls and what is too costly), ``epoch, value, stop``;
        best trials first.
    """
    ranked = results.searched()
    trials = results.trials
    is_control = trials["kind"] == Kind.CONTROL
    controls = trials[is_control & trials["value"].notna() & (trials["teacher"] != LABELS)]
    is_own = controls["teacher"] == ITSELF
    costly = trials[~is_control & trials["breaks_bound"] & trials["value"].notna()]
    others = ranked.iloc[_MOST_BEST:]
    if len(others) > _MOST_OTHERS:
        others = others.iloc[np.linspace(0, len(others) - 1, _MOST_OTHERS).round().astype(int)]
    place = pd.Series(np.arange(1, len(ranked) + 1), index=ranked["number"])
    chosen = pd.concat(
        [
            ranked.head(_MOST_BEST).assign(role="best"),
            controls[~is_own].head(_MOST_OTHERS).assign(role="control"),
            controls[is_own].head(_MOST_OTHERS).assign(role=_SELF_TAUGHT),
            others.assign(role="other"),
            costly.head(_MOST_OTHERS).assign(role=_COSTLY),
        ]
    )[["number", "label", "role"]].rename(columns={"number": "trial"})
    chosen["place"] = chosen["trial"].map(place).astype("Int64")
    rows = results.epochs[["trial", "epoch", "value", "stop"]]
    return chosen.merge(rows[rows["trial"].isin(chosen["trial"])], on="trial", how="inner")


def envelope(results: Results) -> pd.DataFrame:
    """Return what the search trials that reached an epoch had there.

    Returns:
        Columns ``epoch, num_trials, low`` (10 % of the trials are below), ``median, high`` (10 %
        are above).
    """
    search = results.trials.loc[results.trials["kind"] == Kind.SEARCH, "number"]
    rows = results.epochs[results.epochs["trial"].isin(search) & results.epochs["value"].notna()]
    groups = rows.groupby("epoch")["value"]
    quantiles = groups.quantile(np.array([0.1, 0.5, 0.9])).unstack()
    table = pd.DataFrame(
        {
            "epoch": np.asarray(groups.size().index, dtype=np.int64),
            "num_trials": groups.size().to_numpy(),
        }
    )
    for name, share in (("low", 0.1), ("median", 0.5), ("high", 0.9)):
        table[name] = quantiles[share].to_numpy() if len(table) else np.zeros(0)
    return table


def endings(results: Results) -> pd.DataFrame:
    """Return at which epoch how many search trials ended, and how.

    Returns:
        Columns ``epoch, state, num_trials``; epoch 0 is before the first one was finished. The
        state of trials that cost more than allowed is ``too costly``. Trials that still wait or run
        are left out.
    """
    search = results.trials[results.trials["kind"] == Kind.SEARCH]
    ended = search[search["state"].isin(list(FINAL))]
    ended = ended.assign(state=ended["state"].mask(ended["breaks_bound"], _COSTLY))
    counts = ended.groupby(["epochs", "state"]).size().reset_index(name="num_trials")
    return counts.rename(columns={"epochs": "epoch"}).astype({"epoch": "int64"})


def cohort_course(results: Results) -> pd.DataFrame:
    """Return the best student epoch by epoch, beside its teacher and its control.

    Returns:
        Columns ``epoch, student, teacher, control``; no rows before there is a best student.
    """
    best = results.summary.best
    number = -1 if best is None else best.number
    epochs = results.epochs
    student = epochs[epochs["trial"] == number].set_index("epoch")
    table = pd.DataFrame({"student": student["value"]})
    with_teacher = TEACHER_MIOU in epochs and results.summary.metric == MIOU
    table["teacher"] = student[TEACHER_MIOU] if with_teacher else np.nan
    control = results.trials.loc[results.trials["number"] == number, "control"]
    known = control.dropna()
    rows = epochs[epochs["trial"] == (-1 if known.empty else int(known.iloc[0]))]
    table = table.join(rows.set_index("epoch")["value"].rename("control"), how="left")
    return table.reset_index().astype({"epoch": "int64"})


def training_figures(results: Results, metric: str) -> list[Figure]:
    """Draw learning curves, the best cohort, and where trials ended."""
    drawn = curves(results)
    if drawn.empty:
        return []
    # Where every trial costs more than allowed, there is no best one.
    best = results.summary.best
    cohort = [] if best is None else [_cohort(results, metric, best.number)]
    return [_learning(results, drawn, metric), *cohort, *_endings(results)]


def _learning(results: Results, drawn: pd.DataFrame, metric: str) -> Figure:
    band = envelope(results)
    num_search = len(results.searched())
    traces: list[Trace] = []
    if num_search > _FEW_TRIALS:
        traces += _band(band)
    controls = (("control", CONTROL, 2.0), (_SELF_TAUGHT, CONTROL, 1.0))
    for role, color, width in (("other", MUTED, 0.8), *controls):
        rows = drawn[drawn["role"] == role]
        if len(rows):
            traces.append(_lines(rows, role, color, width))
    of_students = drawn[~drawn["role"].isin([name for name, *_ in controls])]
    for stop, name, said, color in _MARKS:
        ended = of_students[of_students["stop"] == stop]
        if len(ended):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": listed(ended["epoch"]),
                    "y": listed(ended["value"]),
                    "marker": {
                        "symbol": "x-thin",
                        "size": 6,
                        "line": {"color": color, "width": 1.5},
                    },
                    "hovertext": _hovers(ended, metric),
                    "hovertemplate": f"%{{hovertext}}<br>{said}<extra></extra>",
                }
            )
    best = drawn[drawn["role"] == "best"]
    for index, (number, rows) in enumerate(best.groupby("trial", sort=False)):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{index + 1}. trial {number}",
                "x": listed(rows["epoch"]),
                "y": listed(rows["value"]),
                "line": {"color": SERIES[index], "width": 2},
                "marker": {"size": 4},
                "hovertext": _hovers(rows, metric),
                "hovertemplate": "%{hovertext}<extra></extra>",
            }
        )
    num_others = drawn.loc[drawn["role"] == "other", "trial"].nunique()
    hidden = num_search - min(num_search, _MOST_BEST) - num_others
    caption = "The best trials in colour, controls dotted, the others grey."
    if hidden:
        caption += f" {num_others} of the {num_others + hidden} others are drawn."
    if num_search > _FEW_TRIALS:
        caption += " The band holds the middle 80 % of the trials that reached an epoch."
    return Figure(
        name="curves",
        title="How fast did students learn, and how far did they get?",
        caption=caption,
        tables={"curves": drawn, "curves-all": band},
        traces=traces,
        layout={
            "xaxis": epoch_axis("epoch", drawn["epoch"].max()),
            "yaxis": axis(f"{metric} on the validation split"),
            "legend": legend_above(),
        },
        height=460,
        wide=True,
    )


def _band(band: pd.DataFrame) -> list[Trace]:
    x = listed(band["epoch"])
    plain = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}}
    return [
        {**plain, "x": x, "y": listed(band["low"]), "showlegend": False},
        {
            **plain,
            "x": x,
            "y": listed(band["high"]),
            "fill": "tonexty",
            "fillcolor": "var(--band)",
            "name": "middle 80 %",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "median",
            "x": x,
            "y": listed(band["median"]),
            "line": {"color": STUDENT, "width": 1.5, "dash": "dot"},
            "customdata": listed(band["num_trials"]),
            "hovertemplate": "epoch %{x}: median %{y:.3f} of %{customdata} trials<extra></extra>",
        },
    ]


def _lines(rows: pd.DataFrame, name: str, color: str, width: float) -> Trace:
    """Return all lines of a role as one trace with gaps, far quicker than one each."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for number, trial in rows.groupby("trial", sort=False):
        x += [*listed(trial["epoch"]), None]
        y += [*listed(trial["value"]), None]
        texts += [f"trial {number}, {safe(trial['label'].iloc[0])}"] * (len(trial) + 1)
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "hovertext": texts,
        "line": {"color": color, "width": width, "dash": _DASHES.get(name, "solid")},
        "opacity": 0.45 if name == "other" else 1.0,
        "hovertemplate": "%{hovertext}<br>epoch %{x}: %{y:.3f}<extra></extra>",
    }  # fmt: skip


def _hovers(rows: pd.DataFrame, metric: str) -> list[str]:
    return [
        f"trial {trial}, {safe(label)}<br>epoch {epoch}: {metric} {formats.score(value)}"
        for trial, label, epoch, value in rows[["trial", "label", "epoch", "value"]].itertuples(
            index=False
        )
    ]


def _cohort(results: Results, metric: str, number: int) -> Figure:
    course = cohort_course(results)
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": role,
            "x": listed(course["epoch"]),
            "y": listed(course[role]),
            "line": {"color": color, "width": 2, "dash": dash},
            "marker": {"size": 5, "symbol": symbol},
            "hovertemplate": f"{role}, epoch %{{x}}: %{{y:.3f}}<extra></extra>",
        }
        for role, color, dash, symbol in (
            ("teacher", TEACHER, "dash", "diamond"),
            ("control", CONTROL, "dot", "circle-open"),
            ("student", STUDENT, "solid", "circle"),
        )
        if course[role].notna().any()
    ]
    title = "Did the best student follow its teacher, and beat its control?"
    who = ", its teacher, which learns at the same time, and its control, which learns alone"
    taught_by = None if results.summary.best is None else results.summary.best.teacher
    if results.summary.best is not None and taught_by in (None, ITSELF):
        alone = "without a teacher" if taught_by is None else "from its own average"
        title, who = "How did the best student learn?", f", which learns {alone}"
    return Figure(
        name="best-cohort",
        title=title,
        caption=f"{metric} on the validation split after each epoch: trial {number}{who}.",
        tables={"best-cohort": course},
        traces=traces,
        layout={
            "xaxis": epoch_axis("epoch", course["epoch"].max()),
            "yaxis": axis(metric),
            "legend": legend_above(),
        },
    )


def _endings(results: Results) -> list[Figure]:
    table = endings(results)
    if table.empty:
        return []
    colors = {
        State.COMPLETE: STUDENT,
        State.STOPPED: MUTED,
        _COSTLY: TOO_COSTLY,
        State.FAILED: "var(--bad)",
    }
    traces: list[Trace] = []
    for state in colors:
        rows = table[table["state"] == state]
        if len(rows):
            traces.append(
                {
                    "type": "bar",
                    "name": "stopped early" if state == State.STOPPED else state,
                    "x": listed(rows["epoch"]),
                    "y": listed(rows["num_trials"]),
                    "marker": {"color": colors[state]},
                    "hovertemplate": f"after epoch %{{x}}: %{{y}} {state}<extra></extra>",
                }
            )
    return [
        Figure(
            name="endings",
            title="At which epoch did trials end?",
            caption="Search trials by the last epoch they finished.",
            tables={"endings": table},
            traces=traces,
            layout={
                "xaxis": {**epoch_axis("last epoch", table["epoch"].max()), "rangemode": "normal"},
                "yaxis": axis("trials", rangemode="tozero"),
                "barmode": "stack",
                "legend": legend_above(),
            },
            height=320,
        )
    ]
