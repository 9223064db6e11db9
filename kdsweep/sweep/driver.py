"""The driver of a sweep: what to run next, and what a result means. Without Ray.

Every decision becomes one line of the ledger before it is acted upon, and reaches the state only
through that line (see :mod:`kdsweep.ledger.state`).

It is long because each way for an attempt to end is followed by the same few steps, in one order.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from kdsweep.config import Job, JobList, Space
from kdsweep.config.halving import num_spared
from kdsweep.config.objectives import STATIC_COSTS, excess
from kdsweep.disk import DiskError
from kdsweep.ledger import Event, Experiment, Ledger
from kdsweep.ledger.atomic import is_inside, remove
from kdsweep.ledger.events import (
    DoneEvent,
    EpochEvent,
    FailEvent,
    Failure,
    HoursEvent,
    PauseEvent,
    PlacedEvent,
    PriorEvent,
    SessionEvent,
    StartEvent,
    Stop,
    SweepEvent,
)
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State, Trial
from kdsweep.sweep.attempt import Attempt, Task
from kdsweep.sweep.deadline import HOURS, Deadline, Hours
from kdsweep.sweep.drawing import Drawing
from kdsweep.sweep.equal_time import EqualTime
from kdsweep.sweep.feasibility import Costs, Feasibility
from kdsweep.sweep.opening import first_line, new_part
from kdsweep.sweep.resources import Plan
from kdsweep.sweep.schedulers import make_scheduler
from kdsweep.sweep.settling import newly_settled
from kdsweep.sweep.study import Study
from kdsweep.sweep.sweep_data import SweepData
from kdsweep.training.report import EpochReport

# An error leaves the process in a state that nobody knows, so the next trial gets a new one.
CLEAN_FAILURES = (Failure.OOM, Failure.NAN)
# Trials of machines that went away; not without end, as a trial may be what brings them down.
LOST_RETRIES = 20


class Listener(Protocol):
    """Something that wants to know of each event after it was taken into the state."""

    def event(self, sweep: Sweep, event: Event) -> None:
        """Take notice of an event."""


class Driver:
    """Runs one session of a sweep: hands out attempts, judges results, keeps budgets.

    Args:
        ledger: Open for writing; what it holds already is taken in first.
        plan: The resources of this session.
        max_hours: Wall-clock budget over all sessions.
        max_gpu_hours: Budget of GPU-hours over all sessions.
        students_per_teacher: Search trials that are drawn as one cohort, in a new sweep; one that
            goes on keeps its number.
        static_costs: What each architecture costs, by its key, in a new sweep with bounds on that;
            one that goes on has them in its ledger.
        equal_time: What controls of equal time go by, in a new sweep with such; likewise.
        priors: Trials of earlier sweeps, in a new sweep; likewise.
        hours: In which a new sweep is to end; likewise.
        clock: Source of Unix time.

    Attributes:
        study: The sampler's history.
        listeners: Told of each event of this session.
        pausing: Reason why no further attempts are handed out and running ones stop at their next
            report.
    """

    def __init__(
        self,
        space: Space | JobList,
        experiment: Experiment,
        ledger: Ledger,
        plan: Plan,
        *,
        max_hours: float | None = None,
        max_gpu_hours: float | None = None,
        students_per_teacher: int = 1,
        static_costs: Costs | None = None,
        equal_time: EqualTime | None = None,
        priors: Sequence[PriorEvent] = (),
        hours: Hours | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._students_per_teacher = students_per_teacher
        self._equal_time = equal_time or {}
        self._priors = priors
        self._hours = hours
        self.space = space
        self.experiment = experiment
        self.plan = plan
        self.sweep = Sweep()
        self.study = Study(space)
        self.pausing: str | None = None
        self._ledger = ledger
        self.listeners: list[Listener] = []
        self._max_hours = max_hours
        self._deadline = Deadline(self.sweep, max_hours)
        self._max_gpu_hours = max_gpu_hours
        self._clock = clock
        self._active: dict[int, Attempt] = {}
        self._data = SweepData({}, {})
        # Old checkpoints are deleted in the background: a big folder takes longer than a decision.
        self._cleaner = ThreadPoolExecutor(1, "kdsweep-cleaner")
        for event in ledger.replay():
            self._take_in(event)
        self._static_costs = self.sweep.header.static_costs or static_costs or {}
        feasibility = Feasibility(space, self._static_costs)
        self._num_points = feasibility.num_points(space.sweep.trials)
        self._spares_students = num_spared(space, space.sweep.trials) > 0
        self._drawing = Drawing(space, self.sweep, self.study, feasibility, self._emit)

    # -- the session -----------------------------------------------------------------------------

    def begin(
        self, command: str, prepared: Mapping[str, Any], differences: Sequence[str] = ()
    ) -> None:
        """Write the lines that open the sweep, if it is new, and this session.

        Args:
            command: The command line, for the record.
            prepared: What is known of the data, as the runner's ``prepare`` gave it.
            differences: In which ways they differ from those of the trials so far; with any, none
                of these goes on, or is compared with those to come.
        """
        data = self._data = SweepData.of(prepared)
        if self.sweep.is_new:
            self._emit(self._header(data.facts))
        elif differences:
            self._emit(new_part(self.space, self.sweep, data, differences))
        # A driver that was killed in between has written some.
        for prior in self._priors[len(self.sweep.priors) :]:
            self._emit(prior)
        self._drawing.begin()
        self._emit(
            SessionEvent(
                session=len(self.sweep.sessions) + 1,
                pid=os.getpid(),
                host=socket.gethostname(),
                slots=self.plan.slots,
                gpus_per_trial=self.plan.gpus_per_trial,
                cpus_per_trial=self.plan.cpus_per_trial,
                command=command,
                # Budgets of this session; those of the search space unless it was told others.
                max_hours=self._max_hours,
                max_gpu_hours=self._max_gpu_hours,
                data=data.names,
            )
        )
        for trial in self.sweep.trials.values():
            if trial.state.is_final:
                self._drop_checkpoints(trial)

    def end(self) -> None:
        """Write the line that closes this session, and finish what runs in the background."""
        if self.sweep.has_work and self.pausing == HOURS:
            self._end_hours()
        if not self.sweep.has_work:
            self._emit(DoneEvent())
        elif self.pausing is not None:
            self._emit(PauseEvent(reason=self.pausing))
        self._cleaner.shutdown(wait=True)

    def _end_hours(self) -> None:
        """Write that no time is left, which ends what has not ended."""
        sweep = self.sweep
        left = [trial for trial in sweep.trials.values() if not trial.state.is_final]
        paired = sweep.num_undrawn * self.space.sweep.num_paired
        self._emit(
            HoursEvent(
                asked=sweep.asked_hours or 0.0,
                trials=sweep.header.trials - sweep.num_undrawn,
                num_controls=sweep.header.num_controls - paired,
            )
        )
        for trial in left:
            self._drop_checkpoints(trial)

    def pause(self, reason: str) -> None:
        """Hand out nothing more; the first reason stays."""
        if self.pausing is None:
            self.pausing = reason

    def check_budgets(self) -> None:
        """Pause if a budget is used up."""
        now = self._clock()
        if (used_up := self._deadline.is_over(now)) is not None:
            self.pause(used_up)
        if self._max_gpu_hours is not None and self.sweep.gpu_hours(now) >= self._max_gpu_hours:
            self.pause("max_gpu_hours")

    # -- attempts --------------------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether no attempt will ever be handed out again in this session."""
        return self.pausing is not None or (not self._active and not self.sweep.has_work)

    @property
    def num_active(self) -> int:
        """Attempts that were handed out and have not ended."""
        return len(self._active)

    def is_active(self, attempt: Attempt) -> bool:
        """Return whether an attempt was handed out and has not ended."""
        return self._active.get(attempt.cohort) is attempt

    def next_attempt(self) -> Attempt | None:
        """The next attempt, or ``None`` while there is none: all slots taken, or pausing."""
        if self.pausing is not None or self.num_active >= self.plan.slots:
            return None
        for event in newly_settled(self.space, self.sweep):
            self._emit(event)
        trials = self.sweep.next_waiting(except_for=self._active)
        if not trials and self.sweep.num_undrawn > 0 and self._has_time():
            self._drawing.draw_cohort()
            trials = self.sweep.next_waiting(except_for=self._active)
        if not trials or not self._has_time(trials):
            return None
        trials.sort(key=lambda trial: (trial.is_control, trial.number))
        first = trials[0]
        more = f" +{len(trials) - 1}" if len(trials) > 1 else ""
        attempt = Attempt(
            cohort=first.cohort,
            cohort_dir=str(self.experiment.trial(first.cohort).path),
            attempt=max(trial.attempt for trial in trials) + 1,
            title=f"{first.number:04d}{more} {first.label}",
            tasks=tuple(
                Task(
                    trial.number,
                    self.sweep.job_to_run(trial.number),
                    str(self.experiment.trial(trial.number).path),
                )
                for trial in trials
            ),
        )
        self._active[attempt.cohort] = attempt
        return attempt

    def _has_time(self, trials: Sequence[Trial] = ()) -> bool:
        """Whether there is time for an attempt; if nothing runs that could make room, pause."""
        lacking = self._deadline.forbids(self._clock(), trials)
        if lacking is not None and not self._active:
            self.pause(lacking)
        return lacking is None

    def started(self, attempt: Attempt) -> None:
        """A worker begins with an attempt."""
        for trial in self.remaining(attempt):
            self._emit(
                StartEvent(
                    trial=trial.number,
                    attempt=attempt.attempt,
                    epoch=trial.epoch,
                    data=self._data.fingerprint(trial.job),
                )
            )

    def placed(self, attempt: Attempt, machine: str, gpus: Sequence[str]) -> None:
        """A worker says where it is."""
        number = attempt.cohort
        self._emit(
            PlacedEvent(trial=number, attempt=attempt.attempt, machine=machine, gpus=list(gpus))
        )

    def remaining(self, attempt: Attempt) -> list[Trial]:
        """The trials of an attempt that have not ended."""
        trials = [self.sweep.trials[task.trial] for task in attempt.tasks]
        return [trial for trial in trials if not trial.state.is_final]

    def reported(self, attempt: Attempt, result: dict[str, Any]) -> bool:
        """Judge what a worker sent.

        Args:
            attempt: The attempt.
            result: ``{"reports": {…}, "left": {…}}`` with reports, and why some trials cannot go on
                while others do, both by trial; ``{"failed": …}`` of the attempt as a whole, or
                ``{"ended": true}``.

        Returns:
            Whether the attempt stops here; else :meth:`remaining` tells who goes on.

        Raises:
            DiskError: The worker could not write; no trial has failed.
        """
        if not self.is_active(attempt):
            return True
        if "failed" in result:
            failed = result["failed"]
            if "disk" in failed:  # the next trial would fail of it too
                raise DiskError(*failed["disk"])
            if failed["class"] == Failure.CRASH:
                # A signal to the whole process group kills the processes of a loader too.
                self.crashed(attempt, Failure.CRASH, failed["message"], failed["traceback"])
            else:
                self._fail(attempt, failed["class"], failed["message"], failed["traceback"])
            return failed["class"] in CLEAN_FAILURES
        if "ended" in result:
            first = self.remaining(attempt)[0]
            message = f"training ended after {first.epoch} of {first.epochs} epochs"
            self._fail(attempt, Failure.ERROR, message)
            return True
        self._judge(attempt, result)
        if self.is_active(attempt) and self.pausing is None:
            return False
        self._active.pop(attempt.cohort, None)
        return True

    def crashed(
        self,
        attempt: Attempt,
        failure: str,
        message: str,
        traceback: str = "",
        machine: str | None = None,
    ) -> None:
        """A worker died, came to a standstill, or failed outside of the training.

        While the sweep pauses this is no failure: the trial goes on after the pause.
        """
        if not self.is_active(attempt):
            return
        if self.pausing is not None:
            del self._active[attempt.cohort]
            return
        self._fail(attempt, failure, message, traceback, machine)

    # -- decisions -------------------------------------------------------------------------------

    def _judge(self, attempt: Attempt, result: dict[str, Any]) -> None:
        reports = {int(n): EpochReport.from_json(r) for n, r in result["reports"].items()}
        for report in reports.values():
            for metric in (self.space.sweep.score, *self._costs):
                if metric not in report.metrics:
                    known = ", ".join(sorted(report.metrics))
                    message = f"no metric {metric!r} in the report; it has {known}"
                    self._fail(attempt, Failure.ERROR, message)
                    return
        left = {int(number): failed for number, failed in result["left"].items()}
        # In the order of the tasks: what becomes of controls depends on those they ride with.
        for trial in self.remaining(attempt):
            if trial.number in left:
                why = left[trial.number]
                said = why["class"], why["message"], why["traceback"]
                self._emit(self._failure(attempt, trial.number, *said))
            elif trial.number in reports:
                self._judge_one(attempt, trial, reports[trial.number])
        remaining = self.remaining(attempt)
        for number in (*reports, *left):
            if self.sweep.trials[number].state.is_final:
                self._drop_checkpoints(self.sweep.trials[number])
        if not remaining:
            del self._active[attempt.cohort]

    def _judge_one(self, attempt: Attempt, trial: Trial, report: EpochReport) -> None:
        # A resumed trial reports its checkpoint's epoch again, in case that line was lost.
        if report.epoch <= trial.epoch:
            return
        metric = self.space.sweep.score
        for name in (metric, *self._costs):
            if not math.isfinite(report.metrics[name]):
                message = f"{name} is {report.metrics[name]} after epoch {report.epoch}"
                self._emit(self._failure(attempt, trial.number, Failure.NAN, message))
                return
        value = report.metrics[metric]
        known = {name: report.metrics[name] for name in self._costs}
        measured = {name: v for name, v in known.items() if name not in STATIC_COSTS}
        costs = {**known, **self.sweep.median_costs(trial.number, measured)}
        plain = report.to_json()
        self._emit(
            EpochEvent(
                trial=trial.number,
                attempt=attempt.attempt,
                epoch=report.epoch,
                value=value,
                costs=costs,
                measured=measured,
                metrics=plain["metrics"],
                classes=plain["classes"],
                seconds=plain["seconds"],
                stop=self._verdict(trial, report.epoch, value, costs)
                or self._lack_of_time(trial, report.epoch),
            )
        )

    @property
    def _costs(self) -> dict[str, None]:
        """Metrics besides the score that decide on something, in order."""
        sweep = self.space.sweep
        further = [objective.key for objective in sweep.objectives[1:]]
        return dict.fromkeys([*further, *sweep.bounds])

    def _verdict(
        self, trial: Trial, epoch: int, value: float, costs: Mapping[str, float]
    ) -> Stop | None:
        """Return why a trial ends with an epoch, ``None`` if it goes on."""
        sweep = self.space.sweep
        if not trial.is_control and any(v > 0 for v in excess(costs, sweep.bounds).values()):
            return Stop.CONSTRAINT
        if epoch >= trial.epochs:
            return Stop.COMPLETE
        if trial.is_control:
            partners = [t for t in self.sweep.cohort(trial.number) if t.control == trial.number]
            if not partners or not all(t.state.is_final for t in partners):
                return None
            if epoch < max(t.epoch for t in partners):  # it is trained again, after these
                return None
            # Nobody is left whom it could be compared with at a later epoch.
            was_stopped = any(t.state is State.STOPPED for t in partners)
            return Stop.EARLY if was_stopped else Stop.UNNEEDED
        further = [costs[objective.key] for objective in sweep.objectives[1:]]
        rule = sweep.scheduler, self.sweep.rungs, sweep.objectives
        scheduler = make_scheduler(*rule, self._student_of if self._spares_students else None)
        is_weak = scheduler.should_stop(trial.number, epoch, value, further)
        return Stop.EARLY if is_weak else None

    def _lack_of_time(self, trial: Trial, epoch: int) -> Stop | None:
        return Stop.HOURS if self._deadline.ends(trial, epoch, self._clock()) else None

    def _student_of(self, trial: int) -> str:
        return self.sweep.trials[trial].student

    def _fail(
        self,
        attempt: Attempt,
        failure: str,
        message: str,
        traceback: str = "",
        machine: str | None = None,
    ) -> None:
        """The whole attempt has failed, whoever's fault it was."""
        failed = self.remaining(attempt)
        cohort = self.sweep.cohort(attempt.cohort)
        retry, changes = False, {}
        given_up: list[Trial] = []
        train = self.sweep.job_to_run(failed[0].number)["train"]
        if failure == Failure.CRASH:
            retry = max(t.num_crashes for t in cohort) < self.space.sweep.crash_retries
        elif failure == Failure.LOST:
            retry = max(t.num_lost for t in cohort) < LOST_RETRIES
        elif failure == Failure.HANG:
            retry = not any(t.num_hangs for t in cohort)
        elif (
            failure == Failure.OOM
            and not any(t.num_ooms for t in cohort)
            and train["batch_size"] > 1
        ):
            # The optimiser still sees the gradient of about as many frames per step.
            half = {"batch_size": train["batch_size"] // 2, "accumulate": train["accumulate"] * 2}
            # Losses that compare the images of a batch cannot go on with single ones.
            retry = all(_is_valid({**t.job, "train": {**t.job["train"], **half}}) for t in failed)
            changes = half if retry else {}
        if failure == Failure.OOM and not retry:
            given_up = _drawn_last(failed)
            retry = len(given_up) < len(failed)
        del self._active[attempt.cohort]
        # The first line says it whole; the log is one and the same. Who is given up comes first: a
        # driver that dies in between finds the others interrupted.
        for trial in sorted(failed, key=lambda trial: trial not in given_up):
            said = failure, message, traceback
            again = retry and trial not in given_up
            more: dict[str, Any] = {"retry": again, "changes": changes, "machine": machine}
            self._emit(self._failure(attempt, trial.number, *said, **more))
            traceback = ""
        for trial in failed:
            if trial.state.is_final:
                self._drop_checkpoints(trial)

    def _failure(
        self,
        attempt: Attempt,
        number: int,
        failure: str,
        message: str,
        traceback: str = "",
        *,
        retry: bool = False,
        changes: Mapping[str, Any] | None = None,
        machine: str | None = None,
    ) -> FailEvent:
        return FailEvent(
            trial=number,
            attempt=attempt.attempt,
            failure=failure,
            message=message,
            traceback=traceback,
            retry=retry,
            job=dict(changes or {}),
            machine=machine or self.sweep.trials[number].machine,
        )

    # -- writing ---------------------------------------------------------------------------------

    def _header(self, data: Mapping[str, Any]) -> SweepEvent:
        return first_line(
            self.space,
            data,
            num_trials=self._num_points,
            num_shared=self._drawing.num_shared,
            students_per_teacher=self._students_per_teacher,
            static_costs=self._static_costs,
            equal_time=self._equal_time,
            hours={} if self._hours is None else self._hours.to_header(self._clock()),
        )

    def _emit(self, event: Event) -> None:
        written = self._ledger.append(event)
        self._take_in(written)
        for listener in self.listeners:
            listener.event(self.sweep, written)

    def _take_in(self, event: Event) -> None:
        self.sweep.apply(event)
        self.study.apply(event)
        self._deadline.pace.apply(event)

    def _drop_checkpoints(self, trial: Trial) -> None:
        """Delete what a trial that has ended would have resumed from; its best student stays."""
        for folder in leftovers(self.experiment, self.sweep, trial):
            self._cleaner.submit(remove, folder)


def _drawn_last(cohort: Sequence[Trial]) -> list[Trial]:
    """The trial of a cohort that was drawn last, and its control where it has one of its own."""
    last = max(cohort, key=lambda trial: (not trial.is_control, trial.number))
    others = {trial.control for trial in cohort if trial is not last}
    own = last.control not in others
    return [t for t in cohort if t is last or (t.number == last.control and own)]


def leftovers(experiment: Experiment, sweep: Sweep, trial: Trial) -> list[Path]:
    """Return what there still is of a trial's checkpoints and drafts, of one that has ended.

    What its cohort shares is left over when the last of it has ended. Nothing that a link leads to
    is named: it may lie in another experiment.
    """
    assert trial.state.is_final, trial.state
    own = experiment.trial(trial.number)
    folders = [own.checkpoint, *own.drafts()]
    if all(t.state.is_final for t in sweep.cohort(trial.number)):
        folders.append(experiment.trial(trial.cohort).cohort)
    return [folder for folder in folders if folder.exists() and is_inside(folder, experiment.path)]


def _is_valid(job: Mapping[str, Any]) -> bool:
    try:
        Job.model_validate_json(json.dumps(job))
    except ValidationError:
        return False
    return True
