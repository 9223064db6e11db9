"""A sweep in one mapping of plain JSON: counts, budgets, the best trial, what the data are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep.reporting.history import FAILED, STATES, History
from kdsweep.reporting.tables import plain, rank


def summarize(
    history: History,
    trials: pd.DataFrame,
    gains: pd.DataFrame,
    folder: Path | None,
    driver_alive: bool | None,
) -> dict[str, Any]:
    """What a sweep amounts to; every key is there from the first moment on."""
    sweep, sessions = history.sweep, history.sessions
    search = trials[trials["kind"] == "search"]
    ranked = rank(search[search["value"].notna()])
    best = None if ranked.empty else _best(ranked.iloc[0])
    ties = [] if best is None else ranked.loc[ranked["value"] == best["value"], "number"].tolist()
    data = dict(sweep.get("data") or {})
    return {
        "name": sweep.get("name"),
        "experiment": None if folder is None else str(folder),
        "state": _state(history, driver_alive),
        "pause_reason": history.ending if history.ending not in (None, "done") else None,
        "metric": sweep.get("metric", "student/miou"),
        "sampler": sweep.get("sampler"),
        "scheduler": sweep.get("scheduler"),
        "seed": sweep.get("seed"),
        "epochs_per_trial": sweep.get("epochs"),
        "num_planned": sweep.get("trials"),
        "num_trials": len(search),
        "num_controls": len(trials) - len(search),
        "states": {state: int((search["state"] == state).sum()) for state in STATES},
        "num_epochs": int(trials["epochs"].sum()),
        "num_failures": len(history.failures),
        "num_failed_trials": int((trials["state"] == FAILED).sum()),
        "num_seeds": int(search["seed"].nunique()),
        "num_sessions": len(sessions),
        "started": sessions[0].start if sessions else sweep.get("time"),
        "updated": sessions[-1].last if sessions else sweep.get("time"),
        "hours": sum(s.last - s.start for s in sessions) / 3600,
        "trial_hours": sum(t.seconds for t in history.trials.values()) / 3600,
        "gpu_hours": sum(t.gpu_seconds for t in history.trials.values()) / 3600,
        "best": best,
        "best_ties": ties,
        "num_gains": int(gains["gain"].notna().sum()),
        "gains_matched": bool(gains.loc[gains["gain"].notna(), "matched"].all()),
        "data": data,
        "notice": data.get("notice") if data.get("embedded", True) else None,
    }


def _state(history: History, driver_alive: bool | None) -> str:
    """``empty``, ``not started``, ``running``, ``died``, ``paused`` or ``done``."""
    if not history.sweep:
        return "empty"
    if history.ending is not None:
        return "done" if history.ending == "done" else "paused"
    if not history.sessions:
        return "not started"
    return "died" if driver_alive is False else "running"


def _best(row: pd.Series) -> dict[str, Any]:
    keys = (
        "number",
        "label",
        "student",
        "teacher",
        "value",
        "best_epoch",
        "epochs",
        "state",
        "gain",
    )
    picked = {key: row[key] for key in (*keys, "params_m", "teacher_miou", "hours", "seed")}
    return {key: plain(value) for key, value in picked.items()}
