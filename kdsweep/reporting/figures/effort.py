"""What did the sweep cost, and what did early stopping save?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdsweep.ledger.events import Kind
from kdsweep.ledger.trials import State
from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    CONTROL,
    MUTED,
    STUDENT,
    Figure,
    Trace,
    axis,
    legend_above,
    listed,
    trial_hovers,
)
from kdsweep.reporting.record import Record
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM

_MOST_BARS = 80


def trial_efforts(results: Results) -> pd.DataFrame:
    """Return what each trial took, and what stopping it early left unspent.

    Returns:
        Columns ``trial, kind, label, state, epochs, planned_epochs, hours, saved_hours``. Saved are
        the epochs that a stopped trial did not train, at its own time per epoch.
    """
    trials = results.trials
    planned = pd.Series(results.summary.epochs_per_trial, index=trials.index, dtype="float64")
    if f"{PARAM}train.epochs" in trials:
        planned = trials[f"{PARAM}train.epochs"].astype("float64").fillna(planned)
    per_epoch = trials["hours"] / trials["epochs"].where(trials["epochs"] > 0)
    saved = ((planned - trials["epochs"]) * per_epoch).clip(lower=0)
    return pd.DataFrame(
        {
            "trial": trials["number"],
            "kind": trials["kind"],
            "label": trials["label"],
            "state": trials["state"],
            "epochs": trials["epochs"],
            "planned_epochs": planned.astype("Int64"),
            "hours": trials["hours"],
            "saved_hours": saved.where(trials["state"] == State.STOPPED, 0.0).fillna(0.0),
        }
    )


@dataclass(frozen=True)
class Effort(Record):
    """Sums over a sweep, in hours.

    Attributes:
        saved_share: Of what would have been spent without stopping.
        busy_share: Of the slots; missing where the ledger does not say how many there were.
    """

    wall_hours: float
    trial_hours: float
    gpu_hours: float
    control_hours: float
    failed_hours: float
    saved_hours: float
    saved_share: float | None
    busy_share: float | None


def effort_totals(results: Results) -> Effort:
    """Return what a sweep took."""
    efforts, summary = trial_efforts(results), results.summary
    saved = float(efforts["saved_hours"].sum())
    spent = float(summary.trial_hours)
    slots = summary.slot_hours
    return Effort(
        wall_hours=float(summary.hours),
        trial_hours=spent,
        gpu_hours=float(summary.gpu_hours),
        control_hours=float(efforts.loc[efforts["kind"] == Kind.CONTROL, "hours"].sum()),
        failed_hours=float(efforts.loc[efforts["state"] == State.FAILED, "hours"].sum()),
        saved_hours=saved,
        saved_share=saved / (saved + spent) if saved + spent > 0 else None,
        busy_share=min(spent / slots, 1.0) if slots else None,
    )


def effort_bins(efforts: pd.DataFrame, num_bins: int = 40) -> pd.DataFrame:
    """Return how many trials took how long: ``state, from_hours, to_hours, num_trials``."""
    hours = efforts["hours"].to_numpy(dtype=np.float64)
    edges = np.histogram_bin_edges(hours, bins=num_bins) if len(hours) else np.zeros(1)
    parts = []
    for state, rows in efforts.groupby("state", sort=True):
        counts, _ = np.histogram(rows["hours"], bins=edges)
        parts.append(
            pd.DataFrame(
                {
                    "state": state,
                    "from_hours": edges[:-1],
                    "to_hours": edges[1:],
                    "num_trials": counts,
                }
            )
        )
    columns = ["state", "from_hours", "to_hours", "num_trials"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def effort_figures(results: Results) -> list[Figure]:
    """Draw time of each trial as bars; of many trials, how many took how long."""
    efforts = trial_efforts(results)
    if not (efforts["hours"] > 0).any():
        return []
    unit, factor, _ = formats.time_unit(float(efforts["hours"].max()))
    kinds = {
        State.COMPLETE: ("complete", STUDENT),
        State.STOPPED: ("stopped early", MUTED),
        State.FAILED: ("failed", "var(--bad)"),
    }
    states = [*kinds, *(s for s in efforts["state"].unique() if s not in kinds)]
    many = len(efforts) > _MOST_BARS
    bins = effort_bins(efforts)
    traces: list[Trace] = []
    for state in states:
        name, color = kinds.get(state, (state, CONTROL))
        rows = efforts[efforts["state"] == state]
        if rows.empty:
            continue
        if many:
            binned = bins[bins["state"] == state]
            middle = (binned["from_hours"] + binned["to_hours"]) / 2
            places = {"x": listed(middle * factor), "y": listed(binned["num_trials"])}
            hover = f"about %{{x:.3g}} {unit}: %{{y}} {name}<extra></extra>"
            texts: list[str] = []
        else:
            places = {"x": listed(rows["trial"]), "y": listed(rows["hours"] * factor)}
            hover = f"%{{hovertext}}<br>%{{y:.3g}} {unit}, {name}<extra></extra>"
            texts = trial_hovers(rows)
        style = {"marker": {"color": color}, "hovertemplate": hover}
        traces.append({"type": "bar", "name": name, **places, **style, "hovertext": texts})
    time_axis = axis(f"time ({unit})", rangemode="tozero")
    count_axis = axis("trials", rangemode="tozero")
    return [
        Figure(
            name="effort",
            title="How long did trials take?",
            caption="Time that trials held their slot, all attempts counted."
            + ("" if many else " Controls are among them."),
            tables={"effort": efforts, **({"effort-bins": bins} if many else {})},
            traces=traces,
            layout={
                "xaxis": time_axis if many else axis("trial"),
                "yaxis": count_axis if many else time_axis,
                "barmode": "stack",
                "bargap": 0.05 if many else 0.2,
                "legend": legend_above(),
            },
            height=320,
        )
    ]
