"""A sweep in one mapping of plain JSON: counts, budgets, the best trial, what the data are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep.reporting.bounds import rejected_students
from kdsweep.reporting.history import FAILED, STATES, History
from kdsweep.reporting.tables import COSTS, eligible, plain, rank


def summarize(
    history: History,
    trials: pd.DataFrame,
    gains: pd.DataFrame,
    folder: Path | None,
    driver_alive: bool | None,
    links: Mapping[str, Any],
) -> dict[str, Any]:
    """What a sweep amounts to; every key is there from the first moment on.

    ``links`` has ``confirms`` and ``confirmed_by``; see :func:`kdsweep.reporting.results.load`.
    """
    sweep, sessions = history.sweep, history.sessions
    search = trials[trials["kind"] == "search"]
    ranked = rank(eligible(trials))
    best = None if ranked.empty else _best(ranked.iloc[0])
    ties = [] if best is None else ranked.loc[ranked["value"] == best["value"], "number"].tolist()
    data = dict(sweep.get("data") or {})
    return {
        "name": sweep.get("name"),
        "experiment": None if folder is None else str(folder),
        "state": history.state(driver_alive),
        "pause_reason": history.ending if history.ending not in (None, "done") else None,
        "metric": history.metrics[0],
        "metrics": list(history.metrics),
        "constraints": history.bounds,
        "sampler": sweep.get("sampler"),
        "scheduler": sweep.get("scheduler"),
        "seed": sweep.get("seed"),
        "epochs_per_trial": sweep.get("epochs"),
        "num_planned": sweep.get("trials"),
        "num_trials": len(search),
        "num_controls": len(trials) - len(search),
        "num_teachers": int(search.loc[search["teacher"].notna(), "cohort"].nunique()),
        "states": {state: int((search["state"] == state).sum()) for state in STATES},
        "num_epochs": int(trials["epochs"].sum()),
        "num_failures": len(history.failures),
        "num_failed_trials": int((trials["state"] == FAILED).sum()),
        "num_too_costly": int(search["breaks_bound"].sum()),
        "rejected": rejected_students(history),
        "num_seeds": int(search["seed"].nunique()),
        "num_sessions": len(sessions),
        "cpus_per_trial": sessions[-1].event.get("cpus_per_trial") if sessions else None,
        "started": sessions[0].start if sessions else sweep.get("time"),
        "updated": sessions[-1].last if sessions else sweep.get("time"),
        "hours": sum(s.last - s.start for s in sessions) / 3600,
        "slot_hours": _slot_hours(history),
        "trial_hours": sum(t.seconds for t in history.trials.values()) / 3600,
        "gpu_hours": sum(t.gpu_seconds for t in history.trials.values()) / 3600,
        "best": best,
        "best_ties": ties,
        "num_gains": int(gains["gain"].notna().sum()),
        "gains_matched": bool(gains.loc[gains["gain"].notna(), "matched"].all()),
        "confirms": links.get("confirms"),
        "confirmed_by": list(links.get("confirmed_by", ())),
        "data": data,
        "notice": data.get("notice") if data.get("embedded", True) else None,
    }


def _slot_hours(history: History) -> float | None:
    """Time that there was for trials: a session's length times the trials it runs at once."""
    slots = [session.event.get("slots") or 0 for session in history.sessions]
    if not slots or not all(slots):
        return None
    times = [session.last - session.start for session in history.sessions]
    return sum(time * num for time, num in zip(times, slots, strict=True)) / 3600


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
    picked = {
        key: row[key] for key in (*keys, *COSTS, "teacher_miou", "agreement", "hours", "seed")
    }
    return {key: plain(value) for key, value in picked.items()}
