"""The state of a sweep: a fold over its ledger.

:meth:`Sweep.apply` is the only way the state changes, and the same code runs live and when a ledger
is read again, so a resumed sweep cannot differ from one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kdsweep.store import Event
from kdsweep.sweep.asha import Asha


class State(StrEnum):
    """Where a trial stands."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether the trial has ended for good."""
        return self in (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass
class Trial:
    """One trial of a sweep, as the ledger tells it.

    Attributes:
        number: From 0; controls come first.
        is_control: Whether it is a control: never stopped early, unknown to the sampler.
        label: Name for tables, for example ``resnet34→resnet18``.
        params: What the sampler drew, by dotted path.
        job: The full job as JSON, before :attr:`changes`.
        control: Number of the control with the same student architecture.
        state: Where it stands.
        attempt: Number of its latest attempt, from 1; 0 before the first.
        values: The sweep's metric by epoch.
        num_crashes: Crashes so far.
        num_ooms: Times it ran out of memory.
        changes: What a retry after running out of memory changes in ``train``.
        failure: The ``fail`` event that ended it.
        seconds: Time spent in attempts that have ended.
        started: When the running attempt started.
        reported: When the last epoch was reported or the attempt started.
    """

    number: int
    is_control: bool
    label: str
    params: dict[str, Any]
    job: dict[str, Any]
    control: int | None = None
    state: State = State.WAITING
    attempt: int = 0
    values: dict[int, float] = field(default_factory=dict)
    num_crashes: int = 0
    num_ooms: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    failure: Event | None = None
    seconds: float = 0.0
    started: float | None = None
    reported: float | None = None

    @property
    def epoch(self) -> int:
        """The last epoch in the ledger; 0 before the first."""
        return max(self.values, default=0)

    @property
    def epochs(self) -> int:
        """Epochs of a full training."""
        return int(self.job["train"]["epochs"])

    @property
    def best(self) -> float | None:
        """Best value so far."""
        return max(self.values.values(), default=None)

    @property
    def last(self) -> float | None:
        """Value of the last epoch."""
        return self.values[self.epoch] if self.values else None

    @property
    def job_to_run(self) -> dict[str, Any]:
        """The job with the changes of a retry."""
        return {**self.job, "train": {**self.job["train"], **self.changes}}


@dataclass
class Session:
    """One run of a driver over the sweep.

    Attributes:
        number: From 1.
        start: Unix time of its first line.
        end: Unix time of its last line so far.
        slots: Trials at a time.
        gpus_per_trial: GPUs (or a share of one) that a trial holds; 0 on CPUs.
    """

    number: int
    start: float
    end: float
    slots: int
    gpus_per_trial: float


class Sweep:
    """The state of a sweep; see :meth:`apply`.

    Attributes:
        header: The ``sweep`` event.
        trials: All trials by number.
        asha: The rungs; also filled where no scheduler stops trials at them.
        sessions: All sessions so far.
        paused: Reason of the last pause, if the last session ended with one.
        is_done: Whether everything that was asked for has ended.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.header: Event = {}
        self.trials: dict[int, Trial] = {}
        self.asha = Asha(grace_period=1, reduction_factor=2)
        self.sessions: list[Session] = []
        self.paused: str | None = None
        self.is_done = False
        self._gpu_seconds = 0.0
        for event in events:
            self.apply(event)

    # -- reading ---------------------------------------------------------------------------------

    @property
    def num_trials(self) -> int:
        """Trials in all, controls included, those not drawn yet too."""
        return int(self.header["trials"]) + int(self.header["num_controls"])

    def running(self) -> list[Trial]:
        """Trials that are running, by number."""
        return [t for t in self.trials.values() if t.state is State.RUNNING]

    def count(self, state: State) -> int:
        """Number of trials in a state; those not drawn yet count as waiting."""
        undrawn = self.num_trials - len(self.trials) if state is State.WAITING else 0
        return undrawn + sum(t.state is state for t in self.trials.values())

    def best(self) -> Trial | None:
        """The search trial with the best value, the earliest one if several have it."""
        reported = [t for t in self.trials.values() if t.values and not t.is_control]
        return max(reported, key=lambda t: (t.best, -t.number), default=None)

    def next_waiting(self, except_for: Container[int] = ()) -> Trial | None:
        """The trial to run next among those known: interrupted ones first, then by number.

        Args:
            except_for: Trials that were handed out already.
        """
        waiting = [
            t
            for t in self.trials.values()
            if t.state is State.WAITING and t.number not in except_for
        ]
        return min(waiting, key=lambda t: (t.attempt == 0, t.number), default=None)

    @property
    def num_undrawn(self) -> int:
        """Search trials that the sampler has not drawn yet."""
        return self.num_trials - len(self.trials)

    @property
    def has_work(self) -> bool:
        """Whether some trial has not ended."""
        return self.num_undrawn > 0 or not all(t.state.is_final for t in self.trials.values())

    def hours(self, now: float | None = None) -> float:
        """Wall-clock hours of all sessions; the current one up to ``now``."""
        seconds = sum(s.end - s.start for s in self.sessions)
        if now is not None and self.sessions:
            seconds += max(0.0, now - self.sessions[-1].end)
        return seconds / 3600

    def slot_hours(self, now: float | None = None) -> float:
        """Hours that trials ran, summed over trials."""
        return sum(t.seconds + self._running_seconds(t, now) for t in self.trials.values()) / 3600

    def gpu_hours(self, now: float | None = None) -> float:
        """GPU-hours that trials held; 0 on CPUs."""
        share = self.sessions[-1].gpus_per_trial if self.sessions else 0.0
        running = sum(self._running_seconds(t, now) for t in self.trials.values())
        return (self._gpu_seconds + running * share) / 3600

    # -- folding ---------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event of the ledger into the state."""
        kind, now = event["event"], float(event["time"])
        if kind == "sweep":
            self.header = event
            self.asha = Asha(event["grace_period"], event["reduction_factor"])
        elif kind == "session":
            # A killed driver leaves running trials behind; what they did after the last line that
            # is known of them is not known, so their time ends there.
            self._end_attempts(self.sessions[-1].end if self.sessions else now)
            self.paused, self.is_done = None, False
            self.sessions.append(
                Session(event["session"], now, now, event["slots"], event["gpus_per_trial"])
            )
        elif kind == "trial":
            self.trials[event["trial"]] = Trial(
                number=event["trial"],
                is_control=event["kind"] == "control",
                label=event["label"],
                params=event["params"],
                job=event["job"],
                control=event["control"],
            )
        elif kind == "start":
            trial = self.trials[event["trial"]]
            trial.state, trial.attempt = State.RUNNING, event["attempt"]
            trial.started = trial.reported = now
        elif kind == "epoch":
            self._apply_epoch(event, now)
        elif kind == "fail":
            self._apply_failure(event, now)
        elif kind == "pause":
            self._end_attempts(now)
            self.paused = event["reason"]
        elif kind == "done":
            self.is_done = True
        else:
            # A newer version may add events; what this one knows of the sweep stays true.
            return
        if self.sessions:
            self.sessions[-1].end = now

    def _apply_epoch(self, event: Event, now: float) -> None:
        trial = self.trials[event["trial"]]
        trial.values[event["epoch"]] = event["value"]
        trial.reported = now
        if not trial.is_control:
            self.asha.record(trial.number, event["epoch"], event["value"])
        if event["stop"] is not None:
            self._end_attempt(trial, now)
            trial.state = State.COMPLETE if event["stop"] == "complete" else State.STOPPED

    def _apply_failure(self, event: Event, now: float) -> None:
        trial = self.trials[event["trial"]]
        self._end_attempt(trial, now)
        trial.attempt = event["attempt"]
        trial.num_crashes += event["class"] == "crash"
        trial.num_ooms += event["class"] == "oom"
        trial.changes = {**trial.changes, **event.get("job", {})}
        if event["retry"]:
            trial.state = State.WAITING
        else:
            trial.state, trial.failure = State.FAILED, event

    def _end_attempts(self, now: float) -> None:
        for trial in self.running():
            self._end_attempt(trial, now)
            trial.state = State.WAITING

    def _end_attempt(self, trial: Trial, now: float) -> None:
        seconds = self._running_seconds(trial, now)
        trial.seconds += seconds
        trial.started = None
        if self.sessions:
            self._gpu_seconds += seconds * self.sessions[-1].gpus_per_trial

    def _running_seconds(self, trial: Trial, now: float | None) -> float:
        if trial.started is None:
            return 0.0
        if now is None:
            now = self.sessions[-1].end if self.sessions else trial.started
        return max(0.0, now - trial.started)
