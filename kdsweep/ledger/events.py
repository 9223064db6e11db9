"""What the lines of a ledger say: a class for each event, whose fields are the keys of its line.

This is the only place that spells these keys, and the words that stand in them. A line's order of
keys is that of the fields here::

    {"event":"epoch","seq":12,"time":1763800000.1,"trial":3,...,"crc":"9ae0daaf"}

Fields with a default are those that some version did not write. Keys and events of later versions
are passed over; an event that is not known here is an :class:`UnknownEvent`. It is long because the
keys of all events are read, and kept apart, in this one place.

Of an epoch there are three views, because its line is long and there are many: all of it
(:class:`EpochEvent`), its numbers (:class:`EpochNumbers`), and what a sweep goes on from
(:class:`EpochProgress`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from kdsweep.config.metrics import MIOU

PARAMS_M = "student/params_m"


ClassIoUs = dict[str, list[float | None]]


class Kind(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    CONTROL = "control"


class Stop(StrEnum):
    """Why a trial ended with an epoch."""

    COMPLETE = "complete"
    EARLY = "asha"  # by whichever scheduler; the word is that of the first one
    CONSTRAINT = "constraint"  # it costs more than the sweep allows
    UNNEEDED = "unneeded"  # a control, of which nobody is left to be compared with it
    DATA = "data"  # its data have changed; no epoch says so, the line of the new part does
    HOURS = "hours"  # too few of its sweep's hours are left to come to the next rung


class Failure(StrEnum):
    """What kind of fault ended an attempt."""

    CRASH = "crash"
    OOM = "oom"
    NAN = "nan"
    ERROR = "error"
    HANG = "hang"
    LOST = "lost"  # its machine is gone


class Event(Struct, tag_field="event", kw_only=True, frozen=True):
    """What every line has.

    Attributes:
        seq: Number of the line, from 0; the ledger gives it.
        time: Unix time at which it was written; the ledger gives it.
    """

    # Keys that a line does without where they are empty.
    left_out: ClassVar[frozenset[str]] = frozenset()

    seq: int = -1
    time: float = 0.0


class SweepEvent(Event, tag="sweep", kw_only=True, frozen=True):
    """The first line: what was asked for.

    Attributes:
        metric: The score that decides on epochs.
        metrics: All that is optimised, the score first.
        constraints: Most that is allowed of each bounded cost.
        static_costs: What each student architecture costs, where bounds ask for that.
        grace_period, reduction_factor: Of halving.
        epochs: Of the longest training.
        trials: Search trials asked for.
        controls: ``shared``, ``paired`` or ``none``.
        num_controls: Controls there will be, as far as that can be told.
        further_controls: Kinds of controls beside those without a teacher.
        equal_time: By job for how many ``epochs`` its control of equal time trains, by the measured
            seconds per epoch of the pair (``pair_s``) and of a control alone (``control_s``).
        data: What is known of the data, for reports.
        miou_over: The classes that count in mIoU (:data:`~kdsweep.config.metrics.MiouOver`); empty
            where the line does not tell, being older than the choice.
        protocol: The size at which all trials are scored
            (:data:`~kdsweep.config.metrics.Protocol`); likewise.
        select: Which epoch of a trial counts (:data:`~kdsweep.config.metrics.Select`), where that
            is not the best.
        until_settled: Whether each job gets seeds only until its gain is settled.
        hours: Of a sweep that ends in so many hours those (``asked``), what had gone by before this
            line (``spent_s``), and what steps were measured to take: ``start_s``, ``head_start_s``,
            and by epoch ``teacher_s``, ``student_s``, ``control_s``, ``alone_s``.
    """

    left_out: ClassVar[frozenset[str]] = frozenset(
        {
            *("static_costs", "further_controls", "equal_time"),
            *("miou_over", "protocol", "select", "until_settled", "hours"),
        }
    )

    schema: int = 1
    name: str | None = None
    metric: str = MIOU
    mode: str = "max"
    metrics: list[str] = []
    constraints: dict[str, float] = {}
    static_costs: dict[str, dict[str, float]] = {}
    sampler: str | None = None
    scheduler: str | None = None
    grace_period: int = 1
    reduction_factor: int = 2
    epochs: int | None = None
    seed: int | None = None
    trials: int = 0
    controls: str | None = None
    further_controls: list[str] = []
    equal_time: dict[str, dict[str, float]] = {}
    num_controls: int = 0
    students_per_teacher: int = 1
    data: dict[str, Any] = {}
    miou_over: str = ""
    protocol: str = ""
    select: str = ""
    until_settled: bool = False
    hours: dict[str, float] = {}


class ExtendEvent(Event, tag="extend", kw_only=True, frozen=True):
    """More trials were asked for, whatever hours they take; :class:`SweepEvent` has the fields."""

    trials: int
    num_controls: int


class RetryEvent(Event, tag="retry", kw_only=True, frozen=True):
    """Failed trials were asked for again: they wait, to be trained from their first epoch."""

    trials: list[int]


class SettledEvent(Event, tag="settled", kw_only=True, frozen=True):
    """A job's gain is settled: it gets no further seeds.

    Attributes:
        job: Its name.
        verdict: What is settled (:class:`~kdsweep.ledger.anytime.Verdict`).
        seeds: After how many.
        low, high: The always-valid 95 % interval then.
        trials, num_controls: As in :class:`SweepEvent`, without the seeds that it does not need.
    """

    job: str
    verdict: str
    seeds: int
    low: float
    high: float
    trials: int
    num_controls: int


class HoursEvent(Event, tag="hours", kw_only=True, frozen=True):
    """The hours of a sweep are used: it draws no more, and what has not ended does.

    Attributes:
        asked: How many it had.
        trials, num_controls: As in :class:`SweepEvent`, without what was not drawn.
    """

    asked: float
    trials: int
    num_controls: int


class PartEvent(Event, tag="part", kw_only=True, frozen=True):
    """The data have changed: all trials so far are over, and are compared with none after this.

    Attributes:
        trials, num_controls: As in :class:`SweepEvent`; trials that had not ended are replaced.
        num_trials: Search trials so far.
        data: What is known of the data from now on, as in :class:`SweepEvent`.
        before, now: The data before and after, in short.
        differences: In which ways they differ, in words.
    """

    trials: int
    num_controls: int
    num_trials: int = 0
    data: dict[str, Any] = {}
    before: list[str] = []
    now: list[str] = []
    differences: list[str] = []


class PriorEvent(Event, tag="prior", kw_only=True, frozen=True):
    """A trial of an earlier sweep, of which this one's sampler knows; it is no trial of this one.

    Attributes:
        experiment: The earlier experiment's name.
        number: The trial's number there.
        params: The sampler's parameters of this sweep that give its job.
        epoch: The last epoch that it reached.
        value: The score of the epoch that counts.
        last: The score of the last epoch.
        costs: As for an epoch, where this sweep goes by any.
        stop: Why it ended (:class:`Stop`).
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"costs"})

    experiment: str
    number: int
    params: dict[str, Any]
    epoch: int
    value: float
    last: float
    costs: dict[str, float] = {}
    stop: str


class SessionEvent(Event, tag="session", kw_only=True, frozen=True):
    """A driver begins.

    Attributes:
        session: Its number, from 1.
        pid, host: Its process.
        slots: Trials at a time.
        gpus_per_trial: GPUs (or a share of one) that a trial holds; 0 on CPUs.
        command: The command line.
        max_hours, max_gpu_hours: Budgets of this session; unset where the line does not tell.
        data: Of each section ``data`` that was looked at before the trials its ``section``, the
            ``fingerprint`` of the data and their name for people, ``short``.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"data"})

    session: int
    pid: int | None = None
    host: str | None = None
    slots: int = 0
    gpus_per_trial: int | float = 0
    cpus_per_trial: int | float | None = None
    command: str = ""
    max_hours: int | float | UnsetType | None = UNSET
    max_gpu_hours: int | float | UnsetType | None = UNSET
    data: list[dict[str, str]] = []


class TrialEvent(Event, tag="trial", kw_only=True, frozen=True):
    """A trial was drawn.

    Attributes:
        trial: Its number.
        kind: See :class:`Kind`.
        label, student, teacher: Names for tables.
        params: What the sampler drew, by dotted path.
        values: What the parameters came to, for people to read.
        job: The full job.
        control: Number of the control that it is measured against.
        rides_with: Number of the first trial of its cohort, if that is another.
        drawn_with: Number of the search trial for whose cohort it was drawn, if that is another.
        further: Numbers of its further controls, by kind.
        at_random: Parameters that were drawn at random because the sampler, though it had begun to
            learn, cannot learn them.
        first: Number, from 1, of the setting of ``sweep.try_first`` that it follows, if it does.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"further", "at_random", "first"})

    trial: int
    kind: str
    label: str
    student: str
    teacher: str | None = None
    params: dict[str, Any] = {}
    values: dict[str, Any] = {}
    job: dict[str, Any] = {}
    control: int | None = None
    rides_with: int | None = None
    drawn_with: int | None = None
    further: dict[str, int] = {}
    at_random: list[str] = []
    first: int | None = None


class RejectedEvent(Event, tag="rejected", kw_only=True, frozen=True):
    """A draw that breaks a bound by its architecture alone, and is never trained.

    Attributes:
        number: Number of the trial that it would have become.
        label, student: Names for tables.
        params, values, drawn_with, first: As for a :class:`TrialEvent`.
        excess: By how much it exceeds each bound, relative to it.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"first"})

    number: int
    label: str
    student: str | None = None
    params: dict[str, Any] = {}
    values: dict[str, Any] = {}
    drawn_with: int | None = None
    excess: dict[str, float] = {}
    first: int | None = None


class StartEvent(Event, tag="start", kw_only=True, frozen=True):
    """A worker begins with a trial, after ``epoch`` epochs of earlier attempts.

    Attributes:
        data: Fingerprint of its data, if its section was looked at when the session began.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"data"})

    trial: int
    attempt: int = 1
    epoch: int = 0
    data: str | None = None


class PlacedEvent(Event, tag="placed", kw_only=True, frozen=True):
    """On which machine an attempt trains, where there are several, or GPUs.

    Attributes:
        trial: Number of the first trial of its cohort.
        attempt: Its number.
        machine: Host name.
        gpus: Numbers of its GPUs there.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"gpus"})

    trial: int
    attempt: int
    machine: str
    gpus: list[str] = []


class _EpochHead(Event, kw_only=True, frozen=True):
    """What all views of an epoch have before its numbers.

    Attributes:
        trial, attempt, epoch: Where it is.
        value: The sweep's score.
        costs: What else the sampler and the rungs go by, if anything.
        measured: What this trial itself has measured of that.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"costs", "measured"})

    trial: int
    attempt: int = 1
    epoch: int
    value: float | None = None
    costs: dict[str, float] = {}
    measured: dict[str, float] = {}


class EpochEvent(_EpochHead, tag="epoch", kw_only=True, frozen=True):
    """A trial has finished an epoch, and what follows from it.

    Attributes:
        metrics: Numbers by name; ``None`` where one was not finite.
        classes: IoU of each class by network.
        seconds: Wall-clock time of the epoch.
        stop: Why the trial ends with it (:class:`Stop`); ``None`` if it goes on.
    """

    metrics: dict[str, float | None] = {}
    classes: ClassIoUs | None = None
    seconds: float = 0.0
    stop: str | None = None

    @property
    def params_m(self) -> float | None:
        """Millions of parameters of the student."""
        return self.metrics.get(PARAMS_M)


class EpochNumbers(_EpochHead, tag="epoch", kw_only=True, frozen=True):
    """An epoch but for its IoU by class, which stays as JSON: half of a line, and seldom asked for.

    Attributes:
        metrics, seconds, stop: As for an :class:`EpochEvent`.
        classes: JSON; see :func:`class_ious`.
    """

    metrics: dict[str, float | None] | None = None
    classes: Raw = Raw(b"{}")
    seconds: float = 0.0
    stop: str | None = None

    @property
    def params_m(self) -> float | None:
        """Millions of parameters of the student."""
        return self.metrics.get(PARAMS_M) if self.metrics else None


class _Size(Struct, frozen=True):
    params_m: float | None = field(name=PARAMS_M, default=None)


class EpochProgress(_EpochHead, tag="epoch", kw_only=True, frozen=True):
    """Place, value and decision of an epoch, and its student's size: a tenth of the line."""

    metrics: _Size | None = None
    stop: str | None = None

    @property
    def params_m(self) -> float | None:
        """Millions of parameters of the student."""
        return None if self.metrics is None else self.metrics.params_m


class FailEvent(Event, tag="fail", kw_only=True, frozen=True):
    """An attempt has failed.

    Attributes:
        trial, attempt: Which.
        failure: What kind of fault (:class:`Failure`).
        message, traceback: What was wrong.
        retry: Whether the trial is tried again.
        job: What that changes in the job's ``train``.
        machine: Where it was, as far as that was written down.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"job", "machine"})

    trial: int
    attempt: int = 1
    failure: str = field(name="class")
    message: str = ""
    traceback: str = ""
    retry: bool = False
    job: dict[str, Any] = {}
    machine: str | None = None


class PauseEvent(Event, tag="pause", kw_only=True, frozen=True):
    """A session ends while trials are left, for this reason."""

    reason: str


class DoneEvent(Event, tag="done", kw_only=True, frozen=True):
    """Everything that was asked for has ended."""


class UnknownEvent(Event, tag="", kw_only=True, frozen=True):
    """An event of a later version, by its name there."""

    kind: str


AnyEpoch = EpochEvent | EpochNumbers | EpochProgress
_ALIKE = (
    SweepEvent,
    ExtendEvent,
    RetryEvent,
    SettledEvent,
    HoursEvent,
    PartEvent,
    PriorEvent,
    SessionEvent,
    TrialEvent,
    RejectedEvent,
    StartEvent,
    PlacedEvent,
    FailEvent,
    PauseEvent,
    DoneEvent,
)


class _Head(Struct):
    event: str
    seq: int = -1
    time: float = 0.0


_decode_head = msgspec.json.Decoder(_Head).decode


def _decoder(epoch: type[Event]) -> Callable[[bytes | Raw], Event]:
    """A reader of lines that gives this view of epochs."""
    known = functools.reduce(operator.or_, (*_ALIKE, epoch))
    read: Callable[[bytes | Raw], Event] = msgspec.json.Decoder(known).decode
    names = {one.__struct_config__.tag for one in (*_ALIKE, epoch)}

    def decode(line: bytes | Raw) -> Event:
        try:
            return read(line)
        except msgspec.ValidationError:
            head = _decode_head(line)
            if head.event in names:
                raise
            return UnknownEvent(kind=head.event, seq=head.seq, time=head.time)

    return decode


# Each turns a line's JSON into its event; msgspec.ValidationError if it has not what it must have.
decode = _decoder(EpochEvent)
decode_numbers = _decoder(EpochNumbers)
decode_progress = _decoder(EpochProgress)
_decode_classes = msgspec.json.Decoder(ClassIoUs | None).decode


def to_json(event: Event) -> dict[str, Any]:
    """An event as its line has it, in the order of its keys."""
    found: dict[str, Any] = {"event": event.__struct_config__.tag}
    for name, key in zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True):
        value = getattr(event, name)
        if value is not UNSET and (value or key not in event.left_out):
            found[key] = value
    return found


def trial_of(event: Event) -> int | None:
    """Number of the trial that an event is about; ``None`` if it is about none."""
    number: int | None = getattr(event, "trial", None)
    return number


def class_ious(
    classes: Raw | ClassIoUs | None,
) -> ClassIoUs:
    """IoU of each class by network, read now if it was not read before."""
    return (_decode_classes(classes) if isinstance(classes, Raw) else classes) or {}
