"""The tables of a sweep, each a pure function of its state and of its epochs' numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.config.metrics import TEACHER_MIOU
from kdsweep.ledger import Experiment
from kdsweep.ledger.events import ClassIoUs
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import ITSELF, LABELS, State, merit
from kdsweep.reporting.epochs import EpochColumns

PARAM = "param:"
_CONFIDENT = "student/confident"
# What a frame costs a student, as its reports name it.
COSTS = ("params_m", "macs_g", "latency_ms", "latency_p95_ms", "inference_mb")
_MEASURED = ["latency_ms", "latency_p95_ms", "inference_mb"]
_MERIT = ("value", "params_m", "number")
_NETWORK = ["name", "params_m", "macs_g"]


def epoch_table(columns: EpochColumns) -> pd.DataFrame:
    """Return all epochs, sorted by trial and epoch; of those told twice the last word."""
    rows = columns.rows()
    trial, epoch = rows["trial"], rows["epoch"]
    order = np.lexsort((epoch, trial))  # stable: the last word on an epoch comes last
    again = (np.diff(trial[order]) == 0) & (np.diff(epoch[order]) == 0)
    order = order[~np.append(again, np.zeros(min(len(order), 1), dtype=bool))]
    table: dict[str, Any] = {
        "trial": trial[order],
        "attempt": rows["attempt"][order],
        "epoch": epoch[order],
        "value": rows["value"][order],
        "stop": pd.Series(columns.stop, dtype="str").take(order).reset_index(drop=True),
        "time": rows["time"][order],
        **columns.metrics(order),
    }
    # The columns were made for this table alone; copies would double a big sweep's memory.
    return pd.DataFrame(table, copy=False)


def trial_table(sweep: Sweep, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return all trials on today's data by number, their gains still missing."""
    current = [trial for trial in sweep.trials.values() if not trial.is_outdated]
    records = sorted(current, key=lambda trial: trial.number)
    number = pd.Series([t.number for t in records], dtype="int64")
    chosen = epochs["trial"].map({t.number: t.best_epoch for t in records})
    best = epochs[epochs["epoch"] == chosen].set_index("trial")
    last = epochs.groupby("trial").tail(1).set_index("trial")

    def at(rows: pd.DataFrame, column: str) -> pd.Series:
        """Return a column of one epoch of each trial, aligned with the trials."""
        if column not in rows:
            return pd.Series(np.nan, index=number.index, dtype="float64")
        return number.map(rows[column])

    students, teachers = _text(t.student for t in records), _text(t.taught_by for t in records)
    costs, teacher_latency = _costs_of_networks(
        pd.DataFrame({"name": students, **{c: at(last, f"student/{c}") for c in COSTS}}),
        pd.DataFrame({"name": teachers, **{c: at(last, f"teacher/{c}") for c in COSTS}}),
    )
    table = pd.DataFrame(
        {
            "number": number,
            "kind": _text(t.kind for t in records),
            "label": _text(t.label for t in records),
            "student": students,
            "teacher": teachers,
            "state": _text(t.state for t in records),
            "value": at(best, "value").astype("float64"),
            "best_epoch": at(best, "epoch").astype("Int64"),
            "last": at(last, "value").astype("float64"),
            "epochs": at(last, "epoch").fillna(0).astype("int64"),
            "planned_epochs": pd.Series([t.planned for t in records], dtype="Int64"),
            # A control that rides in a cohort is scored beside a teacher that is not its own.
            "teacher_miou": at(best, TEACHER_MIOU).astype("float64").where(teachers.notna()),
            "agreement": at(best, "student/agreement").astype("float64").where(teachers.notna()),
            "gain": np.nan,
            "lead": np.nan,
            "control": pd.Series([t.control for t in records], dtype="Int64"),
            "cohort": pd.Series([t.cohort for t in records], dtype="int64"),
            **{name: costs[name] for name in COSTS},
            "teacher_latency_ms": teacher_latency,
            "hours": pd.Series(
                [sweep.trial_seconds(t.number) / 3600 for t in records], dtype="float64"
            ),
            "attempts": pd.Series([t.num_starts for t in records], dtype="int64"),
            "seed": pd.Series([_seed(t.job) for t in records], dtype="Int64"),
            "seed_compat_iou": at(best, "student/seed_compat_iou").astype("float64"),
            "breaks_bound": pd.Series([t.breaks_bound for t in records], dtype="bool"),
        }
    )
    if any(trial.machine for trial in records):
        table["machine"] = _text(trial.machine for trial in records)
    if _CONFIDENT in epochs:
        table["confident"] = at(best, _CONFIDENT).astype("float64")
    names = list(dict.fromkeys(name for trial in records for name in trial.params))
    params = {f"{PARAM}{name}": _column([t.params.get(name) for t in records]) for name in names}
    return pd.concat([table, pd.DataFrame(params, index=table.index)], axis=1)


def _costs_of_networks(
    students: pd.DataFrame, teachers: pd.DataFrame
) -> tuple[pd.DataFrame, pd.Series]:
    """Return what each trial's student costs, and how long its teacher takes.

    What is measured is the median over all trainings of a network: taken beside whatever ran at the
    time, single values differ by more than networks do.
    """
    numbers = dict.fromkeys(COSTS, "float64")
    students, teachers = students.astype(numbers), teachers.astype(numbers)
    by_network = students.groupby(_NETWORK, dropna=False)[_MEASURED]
    shared = students.assign(**by_network.transform("median"))
    # A teacher that is built like a student takes as long as that.
    known = by_network.median()["latency_ms"].rename("known").reset_index()
    as_student = teachers[_NETWORK].merge(known, on=_NETWORK, how="left")["known"]
    own = teachers.groupby(_NETWORK, dropna=False)["latency_ms"].transform("median")
    return shared, as_student.fillna(own).where(teachers["name"].notna())


def pair_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return teachers and students, best pair first; students without a teacher are pairs too.

    What trials that cost more than allowed have reached is left out, and who had all labels.
    """
    trials = trials[trials["teacher"] != LABELS]
    within = ~trials["breaks_bound"]
    scores = {name: trials[name].where(within) for name in ("value", "gain")}
    behind = trials["epochs"].where(scores["value"].notna())
    halved = within & (trials["state"] == State.STOPPED)
    every = trials.assign(**scores, behind=behind, halved=halved)
    groups = every.groupby(["teacher", "student"], dropna=False, sort=True)
    pairs = groups.agg(
        num_trials=("number", "size"),
        num_complete=("state", lambda states: int((states == State.COMPLETE).sum())),
        num_stopped=("halved", "sum"),
        num_too_costly=("breaks_bound", "sum"),
        num_failed=("state", lambda states: int((states == State.FAILED).sum())),
        best=("value", "max"),
        median=("value", "median"),
        median_gain=("gain", "median"),
        least_epochs=("behind", "min"),
        most_epochs=("behind", "max"),
        params_m=("params_m", "max"),
    ).reset_index()
    whole = {"least_epochs": "Int64", "most_epochs": "Int64"}
    pairs = pairs.astype(whole)
    ranked = rank(every[every["value"].notna()])
    of_best = {
        "number": "best_trial",
        "gain": "best_gain",
        "epochs": "best_epochs",
        "planned_epochs": "planned_epochs",
    }
    best = ranked.drop_duplicates(["teacher", "student"])
    named = best[["teacher", "student", *of_best]].rename(columns=of_best)
    named["place"] = range(len(named))
    pairs = pairs.merge(named, on=["teacher", "student"], how="left")
    numbers = ("best_trial", "best_epochs", "planned_epochs")
    pairs = pairs.astype(dict.fromkeys(numbers, "Int64"))
    pairs = pairs.sort_values("place", na_position="last", kind="stable")
    return pairs.drop(columns="place").reset_index(drop=True)


def class_table(sweep: Sweep, columns: EpochColumns) -> pd.DataFrame:
    """Return the IoU of each class at every trial's best epoch, beside teacher and control."""
    names = list(sweep.header.data.get("classes") or [])
    parts = []
    for number, trial in sorted(sweep.trials.items()):
        if trial.is_outdated:
            continue
        classes = columns.classes(number, trial.best_epoch)
        num_classes = max((len(ious) for ious in classes.values()), default=0)
        if not num_classes:
            continue
        rows = {
            "student": classes.get("student"),
            "teacher": classes.get("teacher"),
            "control": _of_partner(sweep, columns, number).get("student"),
        }
        ious_of = {name: _ious(ious, num_classes) for name, ious in rows.items()}
        parts.append((number, num_classes, ious_of))
    sizes = [num_classes for _, num_classes, _ in parts]
    ids = np.concatenate([np.arange(size) for size in sizes]) if parts else np.zeros(0, dtype=int)
    named = [names[i] if i < len(names) else f"class {i}" for i in range(max(sizes, default=0))]
    joined = {
        name: np.concatenate([part[name] for *_, part in parts]) if parts else np.zeros(0)
        for name in ("student", "teacher", "control")
    }
    return pd.DataFrame(
        {
            "trial": np.repeat(np.array([n for n, *_ in parts], dtype=np.int64), sizes),
            "class_id": ids,
            "class": _text(named[i] for i in ids),
            **joined,
        }
    )


def _of_partner(sweep: Sweep, columns: EpochColumns, number: int) -> ClassIoUs:
    """Return the IoU of each class of a trial's control at the epoch that is compared."""
    partner = sweep.partner(number)
    return {} if partner is None else columns.classes(partner[0].number, partner[1])


def failure_table(sweep: Sweep, experiment: Experiment, relative: bool) -> pd.DataFrame:
    """Return all failures on today's data in order.

    Logs are named relative to the experiment or in full.
    """

    def log(number: int) -> str:
        path = experiment.trial(number).log
        return os.path.relpath(path, experiment.path.absolute()) if relative else str(path)

    events = [event for event in sweep.failures if not sweep.trials[event.trial].is_outdated]
    there = {"machine": _text(e.machine for e in events)} if any(e.machine for e in events) else {}
    return pd.DataFrame(
        {
            "trial": pd.Series([e.trial for e in events], dtype="int64"),
            "label": _text(sweep.trials[e.trial].label for e in events),
            **there,
            "attempt": pd.Series([e.attempt for e in events], dtype="int64"),
            "class": _text(e.failure for e in events),
            "message": _text(e.message for e in events),
            "retried": pd.Series([e.retry for e in events], dtype="bool"),
            "time": pd.Series([e.time for e in events], dtype="float64"),
            "log": _text(log(e.trial) for e in events),
            "traceback": _text(e.traceback for e in events),
        }
    )


def eligible(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that may be called best: those with a value, within all bounds."""
    is_allowed = ~trials["breaks_bound"] & (trials["teacher"] != LABELS)
    return trials[trials["value"].notna() & is_allowed]


def has_teacher(trials: pd.DataFrame) -> pd.Series:
    """Return which rows have a teacher that is another network."""
    return trials["teacher"].notna() & ~trials["teacher"].isin([ITSELF, LABELS])


def rank(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials, all with a value, best first; see :func:`kdsweep.ledger.trials.merit`."""
    keys = [merit(*row) for row in zip(*(trials[name] for name in _MERIT), strict=True)]
    return trials.iloc[sorted(range(len(trials)), key=keys.__getitem__)]


def plain(value: Any) -> Any:
    """Return a table's cell as plain JSON: missing numbers become ``None``."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _seed(job: Mapping[str, Any]) -> int | None:
    return (job.get("train") or {}).get("seed")


def _text(values: Iterable[str | None]) -> pd.Series:
    return pd.Series(list(values), dtype="str")


def _column(values: list[Any]) -> pd.Series:
    """Return drawn values as a column of their own kind; what is mixed stays as it is."""
    series = pd.Series(values, dtype="object")
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        return pd.to_numeric(series).astype("Int64" if kinds == {int} else "float64")
    if kinds == {str}:
        return series.astype("str")
    return series


def _ious(ious: list[float | None] | None, num_classes: int) -> np.ndarray:
    column = np.full(num_classes, np.nan)
    if ious:
        column[: len(ious)] = np.array(ious, dtype=np.float64)
    return column
