"""The state of a sweep: the one fold over its ledger.

:meth:`Sweep.apply` is the only way the state changes, and the same code runs live and when a ledger
is read again, so a resumed sweep cannot differ from one that was never interrupted, nor a report
from the driver.

It is long because it is one: what an event means stands in one place, and so does what follows
from two of them.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from kdsweep.config.architectures import architecture_key
from kdsweep.config.metrics import BEST, RESIZED, SEEN, Metric, metric_of
from kdsweep.config.objectives import excess, front
from kdsweep.ledger.events import (
    AnyEpoch,
    DoneEvent,
    EpochEvent,
    EpochNumbers,
    EpochProgress,
    Event,
    ExtendEvent,
    FailEvent,
    Failure,
    HoursEvent,
    PartEvent,
    PauseEvent,
    PlacedEvent,
    PriorEvent,
    RejectedEvent,
    RetryEvent,
    SessionEvent,
    SettledEvent,
    StartEvent,
    Stop,
    SweepEvent,
    TrialEvent,
)
from kdsweep.ledger.rungs import Rungs
from kdsweep.ledger.slot_time import SlotTime
from kdsweep.ledger.trials import State, Trial, best_first, place_of

_DONE = "done"


@dataclass
class Session:
    """One run of a driver over the sweep.

    Attributes:
        event: What it said when it began.
        start: Unix time of its first line.
        end: Unix time of its last line so far.
    """

    event: SessionEvent
    start: float
    end: float

    @property
    def slots(self) -> int:
        """Trials at a time."""
        return self.event.slots

    @property
    def gpus_per_trial(self) -> float:
        """GPUs (or a share of one) that a trial holds; 0 on CPUs."""
        return float(self.event.gpus_per_trial)


class Sweep:
    """The state of a sweep; see :meth:`apply`.

    Attributes:
        header: The first line, with the number of trials that was asked for last.
        is_new: Whether there is no first line yet, and :attr:`header` has defaults only.
        trials: All trials by number.
        rungs: What was reached at the rungs; also filled where nobody stops trials at them.
        sessions: All sessions so far.
        parts: Changes of the data so far. All trials before the last one are outdated: they are
            compared with none after it.
        failures: All failures, those after which a trial was tried again too.
        rejected: Draws that were never trained.
        priors: Trials of earlier sweeps that the sampler knows of.
        settled: Jobs of a confirmation that get no further seeds, by name.
        ending: ``done``, or why the last session paused; ``None`` while it goes on.
        is_extended: Whether more was asked of it and no session has begun since.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.header = SweepEvent()
        self.is_new = True
        self.trials: dict[int, Trial] = {}
        self.rungs = Rungs(self.header.grace_period, self.header.reduction_factor)
        self.sessions: list[Session] = []
        self.parts: list[PartEvent] = []
        # Lines of an extension or a new part, its first trials too, come before their session.
        self._is_between = False
        self.failures: list[FailEvent] = []
        self.rejected: list[RejectedEvent] = []
        self.priors: list[PriorEvent] = []
        self.settled: dict[str, SettledEvent] = {}
        self.ending: str | None = None
        self.is_extended = False
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

    # -- what was asked for ----------------------------------------------------------------------

    @property
    def miou_over(self) -> str:
        """The classes that count in mIoU; a sweep keeps to those it began with."""
        return self.header.miou_over or SEEN

    @property
    def protocol(self) -> str:
        """The size at which all trials are scored."""
        return self.header.protocol or RESIZED

    @property
    def select(self) -> str:
        """Which epoch of each trial counts."""
        return self.header.select or BEST

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the sweep searches by, the score that decides on epochs first."""
        return tuple(self.header.metrics) or (self.header.metric,)

    @property
    def objectives(self) -> list[Metric]:
        """The same with their directions."""
        return [metric_of(metric) for metric in self.metrics]

    @property
    def data(self) -> list[dict[str, str]]:
        """Names of the data, as the last session has them that knew; empty where none did."""
        return next((s.event.data for s in reversed(self.sessions) if s.event.data), [])

    @property
    def num_trials(self) -> int:
        """Trials in all, controls included, those not drawn yet too.

        Of trials that are not drawn yet it is not known which have a control in common.
        """
        return self.header.trials + self.num_controls

    @property
    def num_controls(self) -> int:
        """Controls in all, counted likewise."""
        if self.header.controls == "paired":
            each = 1 + len(self.header.further_controls)
            return self._num_controls_known + each * self.num_undrawn
        return max(self._num_controls_known, self.header.num_controls)

    @property
    def asked_hours(self) -> float | None:
        """The hours in which it is to end, if it has a number of them."""
        return self.header.hours.get("asked")

    @property
    def num_outdated(self) -> int:
        """Search trials on data that have changed since."""
        return sum(t.is_outdated and not t.is_control for t in self.trials.values())

    @property
    def num_undrawn(self) -> int:
        """Search trials that the sampler has not drawn yet."""
        drawn = len(self.trials) - self._num_controls_known
        return max(0, self.header.trials - drawn)

    # -- where it stands -------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether everything that was asked for has ended."""
        return self.ending == _DONE

    @property
    def paused(self) -> str | None:
        """Reason of the last pause, if the last session ended with one."""
        return None if self.is_done else self.ending

    @property
    def has_work(self) -> bool:
        """Whether some trial has not ended."""
        return self.num_undrawn > 0 or bool(self._open)

    @property
    def started(self) -> float | None:
        """Unix time of the first line; ``None`` before there is one."""
        if self.sessions:
            return self.sessions[0].start
        return None if self.is_new else self.header.time

    @property
    def updated(self) -> float | None:
        """Unix time of the last line, as far as it belongs to a session."""
        return self.sessions[-1].end if self.sessions else self.started

    def standing(self, driven: bool | None) -> str:
        """Return ``empty``, ``not started``, ``running``, ``died``, ``paused`` or ``done``.

        Args:
            driven: Whether a process runs the sweep; where that is not known, the ledger is taken
                at its word.
        """
        if self.is_new:
            return "empty"
        if self.ending is not None:
            return "done" if self.is_done else "paused"
        if not self.sessions:
            return "not started"
        return "died" if driven is False else "running"

    def running(self) -> list[Trial]:
        """Trials that are running, by number."""
        return [trial for trial in self._open.values() if trial.state is State.RUNNING]

    def count(self, *states: State) -> int:
        """Number of trials in some states; those not drawn yet count as waiting."""
        undrawn = self.num_trials - len(self.trials) if State.WAITING in states else 0
        return undrawn + sum(trial.state in states for trial in self.trials.values())

    # -- cohorts ---------------------------------------------------------------------------------

    def cohort(self, number: int) -> list[Trial]:
        """The trials that train together with one, itself among them, those that have ended too."""
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
            if trial.state.is_open and trial.cohort not in except_for
        ]
        first = min(waiting, key=lambda t: (t.attempt == 0, t.cohort), default=None)
        return [] if first is None else [t for t in waiting if t.cohort == first.cohort]

    def to_retry(self) -> list[Trial]:
        """The failed trials that may be asked for again, by number.

        A cohort goes on from one epoch, so one that has not ended is left to end first.
        """
        failed = (t for t in self.trials.values() if t.state is State.FAILED and not t.is_outdated)
        return [t for t in failed if all(each.state.is_final for each in self.cohort(t.number))]

    # -- what it has found -----------------------------------------------------------------------

    def candidates(self) -> list[Trial]:
        """The trials that may be called best, best first."""
        return best_first(trial for trial in self.trials.values() if trial.is_candidate)

    def best(self) -> Trial | None:
        """The best trial so far; the rule is :func:`~kdsweep.ledger.trials.merit`."""
        found = (trial for trial in self.trials.values() if trial.is_candidate)
        return min(found, key=lambda trial: trial.merit, default=None)

    def front(self, trials: Iterable[Trial] | None = None) -> list[Trial]:
        """The trials that no other beats in everything, best score first.

        Each counts with its score at its best epoch and its network's costs; see
        :func:`kdsweep.config.objectives.front`.

        Args:
            trials: Among whom; among all that may be called best if left out.

        Returns:
            None for a sweep with a single metric.
        """
        if len(self.metrics) < 2:
            return []
        points = {}
        for trial in self.candidates() if trials is None else trials:
            point = trial.point(self.metrics)
            if len(point) == len(self.metrics) and all(map(math.isfinite, point.values())):
                points[trial.number] = tuple(point.values())
        return [self.trials[number] for number in front(points, self.objectives)]

    def partner(self, number: int, kind: str = "") -> tuple[Trial, int] | None:
        """The control on the same data that a trial is compared with, and at which of its epochs.

        That is the control's best epoch within as many as the trial has finished, so that neither
        had longer to get there.

        Args:
            number: The trial.
            kind: Of the control, where that is not the one without a teacher.

        Returns:
            ``None`` if there is no control, or it has not come as far.
        """
        beside = self.trials[number].control_of(kind)
        return None if beside is None else self.compared(number, beside)

    def compared(self, number: int, other: int) -> tuple[Trial, int] | None:
        """Another trial and its best epoch within as many as a trial has; see :meth:`partner`."""
        trial, control = self.trials[number], self.trials.get(other)
        if control is None or not trial.values or control.epoch < trial.epoch:
            return None
        if control.is_outdated != trial.is_outdated:
            return None
        epoch = control.best_within(trial.epoch)
        return None if epoch is None else (control, epoch)

    def median_costs(self, number: int, measured: Mapping[str, float]) -> dict[str, float]:
        """Return what a trial's student costs, by its own and the same network's measurements.

        Single measurements, beside whatever else a machine does, differ by more than networks do.

        Args:
            number: The trial.
            measured: What it has measured itself, by metric.
        """
        alike = self._measured.get(architecture_key(self.trials[number].job), {})
        every = {**alike, number: measured}.values()
        return {metric: median(found[metric] for found in every) for metric in measured}

    # -- time ------------------------------------------------------------------------------------

    def hours(self, now: float | None = None) -> float:
        """Wall-clock hours of all sessions; the current one up to ``now``."""
        seconds = sum(s.end - s.start for s in self.sessions)
        if now is not None and self.sessions:
            seconds += max(0.0, now - self.sessions[-1].end)
        return seconds / 3600

    def used_hours(self, now: float | None = None) -> float:
        """Wall-clock hours that count where it is to end in some: also those before its start."""
        return self.hours(now) + self.header.hours.get("spent_s", 0.0) / 3600

    def slot_hours(self, now: float | None = None) -> float:
        """Hours that slots were held, summed over trials."""
        running = sum(self._unsettled(trial, now) for trial in self.running())
        return (sum(self._time.seconds.values()) + running) / 3600

    def gpu_hours(self, now: float | None = None) -> float:
        """GPU-hours that trials held; 0 on CPUs."""
        settled = sum(self._time.gpu_seconds.values())
        running = sum(self._unsettled(trial, now) for trial in self.running())
        return (settled + running * self._num_gpus) / 3600

    def trial_seconds(self, number: int, now: float | None = None) -> float:
        """How long a trial held a slot, shared with those of its cohort that trained meanwhile.

        Args:
            number: The trial.
            now: Until when, if it is running; until the last line if left out.
        """
        return self._time.seconds.get(number, 0.0) + self._unsettled(self.trials[number], now)

    # -- folding ---------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event of the ledger into the state."""
        now = event.time
        match event:
            case EpochProgress() | EpochNumbers() | EpochEvent():
                self._apply_epoch(event)
            case StartEvent():
                self._apply_start(event)
            case PlacedEvent():
                for trial in self.cohort(event.trial):
                    if trial.state is State.RUNNING:
                        trial.machine = place_of(event)
            case TrialEvent():
                self._remember(Trial.drawn(event))
            case FailEvent():
                self._apply_failure(event)
            case RejectedEvent():
                self.rejected.append(event)
            case PriorEvent():
                self.priors.append(event)
            case SweepEvent():
                self.header, self.is_new = event, False
                self.rungs = Rungs(event.grace_period, event.reduction_factor)
            case ExtendEvent():
                self.header = msgspec.structs.replace(
                    self.header, trials=event.trials, num_controls=event.num_controls, hours={}
                )
                self.ending, self.is_extended = None, True
                self._is_between = True
            case RetryEvent():
                self._retry(event)
                self.ending, self.is_extended = None, True
                self._is_between = True
            case SettledEvent():
                self.settled[event.job] = event
                self.header = msgspec.structs.replace(
                    self.header, trials=event.trials, num_controls=event.num_controls
                )
            case HoursEvent():
                self._end_attempts(now)
                self._stop_open(Stop.HOURS)
                self.header = msgspec.structs.replace(
                    self.header, trials=event.trials, num_controls=event.num_controls
                )
            case PartEvent():
                self._begin_part(event)
                self._is_between = True
            case SessionEvent():
                # A killed driver leaves running trials behind; what they did after the last line
                # that is known of them is not known, so their time ends there.
                self.interrupt()
                self.ending, self.is_extended = None, False
                self._is_between = False
                self.sessions.append(Session(event, now, now))
            case PauseEvent():
                self._end_attempts(now)
                self.ending = event.reason
            case DoneEvent():
                self.ending = _DONE
            case _:
                # A newer version may add events; what this one knows of the sweep stays true.
                pass
        if self.sessions and not self._is_between:
            self.sessions[-1].end = now

    def interrupt(self) -> None:
        """End what runs at the last line: its driver has died, or another one takes over."""
        if self.sessions:
            self._end_attempts(self.sessions[-1].end)

    def _stop_open(self, why: Stop) -> None:
        for trial in self._open.values():
            trial.state, trial.stop = State.STOPPED, why
        self._open.clear()

    def _begin_part(self, event: PartEvent) -> None:
        self.interrupt()
        self._stop_open(Stop.DATA)
        for trial in self.trials.values():
            trial.is_outdated = True
        self.settled.clear()
        self.rungs = Rungs(self.header.grace_period, self.header.reduction_factor)
        self.header = msgspec.structs.replace(
            self.header, trials=event.trials, num_controls=event.num_controls, data=event.data
        )
        self.parts.append(event)
        self.ending = None

    def _remember(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self._cohorts.setdefault(trial.cohort, []).append(trial)
        self._open[trial.number] = trial
        self._num_controls_known += trial.is_control

    def _apply_start(self, event: StartEvent) -> None:
        trial = self.trials[event.trial]
        self._time.start(trial.cohort, trial.number, event.time, self._num_gpus)
        trial.state, trial.attempt = State.RUNNING, event.attempt
        trial.num_starts += 1
        trial.started = trial.heard = event.time

    def _apply_epoch(self, event: AnyEpoch) -> None:
        trial = self.trials[event.trial]
        trial.take_value(event.epoch, event.value)
        trial.state, trial.stop, trial.heard = State.RUNNING, event.stop, event.time
        trial.breaks_bound = event.stop == Stop.CONSTRAINT
        if trial.is_control and event.costs:
            over = excess(event.costs, self.header.constraints)
            trial.breaks_bound = any(by > 0 for by in over.values())
        if (params_m := event.params_m) is not None:
            trial.params_m = params_m
        if event.costs:
            if not trial.costs:
                trial.costs = self._costs.setdefault(architecture_key(trial.job), trial.costs)
            trial.costs.update(event.costs)
        if event.measured:
            own = self._measured.setdefault(architecture_key(trial.job), {})
            own[trial.number] = event.measured
        is_compared = not trial.is_control and not trial.breaks_bound
        if is_compared and event.value is not None and self.rungs.is_rung(event.epoch):
            further = (trial.costs[metric] for metric in self.header.metrics[1:])
            self.rungs.record(trial.number, event.epoch, (event.value, *further))
        if event.stop is not None:
            self._end_attempt(trial, event.time)
            is_complete = event.stop == Stop.COMPLETE
            trial.state = State.COMPLETE if is_complete else State.STOPPED
            self._open.pop(trial.number, None)

    def _apply_failure(self, event: FailEvent) -> None:
        trial = self.trials[event.trial]
        self._end_attempt(trial, event.time)
        self.failures.append(event)
        trial.attempt = event.attempt
        trial.num_crashes += event.failure == Failure.CRASH
        trial.num_ooms += event.failure == Failure.OOM
        trial.num_hangs += event.failure == Failure.HANG
        trial.num_lost += event.failure == Failure.LOST
        trial.changes = {**trial.changes, **event.job}
        if event.retry:
            trial.state = State.WAITING
        else:
            trial.state, trial.failure = State.FAILED, event
            self._open.pop(trial.number, None)

    def _retry(self, event: RetryEvent) -> None:
        if not self.has_work:  # like an extension's, these trials take what hours they take
            self.header = msgspec.structs.replace(self.header, hours={})
        for number in event.trials:
            self.trials[number].begin_anew()
            self._open[number] = self.trials[number]
            for trial in self.cohort(number):
                trial.num_crashes = trial.num_hangs = trial.num_lost = 0

    def _end_attempts(self, now: float) -> None:
        for trial in self.running():
            self._end_attempt(trial, now)
            trial.state = State.INTERRUPTED

    def _end_attempt(self, trial: Trial, now: float) -> None:
        self._time.end(trial.cohort, trial.number, now, self._num_gpus)
        if trial.started is not None:
            trial.seconds += max(0.0, now - trial.started)
        trial.started = None

    @property
    def _num_gpus(self) -> float:
        return self.sessions[-1].gpus_per_trial if self.sessions else 0.0

    def _unsettled(self, trial: Trial, now: float | None) -> float:
        if now is None:
            now = self.sessions[-1].end if self.sessions else 0.0
        return self._time.since_settled(trial.cohort, trial.number, now)
