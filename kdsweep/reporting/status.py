"""How experiments stand, from the least of their ledgers: what ``list`` and ``status`` show.

No tables are made and no metrics are read, so that many experiments can be looked at, and one of
them again and again while it runs.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import UNSET

from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment, iter_ledger
from kdsweep.ledger.driven import is_driven, successor
from kdsweep.ledger.events import Failure, decode_progress
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import FINAL, State, Trial
from kdsweep.reporting.confirmations import confirmed_source, confirming, sources_of
from kdsweep.reporting.constraints import Rejected, rejected_students
from kdsweep.reporting.record import Record

# How the names of experiments' folders begin.
_STAMP, _STAMP_LENGTH = "%Y%m%d-%H%M%S", len("20261122-141500")


@dataclass(frozen=True)
class RunningTrial(Record):
    """A trial that runs now.

    Attributes:
        epoch, epochs: The last one finished (0 before the first), and all of them.
        value, best: Of that epoch, and the best so far; ``None`` before there is one.
        attempt: From 1.
        silent_s: Seconds since its last epoch or its start.
    """

    number: int
    label: str
    kind: str
    epoch: int
    epochs: int | None
    value: float | None
    best: float | None
    attempt: int
    silent_s: float


@dataclass(frozen=True)
class Standstill(Record):
    """A worker that came to a standstill and was ended.

    Attributes:
        machine: Where, as far as it was told.
        message: Since when, and what it was at.
        time: Unix time at which it was ended.
        retried: Whether the trial was tried again.
    """

    number: int
    label: str
    machine: str | None
    message: str
    time: float
    retried: bool


@dataclass(frozen=True)
class BestSoFar(Record):
    """The best trial of an experiment so far, with how far it was trained."""

    number: int
    label: str
    value: float | None
    student: str
    teacher: str | None
    epochs: int
    planned_epochs: int | None


@dataclass(frozen=True)
class Compromise(Record):
    """A trial that no other beats in everything; ``values`` by metric."""

    number: int
    label: str
    values: dict[str, float]


@dataclass(frozen=True)
class Driving(Record):
    """A process that drives an experiment; ``slots`` are unknown before its session begins."""

    pid: int | None
    host: str | None
    slots: int | None


@dataclass(frozen=True)
class Status(Record):
    """How an experiment stands.

    Attributes:
        name: Name of the sweep.
        state: ``empty``, ``not started``, ``starting`` (a driver has it and has not begun its
            session yet), ``running``, ``paused``, ``died`` or ``done``.
        driven: Whether a process holds it; ``None`` where that cannot be told from here.
        metric: The sweep's metric; of several the score that decides on epochs.
        started, updated: Unix times of the first and the last event.
        silent_s: Seconds since the last event.
        num_planned: Trials asked for, without controls.
        states: Number of trials by state, without controls.
        num_controls, num_controls_ended: Controls, and those of them that have ended.
        num_failures: Failures, retried ones included.
        running: Trials that run now, controls included.
        best: The best trial so far, or ``None``.
        metrics: All that the sweep searches by.
        constraints: Most that is allowed of each bounded cost.
        num_too_costly: Trials that cost more than allowed, without controls.
        rejected: Draws that were never trained, by student.
        front: The trials that no other beats in everything; empty for a single metric.
        data: Short names of its data; empty in old ledgers.
        num_outdated: Trials on data that have changed since, without controls.
        asked_hours: In how many hours it is to end, if it was told.
        used_hours: Those of them that went by, measuring and starting among them.
        num_to_retry: Failed trials that can be asked for again, controls included.
        hangs: Workers that came to a standstill, oldest first.
        hours, gpu_hours: Used so far, of all sessions.
        max_hours, max_gpu_hours: Budgets of the last session, or else the search space's.
        session: The process of the last session, or of one that is about to begin.
        confirms: Folder of the experiment whose jobs this one confirms, if it does.
        confirmed_by: Folders of the experiments beside it that confirm jobs of it, oldest first.
    """

    path: str
    name: str | None
    state: str
    reason: str | None
    driven: bool | None
    metric: str
    started: float | None
    updated: float | None
    silent_s: float | None
    num_planned: int | None
    states: dict[str, int]
    num_controls: int
    num_controls_ended: int
    num_failures: int
    running: tuple[RunningTrial, ...]
    best: BestSoFar | None
    hours: float
    gpu_hours: float
    max_hours: float | None
    max_gpu_hours: float | None
    session: Driving | None
    confirms: str | None = None
    confirmed_by: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    constraints: dict[str, float] = field(default_factory=dict)
    num_too_costly: int = 0
    rejected: tuple[Rejected, ...] = ()
    front: tuple[Compromise, ...] = ()
    data: tuple[str, ...] = ()
    num_outdated: int = 0
    asked_hours: float | None = None
    used_hours: float | None = None
    num_to_retry: int = 0
    hangs: tuple[Standstill, ...] = ()

    left_out_if_empty = frozenset(
        {"data", "num_outdated", "asked_hours", "used_hours", "num_to_retry", "hangs"}
    )

    @property
    def num_ended(self) -> int:
        """Trials that have ended, without controls."""
        return sum(self.states[state] for state in FINAL)


@dataclass(frozen=True)
class Damaged(Record):
    """An experiment that cannot be read.

    Attributes:
        path: Its folder.
        state: ``damaged``, which tells it apart.
        error: Why, in full.
    """

    path: str
    state: str
    error: str


def read_status(path: Path | str, now: float | None = None) -> Status:
    """Return how the experiment in a folder stands.

    Args:
        path: The experiment's folder.
        now: Unix time; the clock's if left out.

    Raises:
        ExperimentError: There is no experiment.
        LedgerError: Its ledger is damaged other than in its last line.
    """
    experiment = Experiment.open(path)
    return _read_status(experiment, confirming(experiment), time.time() if now is None else now)


def _read_status(experiment: Experiment, confirmed_by: Sequence[Experiment], now: float) -> Status:
    sweep = Sweep(iter_ledger(experiment.ledger, decode_progress))
    source = confirmed_source(experiment)
    return replace(
        _seen(sweep, experiment, now),
        confirms=None if source is None else str(source),
        confirmed_by=tuple(str(other.path) for other in confirmed_by),
    )


def read_all_statuses(folder: Path) -> list[Status | Damaged]:
    """Return how every experiment under a folder stands, newest first; damaged ones too.

    The time in a folder's name says how new it is: one can read it off the list. Folders named
    otherwise, and those of the same second, go by their first event.
    """
    found: list[tuple[float, float, Status | Damaged]] = []
    confirmed = sources_of(folder)
    for ledger in folder.glob("*/ledger.jsonl"):
        if ledger.parent.is_symlink():
            continue
        try:
            experiment = Experiment.open(ledger.parent)
            seen = _read_status(experiment, confirmed.get(experiment.path, ()), time.time())
        except (KdsweepError, OSError, KeyError, TypeError, ValueError) as error:
            # A line whose CRC is right may still come from a version that writes other keys.
            text = str(error) if isinstance(error, KdsweepError) else f"{ledger}: {error!r}"
            begun = ledger.stat().st_mtime
            damaged = Damaged(str(ledger.parent), "damaged", text)
            found.append((_named_at(ledger.parent, begun), begun, damaged))
        else:
            begun = seen.started or ledger.stat().st_mtime
            found.append((_named_at(ledger.parent, begun), begun, seen))
    return [stands for *_, stands in sorted(found, key=lambda item: item[:2], reverse=True)]


def _seen(sweep: Sweep, experiment: Experiment, now: float) -> Status:
    """Return how a sweep stands, but for its confirmations."""
    driven, holder = is_driven(experiment, sweep), successor(experiment, sweep)
    state = sweep.standing(driven if holder is None else False)
    if state == "died":
        sweep.interrupt()
        state = "died" if holder is None else "starting"
    # What runs now has used the time since the last word too.
    until = now if state == "running" and not sweep.is_extended else None
    trials = sweep.trials.values()
    search = [trial for trial in trials if not trial.is_control]
    best, updated, budgets = sweep.best(), sweep.updated, _budgets(sweep, experiment)
    return Status(
        path=str(experiment.path),
        name=sweep.header.name,
        state=state,
        reason=sweep.paused,
        driven=driven,
        metric=sweep.metrics[0],
        started=sweep.started,
        updated=updated,
        silent_s=None if updated is None else max(now - updated, 0.0),
        num_planned=None if sweep.is_new else sweep.header.trials,
        states={str(state): sum(t.state is state for t in search) for state in State},
        num_controls=sweep.num_controls,
        num_controls_ended=sum(t.is_control and t.state.is_final for t in trials),
        num_failures=len(sweep.failures),
        running=tuple(_running(t, now) for t in sweep.running()) if state == "running" else (),
        best=None if best is None else _best(best),
        hours=sweep.hours(until),
        gpu_hours=sweep.gpu_hours(until),
        max_hours=budgets["max_hours"],
        max_gpu_hours=budgets["max_gpu_hours"],
        session=_session(sweep, holder),
        metrics=sweep.metrics,
        constraints=dict(sweep.header.constraints),
        num_too_costly=sum(trial.breaks_bound for trial in search),
        rejected=tuple(rejected_students(sweep)),
        front=tuple(Compromise(t.number, t.label, t.point(sweep.metrics)) for t in sweep.front()),
        data=tuple(dict.fromkeys(name["short"] for name in sweep.data)),
        num_outdated=sweep.num_outdated,
        asked_hours=sweep.asked_hours,
        used_hours=None if sweep.asked_hours is None else sweep.used_hours(until),
        num_to_retry=len(sweep.to_retry()),
        hangs=_hangs(sweep),
    )


def _hangs(sweep: Sweep) -> tuple[Standstill, ...]:
    """Return the standstills; of a cohort its first trial speaks for all."""
    first = {
        (sweep.trials[event.trial].cohort, event.attempt): event
        for event in reversed(sweep.failures)
        if event.failure == Failure.HANG
    }
    return tuple(
        Standstill(
            number=event.trial,
            label=sweep.trials[event.trial].label,
            machine=event.machine,
            message=event.message,
            time=event.time,
            retried=event.retry,
        )
        for event in reversed(first.values())
    )


def _best(trial: Trial) -> BestSoFar:
    return BestSoFar(
        number=trial.number,
        label=trial.label,
        value=trial.best,
        student=trial.student,
        teacher=trial.taught_by,
        epochs=trial.epoch,
        planned_epochs=trial.planned,
    )


def _running(trial: Trial, now: float) -> RunningTrial:
    return RunningTrial(
        number=trial.number,
        label=trial.label,
        kind=trial.kind,
        epoch=trial.epoch,
        epochs=(trial.job.get("train") or {}).get("epochs"),
        value=trial.last,
        best=trial.best,
        attempt=trial.num_starts,
        silent_s=0.0 if trial.heard is None else max(now - trial.heard, 0.0),
    )


def _session(sweep: Sweep, holder: int | None) -> Driving | None:
    """Return who runs it or ran it last.

    Extended, it is held by a process that has not begun its session yet.
    """
    if holder is not None:
        return Driving(holder, socket.gethostname(), None)
    if not sweep.sessions or sweep.is_extended:
        return None
    last = sweep.sessions[-1].event
    return Driving(last.pid, last.host, last.slots)


def _budgets(sweep: Sweep, experiment: Experiment) -> dict[str, float | None]:
    """Return the last session's budgets; the search space's, if no session has said any."""
    names = ("max_hours", "max_gpu_hours")
    if sweep.sessions:
        last = {name: getattr(sweep.sessions[-1].event, name) for name in names}
        if any(budget is not UNSET for budget in last.values()):
            return {name: None if v is UNSET else v for name, v in last.items()}
    try:
        asked = json.loads(experiment.spec_json.read_text(encoding="utf-8")).get("sweep") or {}
    except (OSError, ValueError, AttributeError):
        asked = {}
    return {name: asked.get(name) for name in names}


def _named_at(folder: Path, otherwise: float) -> float:
    """Return when an experiment's folder was made, by its name, in Unix seconds."""
    try:
        return time.mktime(time.strptime(folder.name[:_STAMP_LENGTH], _STAMP))
    except (ValueError, OverflowError):
        return otherwise
