"""The ledger's events, read once from first to last into plain columns.

Nothing here knows pandas: :mod:`kdsweep.reporting.tables` makes tables of it. Events may come from
an iterator; of each epoch only its numbers are kept, so that 10,000 trials stay small.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from kdsweep.ledger import SlotTime
from kdsweep.ledger.file import EpochProgress, decode_json, is_epoch
from kdsweep.spec.architectures import architecture_key

Event = Mapping[str, Any]
ClassIoUs = Mapping[str, list[float | None]]
# As JSON, of an epoch of which nobody may ever ask for them.
Unread = msgspec.Raw

# Where each trial is, in the words of every table.
WAITING = "waiting"
RUNNING = "running"
INTERRUPTED = "interrupted"
COMPLETE = "complete"
STOPPED = "stopped"
FAILED = "failed"
STATES = (COMPLETE, STOPPED, FAILED, RUNNING, INTERRUPTED, WAITING)

_ROW = struct.Struct("=qqqdd")
_ROW_TYPE = np.dtype(
    [(n, "i8") for n in ("trial", "attempt", "epoch")] + [("value", "f8"), ("time", "f8")]
)


class _EpochEvent(EpochProgress, total=False):
    metrics: dict[str, Any] | None
    classes: msgspec.Raw


_decode_epoch: Callable[[bytes], Any] = msgspec.json.Decoder(_EpochEvent).decode

# What ended a trial that costs more than the sweep allows.
CONSTRAINT = "constraint"
_STATE_OF_STOP = {"complete": COMPLETE, "asha": STOPPED, "unneeded": STOPPED, CONSTRAINT: STOPPED}


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
        rides_with: Number of the first trial of its cohort; ``None`` for that one itself.
        state: One of :data:`STATES`.
        attempts: How often it was started.
        seconds: Time it held a slot, shared with those of its cohort that trained meanwhile; of a
            running trial up to the ledger's last word, of one whose driver died up to that
            driver's.
        gpu_seconds: The same, times the GPUs it held.
        heard: When it started or reported last, in Unix seconds.
        best_value: Highest value of the sweep's metric so far; ``-inf`` before there is one.
        best_classes: Per-class IoU of that epoch; see :func:`class_ious`.
        costs: Its further objectives and costs that have a bound, by metric; one and the same
            mapping for all trials of a network, which holds what is known last.
        breaks_bound: Whether it costs more than the sweep allows.
    """

    number: int
    kind: str
    label: str
    student: str
    teacher: str | None
    params: Mapping[str, Any]
    job: Mapping[str, Any]
    control: int | None
    rides_with: int | None = None
    state: str = WAITING
    attempts: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    heard: float | None = None
    best_value: float = -math.inf
    best_classes: ClassIoUs | Unread = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    breaks_bound: bool = False

    @property
    def is_eligible(self) -> bool:
        """Whether it may be called best: a search trial with a value, within the bounds."""
        return self.kind == "search" and self.best_value > -math.inf and not self.breaks_bound

    @property
    def cohort(self) -> int:
        """Number of the first trial of its cohort."""
        return self.number if self.rides_with is None else self.rides_with


class _Block:
    """The numbers of all epochs that have one set of metrics.

    Attributes:
        rows: The places of these epochs among all.
        numbers: Their numbers, row by row, as bytes of doubles.
    """

    def __init__(self, num_metrics: int) -> None:
        self.rows = array("q")
        self.numbers = bytearray()
        self._pack = struct.Struct(f"{num_metrics}d").pack

    def append(self, row: int, values: Collection[Any]) -> None:
        """Add an epoch; a missing number becomes ``NaN``."""
        try:
            packed = self._pack(*values)
        except struct.error:
            packed = self._pack(*map(_number, values))
        self.numbers += packed
        self.rows.append(row)


class EpochColumns:
    """Every epoch of every trial as columns of numbers.

    Reports of one kind of trial all have the same metrics, so the numbers of a report are appended
    as one row of bytes to a matrix for its set of metrics, far cheaper than one column at a time.

    Attributes:
        stop: The decision on each epoch.
    """

    def __init__(self) -> None:
        self.stop: list[str | None] = []
        self._rows = bytearray()
        # For each set of metrics the places of its epochs, and their numbers row by row.
        self._blocks: dict[tuple[str, ...], _Block] = {}

    def __len__(self) -> int:
        return len(self.stop)

    def rows(self) -> np.ndarray:
        """The columns ``trial, attempt, epoch, value, time``, in the order of the ledger."""
        return np.frombuffer(bytes(self._rows), dtype=_ROW_TYPE)

    def append(self, event: Event, value: float) -> None:
        """Add one ``epoch`` event."""
        metrics = event.get("metrics") or {}
        keys = tuple(metrics)
        block = self._blocks.get(keys)
        if block is None:
            block = self._blocks[keys] = _Block(len(keys))
        block.append(len(self.stop), metrics.values())
        attempt, time = event.get("attempt", 1), event.get("time", math.nan)
        self._rows += _ROW.pack(event["trial"], attempt, event["epoch"], value, time)
        self.stop.append(event.get("stop"))

    def metrics(self, order: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric's column, ``NaN`` where an epoch does not have it.

        Args:
            order: The epochs wanted, by their place in the order in which they were appended.
        """
        places = np.full(len(self), -1)
        places[order] = np.arange(len(order))
        columns: dict[str, np.ndarray] = {}
        for keys, block in self._blocks.items():
            matrix = np.frombuffer(block.numbers).reshape(len(block.rows), len(keys))
            into = places[np.asarray(block.rows)]
            wanted = into >= 0
            for index, key in enumerate(keys):
                column = columns.setdefault(key, np.full(len(order), np.nan))
                column[into[wanted]] = matrix[wanted, index]
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
        rejected: The ``rejected`` events: draws that were never trained, because a student that is
            built like that costs more than the sweep allows.
        control_classes: For each control, ``(epoch, value, per-class IoU)`` of all its epochs; see
            :func:`class_ious`.
        ending: ``done``, the reason of the pause, or ``None`` while the last session goes on.
        extended: Whether it was extended and no session has begun since.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.sweep: Event = {}
        self.sessions: list[Session] = []
        self.trials: dict[int, TrialHistory] = {}
        self.epochs = EpochColumns()
        self.failures: list[Event] = []
        self.rejected: list[Event] = []
        self.control_classes: dict[int, list[tuple[int, float, ClassIoUs | Unread]]] = {}
        self._costs: dict[str, dict[str, float]] = {}  # by architecture
        self.ending: str | None = None
        self.extended = False
        self._session: Session | None = None
        self._time = SlotTime()
        self._num_gpus = 0.0  # that each cohort of this session holds
        handlers = {
            name.removeprefix("_on_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("_on_")
        }
        for event in events:
            handler = handlers.get(event["event"])
            if handler is not None:
                handler(event)
            if self._session is not None and event["event"] != "extend":  # between sessions
                self._session.last = event.get("time", self._session.last)
        self._count_time()

    def _on_sweep(self, event: Event) -> None:
        self.sweep = {**self.sweep, **event}

    def _on_extend(self, event: Event) -> None:
        self.sweep = {**self.sweep, **{key: event[key] for key in ("trials", "num_controls")}}
        self.ending = None
        self.extended = True

    def _on_session(self, event: Event) -> None:
        self.interrupt()
        self.ending = None
        self.extended = False
        self._session = Session(event, event["time"], event["time"])
        self._num_gpus = self._session.num_gpus
        self.sessions.append(self._session)

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
            rides_with=event.get("rides_with"),
        )

    def _on_start(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.state = RUNNING
        trial.attempts += 1
        trial.heard = event["time"]
        self._time.start(trial.cohort, trial.number, event["time"], self._num_gpus)

    def _on_epoch(self, event: Event) -> None:
        number, time, stop = event["trial"], event["time"], event.get("stop")
        trial = self.trials[number]
        value = _number(event.get("value"))
        self.epochs.append(event, value)
        trial.state = RUNNING if stop is None else _STATE_OF_STOP.get(stop, RUNNING)
        trial.heard = time
        trial.breaks_bound = stop == CONSTRAINT
        if stop is not None:
            self._time.end(trial.cohort, number, time, self._num_gpus)
        if event.get("costs"):
            if not trial.costs:
                trial.costs = self._costs.setdefault(architecture_key(trial.job), trial.costs)
            trial.costs.update(event["costs"])
        if value > trial.best_value:
            trial.best_value, trial.best_classes = value, _kept(event.get("classes"))
        if trial.kind == "control":
            rows = self.control_classes.setdefault(number, [])
            rows.append((event["epoch"], value, _kept(event.get("classes"))))

    def _on_fail(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.state = WAITING if event.get("retry") else FAILED
        self._time.end(trial.cohort, trial.number, event["time"], self._num_gpus)
        if event.get("job"):
            trial.job = {**trial.job, "train": {**trial.job.get("train", {}), **event["job"]}}
        self.failures.append(event)

    def _on_rejected(self, event: Event) -> None:
        self.rejected.append(event)

    def _on_pause(self, event: Event) -> None:
        self.sessions[-1].last = event["time"]
        self.interrupt()
        self.ending = event["reason"]

    def _on_done(self, event: Event) -> None:
        self.ending = "done"

    def interrupt(self) -> None:
        """Nothing runs any more: the sweep paused, its driver died, or another one took over."""
        for trial in self.trials.values():
            if trial.state == RUNNING:
                trial.state = INTERRUPTED
                last = self.sessions[-1].last
                self._time.end(trial.cohort, trial.number, last, self._num_gpus)
        self._count_time()

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the sweep searches by, the score that decides on epochs first."""
        score = str(self.sweep.get("metric", "student/miou"))
        return tuple(self.sweep.get("metrics") or (score,))

    @property
    def bounds(self) -> dict[str, float]:
        """Most that is allowed of each bounded cost."""
        return dict(self.sweep.get("constraints") or {})

    def state(self, driven: bool | None) -> str:
        """``empty``, ``not started``, ``running``, ``died``, ``paused`` or ``done``.

        Args:
            driven: Whether a process runs the sweep; where that is not known, the ledger is taken
                at its word.
        """
        if not self.sweep:
            return "empty"
        if self.ending is not None:
            return "done" if self.ending == "done" else "paused"
        if not self.sessions:
            return "not started"
        return "died" if driven is False else "running"

    def _count_time(self) -> None:
        for trial in self.trials.values():
            if trial.state == RUNNING and self.sessions:
                self._time.settle(trial.cohort, self.sessions[-1].last, self._num_gpus)
        for trial in self.trials.values():
            trial.seconds = self._time.seconds[trial.number]
            trial.gpu_seconds = self._time.gpu_seconds[trial.number]


def class_ious(classes: ClassIoUs | Unread) -> ClassIoUs:
    """Per-class IoU by network, read now if it was not read before."""
    if isinstance(classes, msgspec.Raw):
        found: ClassIoUs | None = decode_json(classes)
        return found or {}
    return classes


def decode_event(line: bytes) -> dict[str, Any]:
    """An event from its JSON, but for an epoch's per-class IoU, which stays as it is.

    It is half of an epoch's line, and of 50 epochs of a trial a report shows one.
    """
    return _decode_epoch(line) if is_epoch(line) else decode_json(line)


def _kept(classes: ClassIoUs | Unread | None) -> ClassIoUs | Unread:
    # What was not read is part of its line, which must not be kept with it.
    return classes.copy() if isinstance(classes, msgspec.Raw) else classes or {}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
