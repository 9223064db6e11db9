"""The gain: a student's best value minus its control's, both within as many epochs.

A control of a sweep is trained once for each student architecture, at the middle of the search
space. Where a trial drew other hyperparameters, its gain holds their effect as well as the
teacher's; such a pair is not *matched*. Where there are self-taught controls, each trial is
compared with its own as well: what it has beyond that, its teacher gave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdsweep.config.sweep import ALL_LABELS, SELF
from kdsweep.ledger.events import Kind
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State, Trial
from kdsweep.reporting.epochs import EpochColumns

# What a teacher brings; everything else of a job is shared with a matched control.
_DISTILLATION = ("name", "teacher", "distill")


def gain_table(
    sweep: Sweep, trials: pd.DataFrame, epochs: pd.DataFrame, columns: EpochColumns
) -> pd.DataFrame:
    """Return each search trial beside its control.

    Args:
        sweep: The sweep, which says who is compared with whom.
        trials: The trials; those of kind ``search`` are compared.
        epochs: Their epochs, which hold the teachers' scores.
        columns: The same as they were read, with their seconds.

    Returns:
        Columns ``trial, label, teacher, student, control, epochs, value, control_value, gain,
        matched, seed, control_seed, reason``; ``reason`` is missing where there is a gain. ``lead``
        is the teacher's value at the trial's best epoch minus the control's, and ``time_ratio`` how
        many times as long as its control a pair took for as many epochs, the teacher's head start
        included, where each had its frames to itself. Where there are self-taught controls also
        ``self_control``, ``self_value`` and ``self_gain``; where there are some with all labels
        ``labels_control`` and ``headroom``, their value minus the control's.
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
    table["lead"] = _of_teachers(sweep, search, epochs) - table["control_value"]
    table["time_ratio"] = _time_ratios(sweep, search, columns)
    if any(SELF in trial.further for trial in sweep.trials.values()):
        table["self_control"], table["self_value"] = _further(sweep, search, SELF)
        table["self_gain"] = table["value"] - table["self_value"]
    if any(ALL_LABELS in trial.further for trial in sweep.trials.values()):
        table["labels_control"], best = _further(sweep, search, ALL_LABELS)
        table["headroom"] = best - table["control_value"]
    return table


def _further(sweep: Sweep, search: pd.DataFrame, kind: str) -> tuple[pd.Series, pd.Series]:
    """Return each trial's control of a kind, and its best value within as many epochs."""
    own = [sweep.trials[number].control_of(kind) for number in search["number"]]
    found = (sweep.partner(number, kind) for number in search["number"])
    values = [math.nan if one is None else one[0].values[one[1]] for one in found]
    return pd.Series(own, dtype="Int64"), pd.Series(values, dtype="float64")


def is_matched(job: Mapping[str, Any], control: Mapping[str, Any]) -> bool:
    """Return whether two jobs differ in nothing but the teacher and what is learned from it."""
    keys = (set(job) | set(control)) - set(_DISTILLATION)
    return all(job.get(key) == control.get(key) for key in keys)


def _of_teachers(sweep: Sweep, search: pd.DataFrame, epochs: pd.DataFrame) -> pd.Series:
    """Return each teacher's value of the sweep's metric at its student's best epoch."""
    name = f"teacher/{sweep.header.metric.removeprefix('student/')}"
    if name not in epochs:
        return pd.Series(math.nan, search.index, dtype="float64")
    rows = epochs[epochs["epoch"] == epochs["trial"].map(search.set_index("number")["best_epoch"])]
    return search["number"].map(rows.set_index("trial")[name]).astype("float64")


def _time_ratios(sweep: Sweep, search: pd.DataFrame, columns: EpochColumns) -> list[float]:
    rows = pd.DataFrame(columns.rows()[["trial", "epoch", "seconds"]])
    rows = rows.drop_duplicates(["trial", "epoch"], keep="last")
    of = dict(iter(rows.groupby("trial")))

    def took(trial: int, epochs: int) -> float:
        mine = of[trial]
        return float(mine.loc[mine["epoch"] <= epochs, "seconds"].sum())

    found = []
    for number in search["number"]:
        trial, partner = sweep.trials[number], sweep.partner(number)
        control_s = 0.0
        if trial.teacher is not None and partner is not None:
            control = partner[0].number
            if len(sweep.cohort(number)) == len(sweep.cohort(control)) == 1:
                control_s = took(control, trial.epoch)
        found.append(took(number, trial.epoch) / control_s if control_s else math.nan)
    return found


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
