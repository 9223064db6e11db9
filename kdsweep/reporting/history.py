"""The ledger's events, read once from first to last into plain columns.

Nothing here knows pandas: :mod:`kdsweep.reporting.tables` makes tables of it. Events may come from
an iterator; of each epoch only its numbers are kept, so that 10,000 trials stay small.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Event = Mapping[str, Any]
ClassIoUs = Mapping[str, list[float | None]]

# Where each trial is, in the words of every table.
WAITING = "waiting"
RUNNING = "running"
INTERRUPTED = "interrupted"
COMPLETE = "complete"
STOPPED = "stopped"
FAILED = "failed"
STATES = (COMPLETE, STOPPED, FAILED, RUNNING, INTERRUPTED, WAITING)

_STATE_OF_STOP = {"complete": COMPLETE, "asha": STOPPED}


@dataclass
class TrialHistory:
    """What the ledger says about one trial.

    Attributes:
        number: Number of the trial.
        kind: ``search`` or ``control``.
        label, student, teacher: Names for tables; the teacher of a control is ``None``.
        params: Drawn parameters by dotted path.
        job: The job as it runs now; a retry after running out of memory changes its batch size.
        control: Number of the control that the trial is measured against, if there is one.
        state: One of :data:`STATES`.
        attempts: How often it was started.
        seconds: Time it held a slot; of a running trial up to the ledger's last word, of one whose
            driver died up to that driver's.
        gpu_seconds: The same, times the GPUs it held.
        best_value: Highest value of the sweep's metric so far; ``-inf`` before there is one.
        best_classes: Per-class IoU of that epoch.
    """

    number: int
    kind: str
    label: str
    student: str
    teacher: str | None
    params: Mapping[str, Any]
    job: Mapping[str, Any]
    control: int | None
    state: str = WAITING
    attempts: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    best_value: float = -math.inf
    best_classes: ClassIoUs = field(default_factory=dict)
    _mark: float | None = None

    def hold(self, until: float, num_gpus: float) -> None:
        """Count the time since the last call, if the trial was running then."""
        if self._mark is not None:
            self.seconds += until - self._mark
            self.gpu_seconds += (until - self._mark) * num_gpus
        self._mark = until if self.state == RUNNING else None


class EpochColumns:
    """Every epoch of every trial as columns of numbers.

    Reports of one kind of trial all have the same metrics, so the numbers of a report are appended
    as one row to a matrix for its set of metrics, far cheaper than one column at a time.
    """

    def __init__(self) -> None:
        self.trial = array("q")
        self.attempt = array("q")
        self.epoch = array("q")
        self.value = array("d")
        self.time = array("d")
        self.stop: list[str | None] = []
        self._rows: dict[tuple[str, ...], array[int]] = {}
        self._numbers: dict[tuple[str, ...], array[float]] = {}

    def __len__(self) -> int:
        return len(self.trial)

    def append(self, event: Event, value: float) -> None:
        """Add one ``epoch`` event."""
        metrics = event["metrics"]
        keys = tuple(metrics)
        if keys not in self._rows:
            self._rows[keys], self._numbers[keys] = array("q"), array("d")
        self._rows[keys].append(len(self))
        self._numbers[keys].extend(
            [math.nan if number is None else number for number in metrics.values()]
        )
        self.trial.append(event["trial"])
        self.attempt.append(event.get("attempt", 1))
        self.epoch.append(event["epoch"])
        self.value.append(value)
        self.time.append(event.get("time", math.nan))
        self.stop.append(event.get("stop"))

    def metrics(self) -> dict[str, np.ndarray]:
        """Each metric's column; ``NaN`` where an epoch does not have it."""
        columns: dict[str, np.ndarray] = {}
        for keys, rows in self._rows.items():
            matrix = np.asarray(self._numbers[keys]).reshape(len(rows), len(keys))
            for index, key in enumerate(keys):
                column = columns.setdefault(key, np.full(len(self), np.nan))
                column[np.asarray(rows)] = matrix[:, index]
        return columns


@dataclass
class Session:
    """One run of the driver.

    Attributes:
        event: What it said when it began.
        start, last: Times of its first and last event, in Unix seconds.
    """

    event: Event
    start: float
    last: float

    @property
    def num_gpus(self) -> float:
        """GPUs that each trial held."""
        return float(self.event.get("gpus_per_trial") or 0.0)


class History:
    """A sweep as its ledger tells it.

    Args:
        events: The ledger's events in their order. Events of unknown kinds are passed over, so that
            ledgers of later versions can still be read.

    Attributes:
        sweep: The ``sweep`` event, empty before there is one.
        sessions: The driver's runs.
        trials: By number.
        epochs: All epochs.
        failures: The ``fail`` events.
        control_classes: For each control, ``(epoch, value, per-class IoU)`` of all its epochs.
        ending: ``done``, the reason of the pause, or ``None`` while the last session goes on.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.sweep: Event = {}
        self.sessions: list[Session] = []
        self.trials: dict[int, TrialHistory] = {}
        self.epochs = EpochColumns()
        self.failures: list[Event] = []
        self.control_classes: dict[int, list[tuple[int, float, list[float | None]]]] = {}
        self.ending: str | None = None
        for event in events:
            handler = getattr(self, f"_on_{event['event']}", None)
            if handler is not None:
                handler(event)
            if self.sessions:
                self.sessions[-1].last = event.get("time", self.sessions[-1].last)
        self._count_running()

    def _on_sweep(self, event: Event) -> None:
        self.sweep = {**self.sweep, **event}

    def _on_session(self, event: Event) -> None:
        self.interrupt()
        self.ending = None
        self.sessions.append(Session(event, event["time"], event["time"]))

    def _on_trial(self, event: Event) -> None:
        self.trials[event["trial"]] = TrialHistory(
            number=event["trial"],
            kind=event["kind"],
            label=event["label"],
            student=event["student"],
            teacher=event.get("teacher"),
            params=event.get("params") or {},
            job=event.get("job") or {},
            control=event.get("control"),
        )

    def _on_start(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.state = RUNNING
        trial.attempts += 1
        trial.hold(event["time"], self._num_gpus)

    def _on_epoch(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        value = _number(event.get("value"))
        self.epochs.append(event, value)
        trial.state = _STATE_OF_STOP.get(event.get("stop") or "", RUNNING)
        trial.hold(event["time"], self._num_gpus)
        classes = event.get("classes") or {}
        if value > trial.best_value:
            trial.best_value, trial.best_classes = value, classes
        if trial.kind == "control":
            rows = self.control_classes.setdefault(trial.number, [])
            rows.append((event["epoch"], value, classes.get("student", [])))

    def _on_fail(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.state = WAITING if event.get("retry") else FAILED
        trial.hold(event["time"], self._num_gpus)
        if event.get("job"):
            trial.job = {**trial.job, "train": {**trial.job.get("train", {}), **event["job"]}}
        self.failures.append(event)

    def _on_pause(self, event: Event) -> None:
        self.sessions[-1].last = event["time"]
        self.interrupt()
        self.ending = event["reason"]

    def _on_done(self, event: Event) -> None:
        self.ending = "done"

    @property
    def _num_gpus(self) -> float:
        return self.sessions[-1].num_gpus if self.sessions else 0.0

    def interrupt(self) -> None:
        """Nothing runs any more: the sweep paused, its driver died, or another one took over."""
        self._count_running()
        for trial in self.trials.values():
            if trial.state == RUNNING:
                trial.state = INTERRUPTED
                trial.hold(self.sessions[-1].last, 0.0)

    def _count_running(self) -> None:
        for trial in self.trials.values():
            if trial.state == RUNNING and self.sessions:
                trial.hold(self.sessions[-1].last, self._num_gpus)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
