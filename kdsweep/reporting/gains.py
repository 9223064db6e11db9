"""The gain: a student's best value minus its control's, both within as many epochs.

A control of a sweep is trained once for each student architecture, at the middle of the search
space. Where a trial drew other hyperparameters, its gain holds their effect as well as the
teacher's; such a pair is not *matched*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdsweep.ledger.events import Kind
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State, Trial

# What a teacher brings; everything else of a job is shared with a matched control.
_DISTILLATION = ("name", "teacher", "distill")


def gain_table(sweep: Sweep, trials: pd.DataFrame) -> pd.DataFrame:
    """Return each search trial beside its control.

    Args:
        sweep: The sweep, which says who is compared with whom.
        trials: The trials; those of kind ``search`` are compared.

    Returns:
        Columns ``trial, label, teacher, student, control, epochs, value, control_value, gain,
        matched, seed, control_seed, reason``; ``reason`` is missing where there is a gain.
    """
    search = trials[trials["kind"] == Kind.SEARCH].reset_index(drop=True)
    seeds = trials.set_index("number")["seed"]
    compared = [_compared(sweep, sweep.trials[number]) for number in search["number"]]
    table = pd.DataFrame(
        {
            "trial": search["number"],
            "label": search["label"],
            "teacher": search["teacher"],
            "student": search["student"],
            "control": search["control"],
            "epochs": search["epochs"],
            "value": search["value"],
            "control_value": pd.Series([value for value, _, _ in compared], dtype="float64"),
            "gain": math.nan,
            "matched": pd.Series([matched for _, matched, _ in compared], dtype="bool"),
            "seed": search["seed"],
            "control_seed": search["control"].map(seeds).astype("Int64"),
            "reason": pd.Series([reason for *_, reason in compared], dtype="str"),
        }
    )
    table["gain"] = table["value"] - table["control_value"]
    return table


def is_matched(job: Mapping[str, Any], control: Mapping[str, Any]) -> bool:
    """Return whether two jobs differ in nothing but the teacher and what is learned from it."""
    keys = (set(job) | set(control)) - set(_DISTILLATION)
    return all(job.get(key) == control.get(key) for key in keys)


def _compared(sweep: Sweep, trial: Trial) -> tuple[float, bool, str | None]:
    """Return the control's value, whether it is matched, and why there is no gain, if so."""
    if trial.control is None:
        return math.nan, False, "no control"
    control, partner = sweep.trials.get(trial.control), sweep.partner(trial.number)
    matched = control is not None and is_matched(trial.changed_job, control.changed_job)
    if trial.best is None:
        return math.nan, matched, "no epoch finished"
    if partner is None:
        return math.nan, matched, _why_short(control)
    return partner[0].values[partner[1]], matched, None


def _why_short(control: Trial | None) -> str:
    if control is None:
        return "control not drawn yet"
    num_epochs = len(control.values)
    if control.is_outdated:
        return "control trained on other data"
    if control.state is State.FAILED:
        return f"control failed after {num_epochs} epochs"
    if not control.state.is_final:
        return f"control not there yet ({num_epochs} epochs)"
    return f"control stopped after {num_epochs} epochs"
