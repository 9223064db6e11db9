"""A sweep in one record: counts, budgets, the best trial, what the data are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep.config.metrics import metric_of
from kdsweep.ledger.at_random import names_at_random
from kdsweep.ledger.events import Kind
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.reporting import formats
from kdsweep.reporting.confirmation import Claim
from kdsweep.reporting.constraints import Rejected, rejected_students
from kdsweep.reporting.record import Record
from kdsweep.reporting.tables import eligible, has_teacher, plain, rank


@dataclass(frozen=True)
class Best(Record):
    """The best trial: its row of the table of trials, with ``None`` for what is missing."""

    number: int
    label: str
    student: str
    teacher: str | None
    value: float
    best_epoch: int
    epochs: int
    planned_epochs: int | None
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
class ConfirmedBy(Record):
    """An experiment that trained the best jobs of another one again.

    Attributes:
        error: Why it cannot be read, if it cannot.
        state: As in :class:`Summary`, or ``damaged``.
        claims: Rows of its confirmation.
        protocol: As in :class:`Summary`; ``None`` if it cannot be read.
        other_data: How its data differ from those of the sweep, where that was accepted.
    """

    left_out_if_empty = frozenset({"protocol", "other_data"})

    experiment: str
    error: str | None
    state: str
    claims: list[Claim]
    protocol: str | None = None
    other_data: list[str] = field(default_factory=list)

    @property
    def remark(self) -> str:
        """What stands behind its name where it has not come to its end."""
        return "" if self.state == "done" else f"({self.state})"


@dataclass(frozen=True)
class Summary(Record):
    """What a sweep amounts to; the fields are the keys of its JSON form, in their order.

    Attributes:
        name: Name of the sweep.
        experiment: Its folder; ``None`` for results of events alone.
        state: As in :class:`kdsweep.reporting.status.Status`.
        metric: The score that decides on epochs.
        metrics: All that it searches by.
        constraints: Most that is allowed of each bounded cost.
        sampler, scheduler, seed, epochs_per_trial: Of the search.
        priors: Trials of earlier sweeps that the sampler began with, by experiment.
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
        confirmed_by: Those beside it that trained its best jobs again.
        data: What the ledger says of the data, and their names: ``fingerprints`` and ``shorts``,
            one for each section ``data`` that was looked at; not in old ledgers.
        parts: Changes of the data that were accepted: ``time, before, now, differences`` and
            ``num_trials`` before it, which none of the other fields but the times counts.
        notice: What has to be known of the data before a number is quoted.
        miou_over: The classes that count in mIoU, ``labelled`` or ``seen``.
        protocol: The size at which all trials are scored, ``resized`` or ``native``.
        select: Which epoch of each trial counts, where that is not the best.
        at_random: Parameters that the sampler could only draw at random.
    """

    left_out_if_empty = frozenset({"priors", "parts", "select", "at_random"})

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
    priors: dict[str, int]
    num_planned: int | None
    num_trials: int
    num_controls: int
    num_teachers: int
    states: dict[str, int]
    num_epochs: int
    num_failures: int
    num_failed_trials: int
    num_too_costly: int
    rejected: list[Rejected]
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
    confirmed_by: list[ConfirmedBy]
    data: dict[str, Any]
    parts: list[dict[str, Any]]
    notice: str | None
    miou_over: str
    protocol: str
    select: str
    at_random: list[str]

    @property
    def metric_name(self) -> str:
        """The metric as a heading."""
        return metric_of(self.metric).name

    def claims_of(self, number: int) -> list[Claim]:
        """Return what confirmations say of a trial, as far as they have seeds to speak of."""
        job = f"trial {number:04d}"
        claims = [claim for other in self.confirmed_by for claim in other.claims]
        return [claim for claim in claims if claim.job == job and claim.seeds]

    def counts(self) -> list[str]:
        """Return how much was trained, a few words each."""
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
) -> Summary:
    """Return what a sweep amounts to by its ledger; every fact is there from the beginning."""
    header, sessions = sweep.header, sweep.sessions
    search = trials[trials["kind"] == Kind.SEARCH]
    ranked = rank(eligible(trials))
    best = None if ranked.empty else _best(ranked.iloc[0])
    ties = [] if best is None else ranked.loc[ranked["value"] == best.value, "number"].tolist()
    data: dict[str, Any] = dict(header.data)
    for key in ("fingerprint", "short") if sweep.data else ():
        data[f"{key}s"] = list(dict.fromkeys(name[key] for name in sweep.data))
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
        priors=dict(Counter(prior.experiment for prior in sweep.priors)),
        num_planned=None if sweep.is_new else header.trials - sweep.num_outdated,
        num_trials=len(search),
        num_controls=len(trials) - len(search),
        num_teachers=int(search.loc[has_teacher(search), "cohort"].nunique()),
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
        confirms=None,
        confirmed_by=[],
        data=data,
        parts=parts_of(sweep),
        notice=data.get("notice") if data.get("embedded", True) else None,
        miou_over=sweep.miou_over,
        protocol=sweep.protocol,
        select=sweep.header.select,
        at_random=names_at_random(t for t in sweep.trials.values() if not t.is_outdated),
    )


def parts_of(sweep: Sweep) -> list[dict[str, Any]]:
    """The changes of the data, oldest first; see :class:`Summary`."""
    return [
        {
            "time": part.time,
            "before": part.before,
            "now": part.now,
            "differences": part.differences,
            "num_trials": part.num_trials,
        }
        for part in sweep.parts
    ]


def _slot_hours(sweep: Sweep) -> float | None:
    """Return the time that there was for trials: sessions' lengths times trials at once."""
    slots = [session.slots for session in sweep.sessions]
    if not slots or not all(slots):
        return None
    times = [session.end - session.start for session in sweep.sessions]
    return sum(time * num for time, num in zip(times, slots, strict=True)) / 3600


def _best(row: pd.Series) -> Best:
    return Best(**{each.name: plain(row[each.name]) for each in fields(Best)})
