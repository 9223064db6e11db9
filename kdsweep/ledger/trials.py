"""A trial as the ledger tells it, and which of several is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kdsweep.config.metrics import BEST, LAST, chosen_epoch
from kdsweep.config.sweep import SELF
from kdsweep.ledger.events import FailEvent, Kind, PlacedEvent, TrialEvent

# What stands for the teacher of a student that is taught by its own average.
ITSELF = "itself"
# Likewise of one that had the labels which the data leave out.
LABELS = "all labels"


class State(StrEnum):
    """Where a trial stands, in the words of every table."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # it goes on when its sweep does
    WAITING = "waiting"

    @property
    def is_final(self) -> bool:
        """Whether the trial has ended for good."""
        return self in FINAL

    @property
    def is_open(self) -> bool:
        """Whether the trial waits for a worker, before its first attempt or after another."""
        return self in (State.WAITING, State.INTERRUPTED)


FINAL = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass(slots=True)
class Trial:
    """One trial of a sweep.

    Attributes:
        number: From 0; shared controls come first.
        kind: ``search``, or ``control``: never stopped early, unknown to the sampler.
        label: Name for tables, for example ``resnet34→resnet18``.
        student, teacher: Their names; the teacher of a control is ``None``.
        params: What the sampler drew, by dotted path.
        job: The full job as JSON, before :attr:`changes`.
        control: Number of the control that it is measured against.
        further: Numbers of its further controls, by kind.
        rides_with: Number of the first trial of its cohort, with which it shares teacher and
            batches; ``None`` for that trial itself, and for one that trains on its own.
        drawn_with: Number of the search trial for whose cohort it was drawn, if that is another.
        at_random: Parameters that the sampler could only draw at random.
        machine: Where its last attempt trains or has trained, as far as that was written down.
        state: Where it stands.
        stop: Why its last epoch ended it (:class:`~kdsweep.ledger.events.Stop`), if it did.
        attempt: Number of its latest attempt, from 1; 0 before the first.
        num_starts: How often it was started.
        values: The sweep's score by epoch; NaN where it was not finite.
        best, best_epoch: Best value so far and its epoch, the earliest if several have it; of a
            trial whose last epoch counts, that one's.
        params_m: Millions of parameters of its student, where an epoch has told.
        costs: What its student costs, where the sweep goes by that; one and the same mapping for
            all trials of a network, which holds what is known last.
        breaks_bound: Whether it costs more than the sweep allows. A search trial ends with the
            epoch that shows it; a control goes on, and is no candidate.
        is_outdated: Whether the sweep's data have changed since.
        num_crashes: Crashes so far.
        num_ooms: Times it ran out of memory.
        num_hangs: Times it came to a standstill.
        num_lost: Times its machine was gone.
        changes: What a retry after running out of memory changes in ``train``.
        failure: The event that ended it.
        seconds: Time since the start of attempts that have ended, up to their end.
        started: When the running attempt started.
        heard: When the last epoch was reported or the attempt started.
    """

    number: int
    kind: str
    label: str
    student: str
    teacher: str | None
    params: dict[str, Any]
    job: dict[str, Any]
    control: int | None = None
    further: dict[str, int] = field(default_factory=dict)
    rides_with: int | None = None
    drawn_with: int | None = None
    at_random: list[str] = field(default_factory=list)
    machine: str | None = None
    state: State = State.WAITING
    stop: str | None = None
    attempt: int = 0
    num_starts: int = 0
    values: dict[int, float] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    params_m: float | None = None
    costs: dict[str, float] = field(default_factory=dict)
    breaks_bound: bool = False
    is_outdated: bool = False
    num_crashes: int = 0
    num_ooms: int = 0
    num_hangs: int = 0
    num_lost: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    failure: FailEvent | None = None
    seconds: float = 0.0
    started: float | None = None
    heard: float | None = None

    @classmethod
    def drawn(cls, event: TrialEvent) -> Trial:
        """Return the trial that was drawn."""
        return cls(
            number=event.trial,
            kind=event.kind,
            label=event.label,
            student=event.student,
            teacher=event.teacher,
            params=event.params,
            job=event.job,
            control=event.control,
            further=dict(event.further),
            rides_with=event.rides_with,
            drawn_with=event.drawn_with,
            at_random=event.at_random,
        )

    @property
    def is_control(self) -> bool:
        """Whether it is a control."""
        return self.kind == Kind.CONTROL

    def control_of(self, kind: str = "") -> int | None:
        """Number of its control of a kind, the one without a teacher if left out."""
        return self.further.get(kind) if kind else self.control

    @property
    def taught_by(self) -> str | None:
        """Its teacher as tables name it, :data:`ITSELF` and :data:`LABELS` too."""
        if self.had_all_labels:
            return LABELS
        return ITSELF if self.teacher is None and _is_self_taught(self.job) else self.teacher

    @property
    def had_all_labels(self) -> bool:
        """Whether it was trained on labels that the data leave out, to see what they give."""
        return bool((self.job.get("data") or {}).get("all_labels"))

    @property
    def is_candidate(self) -> bool:
        """Whether it may be called best: it has a value on today's data, and costs no more.

        Controls are candidates too: the answer is whatever is best with the labels that there are.
        """
        is_allowed = not (self.breaks_bound or self.is_outdated or self.had_all_labels)
        return self.best is not None and is_allowed

    @property
    def title(self) -> str:
        """Its name where it is an answer; see :func:`title`."""
        return title(self.label, self.student, self.taught_by)

    @property
    def merit(self) -> tuple[float, float, int]:
        """What it is ranked by, the least first; of a trial with a value."""
        assert self.best is not None, self.number
        return merit(self.best, self.params_m, self.number)

    @property
    def cohort(self) -> int:
        """Number of the first trial of its cohort."""
        return self.number if self.rides_with is None else self.rides_with

    @property
    def epoch(self) -> int:
        """The last epoch in the ledger; 0 before the first."""
        return max(self.values, default=0)

    @property
    def epochs(self) -> int:
        """Epochs of a full training."""
        return int(self.job["train"]["epochs"])

    @property
    def select(self) -> str:
        """Which of its epochs counts (:data:`~kdsweep.config.metrics.Select`)."""
        return str(self.job.get("train", {}).get("select", BEST))

    @property
    def planned(self) -> int | None:
        """Epochs of its full training: all that it has once it is complete; ``None`` if unknown."""
        if self.state is State.COMPLETE:
            return self.epoch
        return (self.job.get("train") or {}).get("epochs")

    @property
    def last(self) -> float | None:
        """Value of the last epoch; ``None`` where there is none."""
        value = self.values.get(self.epoch, math.nan)
        return None if math.isnan(value) else value

    @property
    def changed_job(self) -> dict[str, Any]:
        """Its job with what its own retries have changed."""
        return {**self.job, "train": {**self.job.get("train", {}), **self.changes}}

    def best_within(self, epochs: int) -> int | None:
        """Return which of its first ``epochs`` counts; ``None`` where none has a value."""
        return chosen_epoch({e: v for e, v in self.values.items() if e <= epochs}, self.select)

    def point(self, metrics: Iterable[str]) -> dict[str, float]:
        """Return its score at its best epoch and what its network costs, as far as it is known.

        Args:
            metrics: Metrics of the sweep, the deciding score first.
        """
        score, *further = metrics
        own = {} if self.best is None else {score: self.best}
        return own | {name: float(self.costs[name]) for name in further if name in self.costs}

    def take_value(self, epoch: int, value: float | None) -> None:
        """Take the value of an epoch; the last word on one counts."""
        is_first = epoch not in self.values
        self.values[epoch] = math.nan if value is None else value
        if not is_first or self.select == LAST:
            self.best_epoch = self.best_within(self.epoch)
            self.best = None if self.best_epoch is None else self.values[self.best_epoch]
        elif value is not None and (self.best is None or value > self.best):
            self.best, self.best_epoch = value, epoch

    def begin_anew(self) -> None:
        """Wait for a worker as if it had reached no epoch: its checkpoints went when it failed."""
        self.state, self.failure, self.stop = State.WAITING, None, None
        self.values, self.best, self.best_epoch = {}, None, None
        self.breaks_bound = False


def place_of(event: PlacedEvent) -> str:
    """Return ``node-b`` or ``node-b, GPU 1``."""
    if not event.gpus:
        return event.machine
    return f"{event.machine}, GPU{'s' if len(event.gpus) > 1 else ''} {', '.join(event.gpus)}"


def merit(value: float, params_m: float | None, number: int) -> tuple[float, float, int]:
    """Return the key by which trials are ranked, the least first: the one rule for ties.

    The best value of the metric comes first; of equal ones the student with fewer parameters, then
    the trial that was drawn earlier.

    Args:
        value: Best value of the sweep's (first) metric.
        params_m: Millions of parameters, ``None`` or NaN where they are not known.
        number: The trial's number.
    """
    size = math.inf if params_m is None or math.isnan(params_m) else params_m
    return -value, size, number


def title(label: str, student: str, teacher: str | None) -> str:
    """Return what a trial is called where it is an answer: ``mobilenet_v2 without a teacher``."""
    if teacher == ITSELF:
        return f"{student} taught by its own average"
    if teacher == LABELS:
        return f"{student} with all labels"
    return label if teacher is not None else f"{student} without a teacher"


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that have a value, best first; see :func:`merit`."""
    return sorted((t for t in trials if t.best is not None), key=lambda trial: trial.merit)


def _is_self_taught(job: Mapping[str, Any]) -> bool:
    distill = job.get("distill") or {}
    terms = [term for term in distill.values() if isinstance(term, Mapping)]
    return distill.get("teacher") == SELF and any(term.get("weight", 1) > 0 for term in terms)
