"""The state of a sweep: a fold over its ledger.

:meth:`Sweep.apply` is the only way the state changes, and the same code runs live and when a ledger
is read again, so a resumed sweep cannot differ from one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

from kdsweep.ledger import Event, SlotTime
from kdsweep.spec.architectures import architecture_key
from kdsweep.spec.objectives import Objective, objective
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
        number: From 0; shared controls come first.
        is_control: Whether it is a control: never stopped early, unknown to the sampler.
        label: Name for tables, for example ``resnet34→resnet18``.
        params: What the sampler drew, by dotted path.
        job: The full job as JSON, before :attr:`changes`.
        control: Number of the control with the same student architecture.
        rides_with: Number of the first trial of its cohort, with which it shares teacher and
            batches; ``None`` for that trial itself, and for one that trains on its own.
        drawn_with: Number of the search trial for whose cohort it was drawn, if that is another.
        state: Where it stands.
        attempt: Number of its latest attempt, from 1; 0 before the first.
        values: The sweep's score by epoch.
        costs: What its student costs, where the sweep goes by that; one and the same mapping for
            all trials of a network, which holds what is known last.
        breaks_bound: Whether it costs more than the sweep allows.
        num_crashes: Crashes so far.
        num_ooms: Times it ran out of memory.
        changes: What a retry after running out of memory changes in ``train``.
        failure: The ``fail`` event that ended it.
        seconds: Time since the start of attempts that have ended, up to their end.
        started: When the running attempt started.
        reported: When the last epoch was reported or the attempt started.
    """

    number: int
    is_control: bool
    label: str
    params: dict[str, Any]
    job: dict[str, Any]
    control: int | None = None
    rides_with: int | None = None
    drawn_with: int | None = None
    state: State = State.WAITING
    attempt: int = 0
    values: dict[int, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    breaks_bound: bool = False
    num_crashes: int = 0
    num_ooms: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    failure: Event | None = None
    seconds: float = 0.0
    started: float | None = None
    reported: float | None = None

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
    def best(self) -> float | None:
        """Best value so far."""
        return max(self.values.values(), default=None)

    @property
    def last(self) -> float | None:
        """Value of the last epoch."""
        return self.values[self.epoch] if self.values else None


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
        header: The ``sweep`` event, with the number of trials that was asked for last.
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
        self._objectives: list[Objective] = []
        self.sessions: list[Session] = []
        self.paused: str | None = None
        self.is_done = False
        self._time = SlotTime()
        # By architecture: what its students cost, and what each of its trials has measured.
        self._costs: dict[str, dict[str, float]] = {}
        self._measured: dict[str, dict[int, dict[str, float]]] = {}
        # So that long sweeps are not looked through for each question: the trials of each cohort,
        # and those that have not ended.
        self._cohorts: dict[int, list[Trial]] = {}
        self._open: dict[int, Trial] = {}
        self._num_controls_known = 0
        for event in events:
            self.apply(event)

    # -- reading ---------------------------------------------------------------------------------

    @property
    def num_trials(self) -> int:
        """Trials in all, controls included, those not drawn yet too.

        Of trials that are not drawn yet it is not known which have a control in common.
        """
        return int(self.header["trials"]) + self._num_controls

    @property
    def _num_controls(self) -> int:
        if self.header.get("controls") == "paired":
            return self._num_controls_known + self.num_undrawn
        return int(self.header["num_controls"])

    def running(self) -> list[Trial]:
        """Trials that are running, by number."""
        return [trial for trial in self._open.values() if trial.state is State.RUNNING]

    def count(self, state: State) -> int:
        """Number of trials in a state; those not drawn yet count as waiting."""
        undrawn = self.num_trials - len(self.trials) if state is State.WAITING else 0
        return undrawn + sum(t.state is state for t in self.trials.values())

    def best(self) -> Trial | None:
        """The search trial with the best value, the earliest one if several have it.

        Trials that break a bound do not count.
        """
        trials = self.trials.values()
        reported = [t for t in trials if t.values and not t.is_control and not t.breaks_bound]
        return max(reported, key=lambda t: (t.best, -t.number), default=None)

    def cohort(self, number: int) -> list[Trial]:
        """The trials that train together with one, itself among them, those that have ended too.

        Args:
            number: Of any of them.
        """
        return list(self._cohorts[self.trials[number].cohort])

    def job_to_run(self, number: int) -> dict[str, Any]:
        """A trial's job with the changes of a retry.

        A cohort trains on the same batches, so what one of its trials has changed, all have.
        """
        changes = max(self.cohort(number), key=lambda trial: trial.num_ooms).changes
        job = self.trials[number].job
        return {**job, "train": {**job["train"], **changes}}

    def next_waiting(self, except_for: Container[int] = ()) -> list[Trial]:
        """The trials of the cohort to run next among those known; empty if there is none.

        Interrupted cohorts come first, then the one that was drawn first.

        Args:
            except_for: Cohorts that were handed out already.
        """
        waiting = [
            trial
            for trial in self._open.values()
            if trial.state is State.WAITING and trial.cohort not in except_for
        ]
        first = min(waiting, key=lambda t: (t.attempt == 0, t.cohort), default=None)
        return [] if first is None else [t for t in waiting if t.cohort == first.cohort]

    def median_costs(self, number: int, measured: Mapping[str, float]) -> dict[str, float]:
        """What a trial's student costs, by its own measurement and by those of the same network.

        Single measurements, beside whatever else a machine does, differ by more than networks do.

        Args:
            number: The trial.
            measured: What it has measured itself, by metric.
        """
        alike = self._measured.get(architecture_key(self.trials[number].job), {})
        every = {**alike, number: measured}.values()
        return {metric: median(found[metric] for found in every) for metric in measured}

    @property
    def num_undrawn(self) -> int:
        """Search trials that the sampler has not drawn yet."""
        drawn = len(self.trials) - self._num_controls_known
        return max(0, int(self.header["trials"]) - drawn)

    @property
    def has_work(self) -> bool:
        """Whether some trial has not ended."""
        return self.num_undrawn > 0 or bool(self._open)

    def hours(self, now: float | None = None) -> float:
        """Wall-clock hours of all sessions; the current one up to ``now``."""
        seconds = sum(s.end - s.start for s in self.sessions)
        if now is not None and self.sessions:
            seconds += max(0.0, now - self.sessions[-1].end)
        return seconds / 3600

    def slot_hours(self, now: float | None = None) -> float:
        """Hours that slots were held, summed over trials."""
        running = sum(self._running_seconds(trial, now) for trial in self.running())
        return (sum(self._time.seconds.values()) + running) / 3600

    def gpu_hours(self, now: float | None = None) -> float:
        """GPU-hours that trials held; 0 on CPUs."""
        running = sum(self._running_seconds(trial, now) for trial in self.running())
        return (sum(self._time.gpu_seconds.values()) + running * self._num_gpus) / 3600

    # -- folding ---------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event of the ledger into the state."""
        kind, now = event["event"], float(event["time"])
        if kind == "sweep":
            self.header = event
            self._objectives = [objective(metric) for metric in event.get("metrics", [])]
            self.asha = Asha(event["grace_period"], event["reduction_factor"], self._objectives)
        elif kind == "extend":
            counts = {key: event[key] for key in ("trials", "num_controls")}
            self.header = {**self.header, **counts}
            return  # written between sessions, whose time it is not
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
                rides_with=event.get("rides_with"),
                drawn_with=event.get("drawn_with"),
            )
            self._remember(self.trials[event["trial"]])
        elif kind == "start":
            trial = self.trials[event["trial"]]
            self._time.start(trial.cohort, trial.number, now, self._num_gpus)
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

    def _remember(self, trial: Trial) -> None:
        self._cohorts.setdefault(trial.cohort, []).append(trial)
        self._open[trial.number] = trial
        self._num_controls_known += trial.is_control

    def _apply_epoch(self, event: Event, now: float) -> None:
        trial = self.trials[event["trial"]]
        trial.values[event["epoch"]] = event["value"]
        trial.reported = now
        trial.breaks_bound = event["stop"] == "constraint"
        if "costs" in event:
            if not trial.costs:
                trial.costs = self._costs.setdefault(architecture_key(trial.job), trial.costs)
            trial.costs.update(event["costs"])
        if "measured" in event:
            own = self._measured.setdefault(architecture_key(trial.job), {})
            own[trial.number] = event["measured"]
        if not trial.is_control and not trial.breaks_bound:
            further = [trial.costs[objective.metric] for objective in self._objectives[1:]]
            self.asha.record(trial.number, event["epoch"], event["value"], further)
        if event["stop"] is not None:
            self._end_attempt(trial, now)
            trial.state = State.COMPLETE if event["stop"] == "complete" else State.STOPPED
            self._open.pop(trial.number, None)

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
            self._open.pop(trial.number, None)

    def _end_attempts(self, now: float) -> None:
        for trial in self.running():
            self._end_attempt(trial, now)
            trial.state = State.WAITING

    def _end_attempt(self, trial: Trial, now: float) -> None:
        self._time.end(trial.cohort, trial.number, now, self._num_gpus)
        if trial.started is not None:
            trial.seconds += max(0.0, now - trial.started)
        trial.started = None

    @property
    def _num_gpus(self) -> float:
        return self.sessions[-1].gpus_per_trial if self.sessions else 0.0

    def _running_seconds(self, trial: Trial, now: float | None) -> float:
        if now is None:
            now = self.sessions[-1].end if self.sessions else 0.0
        return self._time.since_settled(trial.cohort, trial.number, now)
