"""The driver of a sweep: what to run next, and what a result means. Without Ray.

Every decision becomes one line of the ledger before it is acted upon, and reaches the state only
through that line (see :mod:`kdsweep.sweep.state`).
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from kdsweep.spec import Draw, Space, control_key
from kdsweep.store import Event, Experiment, Ledger
from kdsweep.sweep.resources import Plan
from kdsweep.sweep.state import Sweep, Trial
from kdsweep.sweep.study import Study
from kdsweep.training.report import EpochReport

# An error leaves the process in a state that nobody knows, so the next trial gets a new one.
CLEAN_FAILURES = ("oom", "nan")


class Listener(Protocol):
    """Something that wants to know of each event after it was taken into the state."""

    def event(self, sweep: Sweep, event: Event) -> None:
        """Take notice of an event."""


@dataclass(frozen=True)
class Attempt:
    """One try to run a trial, as it is handed to a worker.

    Attributes:
        trial: Number of the trial.
        attempt: From 1.
        title: Name for the dashboard: ``0007 resnet34→resnet18``.
        job: The job to run as JSON.
        folder: The trial's folder.
    """

    trial: int
    attempt: int
    title: str
    job: dict[str, Any]
    folder: str


class Driver:
    """Runs one session of a sweep: hands out attempts, judges results, keeps budgets.

    Args:
        space: The search space.
        experiment: Its folder.
        ledger: Open for writing; what it holds already is taken in first.
        plan: The resources of this session.
        max_hours: Wall-clock budget over all sessions.
        max_gpu_hours: Budget of GPU-hours over all sessions.
        clock: Source of Unix time.

    Attributes:
        sweep: The state.
        study: The sampler's history.
        listeners: Told of each event of this session.
        pausing: Reason why no further attempts are handed out and running ones stop at their next
            report.
    """

    def __init__(
        self,
        space: Space,
        experiment: Experiment,
        ledger: Ledger,
        plan: Plan,
        *,
        max_hours: float | None = None,
        max_gpu_hours: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.space = space
        self.experiment = experiment
        self.plan = plan
        self.sweep = Sweep()
        self.study = Study(space)
        self.pausing: str | None = None
        self._ledger = ledger
        self.listeners: list[Listener] = []
        self._max_hours = max_hours
        self._max_gpu_hours = max_gpu_hours
        self._clock = clock
        self._active: dict[int, Attempt] = {}
        controls = space.controls() if space.sweep.controls == "shared" else []
        self._controls = {control_key(job): (number, job) for number, job in enumerate(controls)}
        # Old checkpoints are deleted in the background: a big folder takes longer than a decision.
        self._cleaner = ThreadPoolExecutor(1, "kdsweep-cleaner")
        for event in ledger.events:
            self.sweep.apply(event)
            self.study.apply(event)

    # -- the session -----------------------------------------------------------------------------

    def begin(self, command: str, data: dict[str, Any]) -> None:
        """Write the lines that open the sweep, if it is new, and this session.

        Args:
            command: The command line, for the record.
            data: What is known of the data, for reports.
        """
        if not self.sweep.header:
            self._write_header(data)
        for number, job in self._controls.values():
            # All of them here, but for those that a driver killed in between has written.
            if number not in self.sweep.trials:
                self._emit(self._trial_event(number, "control", Draw({}, {}, job)))
        self._emit(
            {
                "event": "session",
                "session": len(self.sweep.sessions) + 1,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "slots": self.plan.slots,
                "gpus_per_trial": self.plan.gpus_per_trial,
                "cpus_per_trial": self.plan.cpus_per_trial,
                "command": command,
            }
        )
        for trial in self.sweep.trials.values():
            if trial.state.is_final:
                self._drop_checkpoint(trial)

    def end(self) -> None:
        """Write the line that closes this session, and finish what runs in the background."""
        if not self.sweep.has_work:
            self._emit({"event": "done"})
        elif self.pausing is not None:
            self._emit({"event": "pause", "reason": self.pausing})
        self._cleaner.shutdown(wait=True)

    def pause(self, reason: str) -> None:
        """Hand out nothing more; the first reason stays."""
        if self.pausing is None:
            self.pausing = reason

    def check_budgets(self) -> None:
        """Pause if a budget is used up."""
        now = self._clock()
        if self._max_hours is not None and self.sweep.hours(now) >= self._max_hours:
            self.pause("max_hours")
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
        """Whether an attempt was handed out and has not ended."""
        return self._active.get(attempt.trial) is attempt

    def next_attempt(self) -> Attempt | None:
        """The next attempt, or ``None`` while there is none: all slots taken, or pausing."""
        if self.pausing is not None or self.num_active >= self.plan.slots:
            return None
        trial = self.sweep.next_waiting(except_for=self._active)
        if trial is None and self.sweep.num_undrawn > 0:
            trial = self._draw_trial()
        if trial is None:
            return None
        attempt = Attempt(
            trial=trial.number,
            attempt=trial.attempt + 1,
            title=f"{trial.number:04d} {trial.label}",
            job=trial.job_to_run,
            folder=str(self.experiment.trial(trial.number).path),
        )
        self._active[trial.number] = attempt
        return attempt

    def started(self, attempt: Attempt) -> None:
        """A worker begins with an attempt."""
        trial = self.sweep.trials[attempt.trial]
        self._emit(
            {
                "event": "start",
                "trial": trial.number,
                "attempt": attempt.attempt,
                "epoch": trial.epoch,
            }
        )

    def reported(self, attempt: Attempt, result: dict[str, Any]) -> bool:
        """Judge what a worker sent: ``{"report": …}``, ``{"failed": …}`` or ``{"ended": true}``.

        Returns:
            Whether the attempt stops here.
        """
        if not self.is_active(attempt):
            return True
        trial = self.sweep.trials[attempt.trial]
        if "failed" in result:
            failed = result["failed"]
            self._fail(attempt, failed["class"], failed["message"], failed["traceback"])
            return failed["class"] in CLEAN_FAILURES
        if "ended" in result:
            self._fail(
                attempt, "error", f"training ended after {trial.epoch} of {trial.epochs} epochs"
            )
            return True
        report = EpochReport.from_json(result["report"])
        # A resumed trial reports its checkpoint's epoch again, in case that line was lost.
        if report.epoch > trial.epoch:
            self._judge(attempt, trial, report)
        if self.is_active(attempt) and self.pausing is None:
            return False
        self._active.pop(attempt.trial, None)
        return True

    def crashed(self, attempt: Attempt, failure: str, message: str, traceback: str = "") -> None:
        """A worker died, or failed outside of the training.

        While the sweep pauses this is no failure: the trial goes on after the pause.
        """
        if not self.is_active(attempt):
            return
        if self.pausing is not None:
            del self._active[attempt.trial]
            return
        self._fail(attempt, failure, message, traceback)

    # -- decisions -------------------------------------------------------------------------------

    def _judge(self, attempt: Attempt, trial: Trial, report: EpochReport) -> None:
        metric = self.space.sweep.metric
        if metric not in report.metrics:
            known = ", ".join(sorted(report.metrics))
            self._fail(attempt, "error", f"no metric {metric!r} in the report; it has {known}")
            return
        value = report.metrics[metric]
        if not math.isfinite(value):
            self._fail(attempt, "nan", f"{metric} is {value} after epoch {report.epoch}")
            return
        stop = None
        if report.epoch >= trial.epochs:
            stop = "complete"
        elif (
            self.space.sweep.scheduler == "asha"
            and not trial.is_control
            and self.sweep.asha.should_stop(trial.number, report.epoch, value)
        ):
            stop = "asha"
        plain = report.to_json()
        self._emit(
            {
                "event": "epoch",
                "trial": trial.number,
                "attempt": attempt.attempt,
                "epoch": report.epoch,
                "value": value,
                "metrics": plain["metrics"],
                "classes": plain["classes"],
                "seconds": plain["seconds"],
                "stop": stop,
            }
        )
        if stop is not None:
            del self._active[trial.number]
            self._drop_checkpoint(trial)

    def _fail(self, attempt: Attempt, failure: str, message: str, traceback: str = "") -> None:
        trial = self.sweep.trials[attempt.trial]
        event: Event = {
            "event": "fail",
            "trial": trial.number,
            "attempt": attempt.attempt,
            "class": failure,
            "message": message,
            "traceback": traceback,
            "retry": False,
        }
        train = trial.job_to_run["train"]
        if failure == "crash":
            event["retry"] = trial.num_crashes < self.space.sweep.crash_retries
        elif failure == "oom" and trial.num_ooms == 0 and train["batch_size"] > 1:
            event["retry"] = True
            # The optimiser still sees the gradient of about as many frames per step.
            event["job"] = {
                "batch_size": train["batch_size"] // 2,
                "accumulate": train["accumulate"] * 2,
            }
        del self._active[attempt.trial]
        self._emit(event)
        if trial.state.is_final:
            self._drop_checkpoint(trial)

    def _draw_trial(self) -> Trial:
        number = len(self.sweep.trials)
        draw = self.study.ask(number)
        self._emit(self._trial_event(number, "search", draw))
        return self.sweep.trials[number]

    # -- writing ---------------------------------------------------------------------------------

    def _write_header(self, data: dict[str, Any]) -> None:
        sweep = self.space.sweep
        num_points = self.space.num_points()
        self._emit(
            {
                "event": "sweep",
                "schema": 1,
                "name": self.space.name,
                "metric": sweep.metric,
                "mode": "max",
                "sampler": sweep.sampler,
                "scheduler": sweep.scheduler,
                "grace_period": sweep.grace_period,
                "reduction_factor": sweep.reduction_factor,
                "epochs": max(job.train.epochs for job in self.space.corners()),
                "seed": sweep.seed,
                "trials": sweep.trials if num_points is None else min(sweep.trials, num_points),
                "num_controls": len(self._controls),
                "data": data,
            }
        )

    def _trial_event(self, number: int, kind: str, draw: Draw) -> Event:
        job = draw.job
        control = None
        if kind == "search":
            control = self._controls.get(control_key(job), (None,))[0]
        return {
            "event": "trial",
            "trial": number,
            "kind": kind,
            "label": job.label,
            "student": job.student.label,
            "teacher": None if job.teacher is None else job.teacher.label,
            "params": draw.params,
            # What the parameters came to, for people to read.
            "values": draw.values,
            "job": job.model_dump(mode="json"),
            "control": control,
        }

    def _emit(self, event: Event) -> None:
        written = self._ledger.append(event)
        self.sweep.apply(written)
        self.study.apply(written)
        for listener in self.listeners:
            listener.event(self.sweep, written)

    def _drop_checkpoint(self, trial: Trial) -> None:
        """Delete what a trial that has ended would have resumed from; its best student stays."""
        assert trial.state.is_final, trial.state
        folder = self.experiment.trial(trial.number).checkpoint
        if folder.exists():
            self._cleaner.submit(shutil.rmtree, folder, ignore_errors=True)
