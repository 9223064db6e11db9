"""Between Tune's adapters and the driver: what each Tune trial runs, and who hears how it went."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.experiment import Trial as TuneTrial
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    remove_placement_group,
)

from kdsweep.ledger.events import Failure
from kdsweep.pulse import Beat
from kdsweep.sweep.attempt import Attempt
from kdsweep.sweep.driver import Driver
from kdsweep.sweep.heartbeat import Pace, Watch
from kdsweep.sweep.ray import bridge, heartbeat, stop_signal
from kdsweep.sweep.ray.kernel_kills import KILLED, KernelKills
from kdsweep.sweep.ray.preflight import Preflight, PreflightTask
from kdsweep.sweep.resources import Plan

if TYPE_CHECKING:
    from kdsweep.sweep.ray.delivery import Way


class LeaveSweepError(BaseException):
    """Leaves Tune's loop at once.

    Not an ``Exception``: Tune would answer those with 10 to 15 seconds of tidying up.
    """


class Link:
    """What the adapters share: who decides, and which Tune trial runs what.

    Tune pickles its parts into a snapshot that nobody reads; a copy of a link is the link itself,
    and its pickle is empty.

    Args:
        plan: Resources of each trial.
        runner: Module that holds ``run_jobs``.
        preflight: What workers do before the first trial.
        begin: Makes the driver, once the preflight has found everything in order.
        on_step: Called about ten times a second, from Tune's loop. May raise
            :class:`LeaveSweepError`.
        way: Gives the way to the experiment's folder, once there is one.
        avoided: Gives the ids of machines that get no trial.
        leave_out: Told the id of a machine that is to get no more, and why; returns whether that
            was possible.

    Attributes:
        driver: The driver; ``None`` before there is one.
        running: What each Tune trial runs.
        watch: Follows how far attempts are; ``None`` before there is a driver.
        error: What went wrong in this process.
    """

    def __init__(
        self,
        plan: Plan,
        runner: str,
        preflight: Preflight,
        begin: Callable[[dict[str, Any]], Driver],
        on_step: Callable[[], None],
        way: Callable[[], Way | None] = lambda: None,
        avoided: Callable[[], list[str]] = list,
        leave_out: Callable[[str, str], bool] = lambda node, problem: False,
    ) -> None:
        self.plan = plan
        self.runner = runner
        self.preflight = preflight
        self.begin = begin
        self.on_step = on_step
        self._way = way
        self._avoided = avoided
        self._leave_out = leave_out
        self.driver: Driver | None = None
        self.watch: Watch | None = None
        self.running: dict[str, Attempt | PreflightTask] = {}
        self.error: Exception | None = None
        self._signs: dict[str, PlacementGroup] = {}
        self._trials: dict[str, TuneTrial] = {}
        self._heartbeats: dict[str, str] = {}
        self._next_look = 0.0
        self._kernel_kills = KernelKills()
        self._preparing: Beat | None = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Leave Tune's loop with an error of ours as it is.

        Tune would turn it into text, and tidy up for a quarter of a minute before it says so.
        """
        try:
            yield
        except Exception as error:
            self.error = error
            raise LeaveSweepError from error

    def next_payload(self, trial_id: str) -> dict[str, Any] | None:
        """Return what the next Tune trial is to do; ``None`` if there is nothing at the moment."""
        payload: dict[str, Any] = {
            "runner": self.runner,
            "cpus": self.plan.cpus_per_trial,
            "gpus": self.plan.gpus_per_trial,
            "avoided": self._avoided(),
        }
        task = self.preflight.next_task()
        if task is not None:
            self.running[trial_id] = task
            self._heartbeats[trial_id] = f"heartbeat {secrets.token_hex(8)}"
            return {
                **payload,
                "kind": "preflight",
                "title": f"kdsweep worker {task.slot}",
                "heartbeat": self._heartbeats[trial_id],
                "jobs": task.jobs,
                "measure": None
                if task.measure is None
                else {**self._resources, "each": task.measure == "each"},
                "students": task.students,
                "num_heads": task.num_heads,
                "teachers": None
                if task.teachers is None
                else {"device": self.plan.device, "known": task.teachers},
            }
        attempt = self.driver.next_attempt() if self.driver is not None else None
        if attempt is None:
            return None
        assert self.driver is not None
        self.running[trial_id] = attempt
        # Nobody else's: a killed driver may have handed out an attempt of this number.
        fence = f"{attempt.attempt}-{secrets.token_hex(4)}"
        self._heartbeats[trial_id] = f"{attempt.cohort_dir} heartbeat {fence}"
        return {
            **payload,
            "kind": "trial",
            "title": attempt.title,
            "attempt": attempt.attempt,
            "stop_signal": _signal_key(attempt),
            "fence": fence,
            "heartbeat": self._heartbeats[trial_id],
            "way": None if (way := self._way()) is None else way.to_json(),
            "cohort_dir": attempt.cohort_dir,
            "trials": [task.trial for task in attempt.tasks],
            "folders": [task.folder for task in attempt.tasks],
            "jobs": [task.job for task in attempt.tasks],
            "device": self.plan.device,
            "metric": self.driver.space.sweep.score,
            "score_test": self.driver.space.score_test,
            "miou_over": self.driver.sweep.miou_over,
        }

    @property
    def _resources(self) -> dict[str, Any]:
        """Return what a trial has to train with, as ``measure`` of a runner takes it."""
        gpus = self.plan.gpus_per_trial
        return {
            "device": self.plan.device,
            "num_threads": self.plan.cpus_per_trial,
            "share": min(1.0, gpus) if gpus else 1.0 / self.plan.slots,
        }

    def started(self, trial: TuneTrial) -> None:
        """Take note that a worker begins with a Tune trial."""
        trial_id = trial.trial_id
        what = self.running[trial_id]
        if isinstance(what, PreflightTask):
            self.preflight.started(what)
        else:
            assert self.driver is not None
            self.driver.started(what)
            self._watch(trial, what)
            self._signs[trial_id] = put_up_sign(what.title)

    def taken_over(self, trial: TuneTrial) -> None:
        """Watch a worker that is used again from when it is asked to leave its last trial."""
        what = self.running.get(trial.trial_id)
        if isinstance(what, Attempt) and trial.trial_id not in self._trials:
            self._watch(trial, what)

    def _watch(self, trial: TuneTrial, attempt: Attempt) -> None:
        assert self.driver is not None
        self._trials[trial.trial_id] = trial
        if self.watch is None:
            self.watch = Watch(self.driver.space.sweep.hang_minutes)
        self.watch.begin(attempt.cohort)

    def reported(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in a result; return whether its Tune trial stops."""
        what = self.running[trial_id]
        if isinstance(what, Attempt):
            assert self.driver is not None
            assert self.watch is not None
            self.watch.reported(what.cohort)
            if "machine" in result:
                self.driver.placed(what, result["machine"], result["gpus"])
                return False
            if self._is_left_out(trial_id, what, result.get("failed", {})):
                return False
            stop = self.driver.reported(what, result)
            if stop:
                self._take_sign_down(trial_id)
            elif "reports" in result and len(what.tasks) > 1:
                remaining = {trial.number for trial in self.driver.remaining(what)}
                stopped = {task.trial for task in what.tasks} - remaining
                stop_signal.publish(_signal_key(what), result["epoch"], stopped)
            return stop
        stop = self.preflight.reported(what, result)
        if self.preflight.error is not None:
            raise self.preflight.error
        if self.preflight.data is not None and self.driver is None:
            self.driver = self.begin(self.preflight.data)
        return stop

    def _is_left_out(self, trial_id: str, attempt: Attempt, failed: dict[str, Any]) -> bool:
        """Where a machine's own disk is full and there are others: let its trials go to these."""
        assert self.driver is not None
        if "node" not in failed or not self._leave_out(failed["node"], failed["disk"][0]):
            return False
        said = failed["disk"][0], failed["traceback"]
        self._end_worker(trial_id, attempt, Failure.LOST, *said)
        return True

    def _end_worker(self, trial_id: str, attempt: Attempt, *said: str, **more: Any) -> None:
        """Take an attempt from its worker, and end that; Tune hears of it as of any other's end."""
        assert self.driver is not None
        self.driver.crashed(attempt, *said, **more)
        self._take_sign_down(trial_id)
        bridge.kill_worker(self._trials[trial_id])

    def crashed(self, trial: TuneTrial) -> None:
        """Take in that a Tune trial ended with an error; telling of it twice does no harm."""
        what = self.running.get(trial.trial_id)
        self._take_sign_down(trial.trial_id)
        if isinstance(what, Attempt) and self.driver is not None and self.driver.is_active(what):
            self.driver.crashed(what, *self._cause(trial))
        elif isinstance(what, PreflightTask):
            del self.running[trial.trial_id]
            self.preflight.crashed(what, self._cause(trial)[1])
            if self.preflight.error is not None:
                raise self.preflight.error

    def look(self) -> None:
        """End the attempts that have come to a standstill; looks at most once a second."""
        driver, watch, now = self.driver, self.watch, time.monotonic()
        if driver is None or watch is None or now < self._next_look:
            return
        self._kernel_kills.look()
        active = {
            what.cohort: trial_id
            for trial_id, what in self.running.items()
            if isinstance(what, Attempt) and driver.is_active(what) and trial_id in self._trials
        }
        # Each sign is a call to the cluster's store: at most a hundred a second.
        self._next_look = now + max(heartbeat.SECONDS, len(active) / 100)
        for cohort, trial_id in active.items():
            watch.heard(cohort, heartbeat.read(self._heartbeats[trial_id]))
        for hang in watch.look(active):
            trial_id = active[hang.cohort]
            attempt = self.running[trial_id]
            assert isinstance(attempt, Attempt)
            said = Failure.HANG, hang.message
            self._end_worker(trial_id, attempt, *said, machine=hang.machine)

    def preparing(self) -> Beat | None:
        """How far the worker is that checks and prepares; ``None`` before it has told."""
        now = time.monotonic()
        if self.driver is None and now >= self._next_look:
            self._next_look = now + heartbeat.SECONDS
            for trial_id, what in self.running.items():
                if isinstance(what, PreflightTask) and what.jobs:
                    sign = heartbeat.read(self._heartbeats[trial_id])
                    self._preparing = None if sign is None else sign.beat
        return self._preparing

    def paces(self) -> dict[int, Pace]:
        """How the attempts get on that have told, by cohort."""
        return {} if self.watch is None else self.watch.paces()

    def forget(self, trial: TuneTrial) -> None:
        """Let go of what is kept of a Tune trial that has ended."""
        self.running.pop(trial.trial_id, None)
        self._trials.pop(trial.trial_id, None)
        if (key := self._heartbeats.pop(trial.trial_id, None)) is not None:
            heartbeat.forget(key)
        bridge.drop_statistics(trial)

    def _cause(self, trial: TuneTrial) -> tuple[Failure, str]:
        """Return class and message of what ended a Tune trial."""
        error = bridge.error_of(trial)
        text = str(error) if error is not None else "the worker could not be used again"
        if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
            first_line, *_ = text.strip().splitlines()  # more is for those who run Ray
            return Failure.OOM, first_line
        if isinstance(error, RayActorError):
            if error.preempted or "its node has died" in text:
                return Failure.LOST, text
            if self._kernel_kills.take():
                return Failure.OOM, KILLED
            return Failure.CRASH, text
        return Failure.ERROR, text

    def _take_sign_down(self, trial_id: str) -> None:
        what = self.running.get(trial_id)
        if isinstance(what, Attempt) and len(what.tasks) > 1:
            stop_signal.forget(_signal_key(what))
        sign = self._signs.pop(trial_id, None)
        if sign is not None:
            remove_placement_group(sign)

    def __deepcopy__(self, _: dict[int, Any]) -> Link:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return dict, ()


def put_up_sign(title: str) -> PlacementGroup:
    """Show the name of a running trial in Ray's dashboard and in ``ray list placement-groups``.

    Ray shows an actor for ever by the name it was created under, and a worker serves many trials.
    A placement group takes a name, costs two milliseconds, and one byte of memory here.
    """
    return placement_group([{"memory": 1}], name=title)


def _signal_key(attempt: Attempt) -> str:
    return f"{attempt.cohort_dir} attempt {attempt.attempt}"
