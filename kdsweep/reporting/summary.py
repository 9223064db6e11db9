"""A sweep in one mapping of plain JSON: counts, budgets, the best trial, what the data are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep.ledger.events import Kind
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.reporting.bounds import rejected_students
from kdsweep.reporting.tables import COSTS, eligible, plain, rank


def summarize(
    sweep: Sweep,
    trials: pd.DataFrame,
    gains: pd.DataFrame,
    folder: Path | None,
    driver_alive: bool | None,
    links: Mapping[str, Any],
) -> dict[str, Any]:
    """What a sweep amounts to; every key is there from the first moment on.

    ``links`` has ``confirms`` and ``confirmed_by``; see :func:`kdsweep.reporting.results.load`.
    """
    header, sessions = sweep.header, sweep.sessions
    search = trials[trials["kind"] == Kind.SEARCH]
    ranked = rank(eligible(trials))
    best = None if ranked.empty else _best(ranked.iloc[0])
    ties = [] if best is None else ranked.loc[ranked["value"] == best["value"], "number"].tolist()
    data = dict(header.data)
    return {
        "name": header.name,
        "experiment": None if folder is None else str(folder),
        "state": sweep.standing(driver_alive),
        "pause_reason": sweep.paused,
        "metric": sweep.metrics[0],
        "metrics": list(sweep.metrics),
        "constraints": dict(header.constraints),
        "sampler": header.sampler,
        "scheduler": header.scheduler,
        "seed": header.seed,
        "epochs_per_trial": header.epochs,
        "num_planned": None if sweep.is_new else header.trials,
        "num_trials": len(search),
        "num_controls": len(trials) - len(search),
        "num_teachers": int(search.loc[search["teacher"].notna(), "cohort"].nunique()),
        "states": {str(state): int((search["state"] == state).sum()) for state in State},
        "num_epochs": int(trials["epochs"].sum()),
        "num_failures": len(sweep.failures),
        "num_failed_trials": int((trials["state"] == State.FAILED).sum()),
        "num_too_costly": int(search["breaks_bound"].sum()),
        "rejected": rejected_students(sweep),
        "num_seeds": int(search["seed"].nunique()),
        "num_sessions": len(sessions),
        "cpus_per_trial": sessions[-1].event.cpus_per_trial if sessions else None,
        "started": sweep.started,
        "updated": sweep.updated,
        "hours": sweep.hours(),
        "slot_hours": _slot_hours(sweep),
        "trial_hours": sweep.slot_hours(),
        "gpu_hours": sweep.gpu_hours(),
        "best": best,
        "best_ties": ties,
        "num_gains": int(gains["gain"].notna().sum()),
        "gains_matched": bool(gains.loc[gains["gain"].notna(), "matched"].all()),
        "confirms": links.get("confirms"),
        "confirmed_by": list(links.get("confirmed_by", ())),
        "data": data,
        "notice": data.get("notice") if data.get("embedded", True) else None,
    }


def _slot_hours(sweep: Sweep) -> float | None:
    """Time that there was for trials: a session's length times the trials it runs at once."""
    slots = [session.slots for session in sweep.sessions]
    if not slots or not all(slots):
        return None
    times = [session.end - session.start for session in sweep.sessions]
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
