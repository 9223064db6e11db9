"""The gain: a student's best value minus its control's, both within as many epochs.

A control of a sweep is trained once for each student architecture, at the middle of the search
space. Where a trial drew other hyperparameters, its gain holds their effect as well as the
teacher's; such a pair is not *matched*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.reporting.history import FAILED, INTERRUPTED, RUNNING, WAITING, History

# What a teacher brings; everything else of a job is shared with a matched control.
_DISTILLATION = ("name", "teacher", "distill")


def gain_table(history: History, trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Each search trial beside its control.

    Args:
        history: The sweep.
        trials: The trials; those of kind ``search`` are compared.
        epochs: Their epochs, sorted by trial and epoch.

    Returns:
        Columns ``trial, label, teacher, student, control, epochs, value, control_value, gain,
        matched, seed, control_seed, reason``; ``reason`` is missing where there is a gain.
    """
    search = trials[trials["kind"] == "search"]
    states = trials.set_index("number")["state"]
    seeds = trials.set_index("number")["seed"]
    table = pd.DataFrame(
        {
            "trial": search["number"],
            "label": search["label"],
            "teacher": search["teacher"],
            "student": search["student"],
            "control": search["control"],
            "epochs": search["epochs"],
            "value": search["value"],
            "control_value": np.nan,
            "gain": np.nan,
            "matched": False,
            "seed": search["seed"],
            "control_seed": search["control"].map(seeds).astype("Int64"),
        }
    ).reset_index(drop=True)
    reason = pd.Series(None, index=table.index, dtype="object")
    reason[table["value"].isna()] = "no epoch finished"
    reason[table["control"].isna()] = "no control"
    for number, rows in table.groupby("control").groups.items():
        control = int(str(number))
        reached, best_so_far = _course(epochs, control)
        at = np.searchsorted(reached, table.loc[rows, "epochs"].to_numpy(), side="right") - 1
        long_enough = table.loc[rows, "epochs"].to_numpy() <= (reached[-1] if len(reached) else 0)
        usable = long_enough & (at >= 0)
        table.loc[rows[usable], "control_value"] = best_so_far[at[usable]]
        short = rows[~usable]
        reason[short] = reason[short].fillna(_why_short(states.get(control), len(reached)))
        table.loc[rows, "matched"] = [
            is_matched(history.trials[trial].job, history.trials[control].job)
            if control in history.trials
            else False
            for trial in table.loc[rows, "trial"]
        ]
    table["gain"] = table["value"] - table["control_value"]
    reason[table["gain"].isna()] = reason[table["gain"].isna()].fillna("control has no value")
    table["reason"] = reason.astype("str")
    return table


def is_matched(job: Mapping[str, Any], control: Mapping[str, Any]) -> bool:
    """Whether two jobs differ in nothing but the teacher and what is learned from it."""
    keys = (set(job) | set(control)) - set(_DISTILLATION)
    return all(job.get(key) == control.get(key) for key in keys)


def _course(epochs: pd.DataFrame, trial: int) -> tuple[np.ndarray, np.ndarray]:
    """Epochs of a trial, and the best value until each of them."""
    rows = epochs[epochs["trial"] == trial]
    return rows["epoch"].to_numpy(), np.fmax.accumulate(rows["value"].to_numpy())


def _why_short(state: str | None, num_epochs: int) -> str:
    if state is None:
        return "control not drawn yet"
    if state == FAILED:
        return f"control failed after {num_epochs} epochs"
    if state in (RUNNING, INTERRUPTED, WAITING):
        return f"control not there yet ({num_epochs} epochs)"
    return f"control stopped after {num_epochs} epochs"
