"""How experiments stand, from the least of their ledgers: what ``list`` and ``status`` show.

No tables are made and no metrics are read, so that many experiments can be looked at, and one of
them again and again while it runs.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment, is_locked, iter_ledger, lock_holder
from kdsweep.ledger.file import decode_progress
from kdsweep.reporting.bounds import rejected_students
from kdsweep.reporting.front import front_trials, values_at_best
from kdsweep.reporting.history import (
    COMPLETE,
    FAILED,
    RUNNING,
    STATES,
    STOPPED,
    History,
    TrialHistory,
)
from kdsweep.reporting.links import confirmed_source, confirming, sources_of

_ENDED = (COMPLETE, STOPPED, FAILED)
# How the names of experiments' folders begin.
_STAMP, _STAMP_LENGTH = "%Y%m%d-%H%M%S", len("20261122-141500")


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs now.

    Attributes:
        number, label, kind: Of the trial.
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
class Glance:
    """How an experiment stands.

    Attributes:
        path: Its folder.
        name: Name of the sweep.
        state: ``empty``, ``not started``, ``starting`` (a driver has it and has not begun its
            session yet), ``running``, ``paused``, ``died`` or ``done``.
        reason: Why it paused.
        driven: Whether a process holds it; ``None`` where that cannot be told from here.
        metric: The sweep's metric; of several the score that decides on epochs.
        started, updated: Unix times of the first and the last event.
        silent_s: Seconds since the last event.
        num_planned: Trials asked for, without controls.
        states: Number of trials by state, without controls.
        num_controls, num_controls_ended: Controls, and those of them that have ended.
        num_failures: Failures, retried ones included.
        running: Trials that run now, controls included.
        best: ``number, label, value`` of the best trial so far, or ``None``.
        metrics: All that the sweep searches by.
        constraints: Most that is allowed of each bounded cost.
        num_too_costly: Trials that cost more than allowed, without controls.
        rejected: ``student, times, costs`` of draws that were never trained.
        front: ``number, label`` and ``values`` (by metric) of the trials that no other beats in
            everything; empty for a single metric.
        hours, gpu_hours: Used so far, of all sessions.
        max_hours, max_gpu_hours: Budgets of the last session, or else the search space's.
        session: ``pid``, ``host`` and ``slots`` of the last session; of one that is about to begin
            no ``slots`` are known.
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
    best: dict[str, Any] | None
    hours: float
    gpu_hours: float
    max_hours: float | None
    max_gpu_hours: float | None
    session: dict[str, Any] | None
    confirms: str | None = None
    confirmed_by: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    constraints: dict[str, float] = field(default_factory=dict)
    num_too_costly: int = 0
    rejected: tuple[dict[str, Any], ...] = ()
    front: tuple[dict[str, Any], ...] = ()

    @property
    def num_ended(self) -> int:
        """Trials that have ended, without controls."""
        return sum(self.states[state] for state in _ENDED)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "running": [asdict(trial) for trial in self.running]}


@dataclass(frozen=True)
class Damaged:
    """An experiment that cannot be read.

    Attributes:
        path: Its folder.
        error: Why, in full.
    """

    path: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, told apart by its ``state``."""
        return {"path": self.path, "state": "damaged", "error": self.error}


def glance(path: Path | str, now: float | None = None) -> Glance:
    """How the experiment in a folder stands.

    Args:
        path: The experiment's folder.
        now: Unix time; the clock's if left out.

    Raises:
        ExperimentError: There is no experiment.
        LedgerError: Its ledger is damaged other than in its last line.
    """
    experiment = Experiment.open(path)
    return _glance(experiment, confirming(experiment), time.time() if now is None else now)


def _glance(experiment: Experiment, confirmed_by: Sequence[Experiment], now: float) -> Glance:
    history = History(iter_ledger(experiment.ledger, decode_progress))
    seen = glance_from_history(
        history,
        folder=experiment.path,
        driven=is_driven(experiment, history),
        successor=_successor(experiment, history),
        budgets=_budgets(experiment, history),
        now=now,
    )
    source = confirmed_source(experiment)
    return replace(
        seen,
        confirms=None if source is None else str(source),
        confirmed_by=tuple(str(other.path) for other in confirmed_by),
    )


def glance_all(folder: Path) -> list[Glance | Damaged]:
    """How every experiment under a folder stands, newest first; those that are damaged too.

    The time in a folder's name says how new it is: one can read it off the list. Folders named
    otherwise, and those of the same second, go by their first event.
    """
    found: list[tuple[float, float, Glance | Damaged]] = []
    confirmed = sources_of(folder)
    for ledger in folder.glob("*/ledger.jsonl"):
        if ledger.parent.is_symlink():
            continue
        try:
            experiment = Experiment.open(ledger.parent)
            seen = _glance(experiment, confirmed.get(experiment.path, ()), time.time())
        except (KdsweepError, OSError, KeyError, TypeError, ValueError) as error:
            # A line whose CRC is right may still come from a version that writes other keys.
            text = str(error) if isinstance(error, KdsweepError) else f"{ledger}: {error!r}"
            begun = ledger.stat().st_mtime
            damaged = Damaged(str(ledger.parent), text)
            found.append((_named_at(ledger.parent, begun), begun, damaged))
        else:
            begun = seen.started or ledger.stat().st_mtime
            found.append((_named_at(ledger.parent, begun), begun, seen))
    return [stands for *_, stands in sorted(found, key=lambda item: item[:2], reverse=True)]


def is_driven(experiment: Experiment, history: History) -> bool | None:
    """Whether a driver runs an experiment; ``None`` where that cannot be told from here.

    Its lock says so. Some shared file systems keep locks to one machine; that nobody holds it then
    says nothing of a driver on another one.
    """
    if not history.sessions:
        return is_locked(experiment.ledger)
    if is_locked(experiment.ledger):
        return True
    return False if history.sessions[-1].event.get("host") == socket.gethostname() else None


def _successor(experiment: Experiment, history: History) -> int | None:
    """The process that holds an experiment, if it is another one than that of the last session."""
    if not history.sessions or not is_locked(experiment.ledger):
        return None
    last = history.sessions[-1].event
    holder = lock_holder(experiment.ledger)
    is_same = last.get("host") == socket.gethostname() and last.get("pid") == holder
    return None if is_same else holder


def glance_from_history(
    history: History,
    *,
    folder: Path,
    driven: bool | None,
    successor: int | None = None,
    budgets: Mapping[str, float | None],
    now: float,
) -> Glance:
    """How a sweep stands, as its ledger tells it.

    Args:
        history: The sweep.
        folder: The experiment's folder.
        driven: Whether a process holds it.
        successor: That process, if it is another one than that of the last session.
        budgets: ``max_hours`` and ``max_gpu_hours``.
        now: Unix time.
    """
    sweep, sessions = history.sweep, history.sessions
    state = history.state(driven if successor is None else False)
    if state == "died":
        history.interrupt()
        state = "died" if successor is None else "starting"
    trials = list(history.trials.values())
    search = [trial for trial in trials if trial.kind == "search"]
    controls = [trial for trial in trials if trial.kind != "search"]
    scored = [trial for trial in search if trial.is_eligible]
    best = max(scored, key=lambda trial: (trial.best_value, -trial.number), default=None)
    updated = sessions[-1].last if sessions else sweep.get("time")
    # What runs now has used the time since the last word too.
    is_going = state == "running" and not history.extended
    since = max(now - updated, 0.0) if is_going and updated is not None else 0.0
    running = _running(history, now) if state == "running" else ()
    # The trials of a cohort hold one slot together.
    num_held = len({history.trials[trial.number].cohort for trial in running})
    num_gpus = num_held * (sessions[-1].num_gpus if sessions else 0.0)
    # Extended, it is held by a process that has not begun its session yet.
    last = sessions[-1].event if sessions and not history.extended else {}
    if successor is not None:
        last = {"pid": successor, "host": socket.gethostname()}
    return Glance(
        path=str(folder),
        name=sweep.get("name"),
        state=state,
        reason=history.ending if history.ending not in (None, "done") else None,
        driven=driven,
        metric=history.metrics[0],
        started=sessions[0].start if sessions else sweep.get("time"),
        updated=updated,
        silent_s=None if updated is None else max(now - updated, 0.0),
        num_planned=sweep.get("trials"),
        states={name: sum(trial.state == name for trial in search) for name in STATES},
        num_controls=_num_controls(sweep, len(search), len(controls)),
        num_controls_ended=sum(trial.state in _ENDED for trial in controls),
        num_failures=len(history.failures),
        running=running,
        best=None
        if best is None
        else {"number": best.number, "label": best.label, "value": best.best_value},
        hours=(sum(s.last - s.start for s in sessions) + since) / 3600,
        gpu_hours=(sum(t.gpu_seconds for t in trials) + since * num_gpus) / 3600,
        max_hours=budgets.get("max_hours"),
        max_gpu_hours=budgets.get("max_gpu_hours"),
        session={key: last.get(key) for key in ("pid", "host", "slots")} if last else None,
        metrics=history.metrics,
        constraints=history.bounds,
        num_too_costly=sum(trial.breaks_bound for trial in search),
        rejected=tuple(rejected_students(history)),
        front=tuple(_on_front(trial, history.metrics) for trial in front_trials(history)),
    )


def _on_front(trial: TrialHistory, metrics: Sequence[str]) -> dict[str, Any]:
    values = values_at_best(trial, metrics)
    return {"number": trial.number, "label": trial.label, "values": values}


def _num_controls(sweep: Mapping[str, Any], num_search: int, num_controls: int) -> int:
    """Controls in all: of trials that are not drawn yet it is not known which share one."""
    if sweep.get("controls") == "paired":
        return num_controls + max(0, int(sweep.get("trials") or 0) - num_search)
    return max(num_controls, int(sweep.get("num_controls") or 0))


def _running(history: History, now: float) -> tuple[RunningTrial, ...]:
    rows = history.epochs.rows()
    last = {int(number): index for index, number in enumerate(rows["trial"])}

    def one(trial: TrialHistory) -> RunningTrial:
        index = last.get(trial.number)
        value = None if index is None else float(rows["value"][index])
        heard = trial.heard if trial.heard is not None else now
        return RunningTrial(
            number=trial.number,
            label=trial.label,
            kind=trial.kind,
            epoch=0 if index is None else int(rows["epoch"][index]),
            epochs=(trial.job.get("train") or {}).get("epochs"),
            value=None if value is None or math.isnan(value) else value,
            best=trial.best_value if trial.best_value > -math.inf else None,
            attempt=trial.attempts,
            silent_s=max(now - heard, 0.0),
        )

    return tuple(one(t) for t in history.trials.values() if t.state == RUNNING)


def _budgets(experiment: Experiment, history: History) -> dict[str, float | None]:
    """The last session's budgets; the search space's, if no session has said any."""
    names = ("max_hours", "max_gpu_hours")
    last = history.sessions[-1].event if history.sessions else {}
    if any(name in last for name in names):
        return {name: last.get(name) for name in names}
    try:
        sweep = json.loads(experiment.spec_json.read_text(encoding="utf-8")).get("sweep") or {}
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: sweep.get(name) for name in names}


def _named_at(folder: Path, otherwise: float) -> float:
    """When an experiment's folder was made, by its name, in Unix seconds."""
    try:
        return time.mktime(time.strptime(folder.name[:_STAMP_LENGTH], _STAMP))
    except (ValueError, OverflowError):
        return otherwise
