"""A sweep in one record: counts, budgets, the best trial, what the data are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep.ledger.events import Kind
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.reporting import formats
from kdsweep.reporting.constraints import rejected_students
from kdsweep.reporting.tables import eligible, plain, rank


class _Record:
    """Facts that notebooks may also reach by name, as they stand in JSON."""

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None


@dataclass(frozen=True)
class Best(_Record):
    """The best trial: its row of the table of trials, with ``None`` for what is missing."""

    number: int
    label: str
    student: str
    teacher: str | None
    value: float
    best_epoch: int
    epochs: int
    state: str
    gain: float | None
    params_m: float | None
    macs_g: float | None
    latency_ms: float | None
    latency_p95_ms: float | None
    inference_mb: float | None
    teacher_miou: float | None
    agreement: float | None
    hours: float
    seed: int | None


@dataclass(frozen=True)
class Summary(_Record):
    """What a sweep amounts to; the fields are the keys of its JSON form, in their order.

    Attributes:
        name: Name of the sweep.
        experiment: Its folder; ``None`` for results of events alone.
        state: As in :class:`kdsweep.reporting.status.Status`.
        pause_reason: Why it paused.
        metric: The score that decides on epochs.
        metrics: All that it searches by.
        constraints: Most that is allowed of each bounded cost.
        sampler, scheduler, seed, epochs_per_trial: Of the search.
        num_planned: Trials asked for; the counts that follow are without controls but for epochs,
            failures and failed trials.
        states: Number of trials by state.
        num_too_costly: Trials that cost more than allowed.
        rejected: Draws that were never trained, by student.
        num_seeds: Different seeds among the trials.
        cpus_per_trial: Of the last session.
        started, updated: Unix times of the first and the last event.
        hours: Length of all sessions.
        slot_hours: Time that there was for trials; ``None`` in ledgers that do not say.
        trial_hours, gpu_hours: Spent by trials.
        best, best_ties: The best trial, and the numbers of all that are as good.
        num_gains, gains_matched: Trials with a gain, and whether all of them are matched.
        confirms: Folder of the experiment that this one confirms.
        confirmed_by: Those beside it that trained its best jobs again: ``experiment, state,
            claims`` (rows of their confirmation), ``protocol``, ``error`` if one cannot be read.
        data: What the ledger says of the data.
        notice: What has to be known of the data before a number is quoted.
        miou_over: The classes that count in mIoU, ``labelled`` or ``seen``.
        protocol: The size at which all trials are scored, ``resized`` or ``native``.
    """

    name: str | None
    experiment: str | None
    state: str
    pause_reason: str | None
    metric: str
    metrics: list[str]
    constraints: dict[str, float]
    sampler: str | None
    scheduler: str | None
    seed: int | None
    epochs_per_trial: int | None
    num_planned: int | None
    num_trials: int
    num_controls: int
    num_teachers: int
    states: dict[str, int]
    num_epochs: int
    num_failures: int
    num_failed_trials: int
    num_too_costly: int
    rejected: list[dict[str, Any]]
    num_seeds: int
    num_sessions: int
    cpus_per_trial: float | None
    started: float | None
    updated: float | None
    hours: float
    slot_hours: float | None
    trial_hours: float
    gpu_hours: float
    best: Best | None
    best_ties: list[int]
    num_gains: int
    gains_matched: bool
    confirms: str | None
    confirmed_by: list[dict[str, Any]]
    data: dict[str, Any]
    notice: str | None
    miou_over: str
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def counts(self) -> list[str]:
        """How much was trained, a few words each."""
        planned = f" of {self.num_planned}" if self.num_planned else ""
        states = ", ".join(f"{num} {state}" for state, num in self.states.items() if num)
        found = [f"{self.num_trials}{planned} trials{f' ({states})' if states else ''}"]
        if 0 < self.num_teachers < self.num_trials:
            found.append(f"{formats.counted(self.num_teachers, 'teacher')} trained")
        if self.num_controls:
            found.append(formats.counted(self.num_controls, "control"))
        return [*found, formats.counted(self.num_epochs, "epoch")]


def summarize(
    sweep: Sweep,
    trials: pd.DataFrame,
    gains: pd.DataFrame,
    folder: Path | None,
    driver_alive: bool | None,
    links: Mapping[str, Any],
) -> Summary:
    """What a sweep amounts to; every fact is there from the first moment on.

    ``links`` has ``confirms`` and ``confirmed_by``; see :func:`kdsweep.reporting.results.load`.
    """
    header, sessions = sweep.header, sweep.sessions
    search = trials[trials["kind"] == Kind.SEARCH]
    ranked = rank(eligible(trials))
    best = None if ranked.empty else _best(ranked.iloc[0])
    ties = [] if best is None else ranked.loc[ranked["value"] == best.value, "number"].tolist()
    data = dict(header.data)
    return Summary(
        name=header.name,
        experiment=None if folder is None else str(folder),
        state=sweep.standing(driver_alive),
        pause_reason=sweep.paused,
        metric=sweep.metrics[0],
        metrics=list(sweep.metrics),
        constraints=dict(header.constraints),
        sampler=header.sampler,
        scheduler=header.scheduler,
        seed=header.seed,
        epochs_per_trial=header.epochs,
        num_planned=None if sweep.is_new else header.trials,
        num_trials=len(search),
        num_controls=len(trials) - len(search),
        num_teachers=int(search.loc[search["teacher"].notna(), "cohort"].nunique()),
        states={str(state): int((search["state"] == state).sum()) for state in State},
        num_epochs=int(trials["epochs"].sum()),
        num_failures=len(sweep.failures),
        num_failed_trials=int((trials["state"] == State.FAILED).sum()),
        num_too_costly=int(search["breaks_bound"].sum()),
        rejected=rejected_students(sweep),
        num_seeds=int(search["seed"].nunique()),
        num_sessions=len(sessions),
        cpus_per_trial=sessions[-1].event.cpus_per_trial if sessions else None,
        started=sweep.started,
        updated=sweep.updated,
        hours=sweep.hours(),
        slot_hours=_slot_hours(sweep),
        trial_hours=sweep.slot_hours(),
        gpu_hours=sweep.gpu_hours(),
        best=best,
        best_ties=ties,
        num_gains=int(gains["gain"].notna().sum()),
        gains_matched=bool(gains.loc[gains["gain"].notna(), "matched"].all()),
        confirms=links.get("confirms"),
        confirmed_by=list(links.get("confirmed_by", ())),
        data=data,
        notice=data.get("notice") if data.get("embedded", True) else None,
        miou_over=sweep.miou_over,
        protocol=sweep.protocol,
    )


def _slot_hours(sweep: Sweep) -> float | None:
    """Time that there was for trials: a session's length times the trials it runs at once."""
    slots = [session.slots for session in sweep.sessions]
    if not slots or not all(slots):
        return None
    times = [session.end - session.start for session in sweep.sessions]
    return sum(time * num for time, num in zip(times, slots, strict=True)) / 3600


def _best(row: pd.Series) -> Best:
    return Best(**{field.name: plain(row[field.name]) for field in fields(Best)})
