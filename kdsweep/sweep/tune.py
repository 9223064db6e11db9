"""Thin adapters between Ray Tune and the driver of a sweep.

Tune schedules: it places trials on the machines, reuses their workers and tells who died. What to
run and when to stop it is the driver's decision, and what there is to remember is in the ledger;
nothing that Tune saves is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import (
    Callback,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    TuneConfig,
    Tuner,
)
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    remove_placement_group,
)

from kdsweep.ledger.events import Failure
from kdsweep.sweep import verdicts
from kdsweep.sweep.driver import Attempt, Driver
from kdsweep.sweep.prelude import Errand, Prelude
from kdsweep.sweep.resources import Plan
from kdsweep.sweep.trainable import KdsweepTrial


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
        prelude: What workers do before the first trial.
        begin: Makes the driver, once the prelude says that everything is in order.
        on_step: Called about ten times a second, from Tune's loop. May raise
            :class:`LeaveSweepError`.

    Attributes:
        driver: The driver; ``None`` before there is one.
        running: What each Tune trial runs.
        error: What went wrong in this process.
    """

    def __init__(
        self,
        plan: Plan,
        runner: str,
        prelude: Prelude,
        begin: Callable[[dict[str, Any]], Driver],
        on_step: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.runner = runner
        self.prelude = prelude
        self.begin = begin
        self.on_step = on_step
        self.driver: Driver | None = None
        self.running: dict[str, Attempt | Errand] = {}
        self.error: Exception | None = None
        self._signs: dict[str, PlacementGroup] = {}

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
        """What the next Tune trial is to do; ``None`` if there is nothing at the moment."""
        payload: dict[str, Any] = {
            "runner": self.runner,
            "cpus": self.plan.cpus_per_trial,
            "gpus": self.plan.gpus_per_trial,
        }
        errand = self.prelude.next_errand()
        if errand is not None:
            self.running[trial_id] = errand
            return {
                **payload,
                "kind": "errand",
                "title": f"kdsweep worker {errand.slot}",
                "jobs": errand.jobs,
                "measure": self._resources if errand.measure else None,
                "students": errand.students,
                "num_heads": errand.num_heads,
            }
        attempt = self.driver.next_attempt() if self.driver is not None else None
        if attempt is None:
            return None
        assert self.driver is not None
        self.running[trial_id] = attempt
        return {
            **payload,
            "kind": "trial",
            "title": attempt.title,
            "attempt": attempt.attempt,
            "verdicts": _verdict_key(attempt),
            "home": attempt.home,
            "trials": [task.trial for task in attempt.tasks],
            "folders": [task.folder for task in attempt.tasks],
            "jobs": [task.job for task in attempt.tasks],
            "device": self.plan.device,
            "metric": self.driver.space.sweep.score,
            "score_test": self.driver.space.score_test,
        }

    @property
    def _resources(self) -> dict[str, Any]:
        """What a trial has to train with, as ``measure`` of a runner takes it."""
        gpus = self.plan.gpus_per_trial
        return {
            "device": self.plan.device,
            "num_threads": self.plan.cpus_per_trial,
            "share": min(1.0, gpus) if gpus else 1.0 / self.plan.slots,
        }

    def started(self, trial_id: str) -> None:
        """A worker begins with a Tune trial."""
        what = self.running[trial_id]
        if isinstance(what, Errand):
            self.prelude.started(what)
        else:
            assert self.driver is not None
            self.driver.started(what)
            self._signs[trial_id] = put_up_sign(what.title)

    def reported(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a Tune trial stops after a result."""
        what = self.running[trial_id]
        if isinstance(what, Attempt):
            assert self.driver is not None
            stop = self.driver.reported(what, result)
            if stop:
                self._take_sign_down(trial_id)
            elif "reports" in result and len(what.tasks) > 1:
                remaining = {trial.number for trial in self.driver.remaining(what)}
                stopped = {task.trial for task in what.tasks} - remaining
                verdicts.publish(_verdict_key(what), result["epoch"], stopped)
            return stop
        stop = self.prelude.reported(what, result)
        if self.prelude.error is not None:
            raise self.prelude.error
        if self.prelude.data is not None and self.driver is None:
            self.driver = self.begin(self.prelude.data)
        return stop

    def crashed(self, trial: TuneTrial) -> None:
        """A Tune trial ended with an error; telling of it twice does no harm."""
        what = self.running.get(trial.trial_id)
        self._take_sign_down(trial.trial_id)
        if isinstance(what, Attempt) and self.driver is not None and self.driver.is_active(what):
            self.driver.crashed(what, *_cause(trial))
        elif isinstance(what, Errand):
            del self.running[trial.trial_id]
            self.prelude.crashed(what, _cause(trial)[1])
            if self.prelude.error is not None:
                raise self.prelude.error

    def forget(self, trial: TuneTrial) -> None:
        """Let go of what is kept of a Tune trial that has ended."""
        self.running.pop(trial.trial_id, None)
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()

    def _take_sign_down(self, trial_id: str) -> None:
        what = self.running.get(trial_id)
        if isinstance(what, Attempt) and len(what.tasks) > 1:
            verdicts.forget(_verdict_key(what))
        sign = self._signs.pop(trial_id, None)
        if sign is not None:
            remove_placement_group(sign)

    def __deepcopy__(self, _: dict[int, Any]) -> Link:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return dict, ()


class SweepSearcher(Searcher):
    """Hands out errands and attempts as Tune trials."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of the next Tune trial; ``None`` for later, ``FINISHED`` for never."""
        with self._link.guarded():
            payload = self._link.next_payload(trial_id)
        if payload is not None:
            # One text instead of a tree: Tune flattens and copies configurations all the time.
            return {"payload": json.dumps(payload)}
        driver = self._link.driver
        return Searcher.FINISHED if driver is not None and driver.is_finished else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the driver knows already. Tune requires the method."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds all there is to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: Tune's snapshots are never read."""


class SweepScheduler(FIFOScheduler):
    """Asks about each result, and passes failures on."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Stop or continue. This is where the ledger's line is written.

        Tune calls the scheduler before everything else, so nothing acts on a result before the
        line with the decision is on the disk.
        """
        with self._link.guarded():
            told = json.loads(result["payload"])
            if "failed" in told:
                self._link.on_step()  # as below
            stop = self._link.reported(trial.trial_id, told)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, controller: Any, trial: TuneTrial) -> None:
        """A worker died, or failed outside of the training."""
        with self._link.guarded():
            # A signal to the whole process group kills workers too: take notice of it first, and
            # their end is no crash.
            self._link.on_step()
            self._link.crashed(trial)


class SweepCallback(Callback):
    """Tells when a Tune trial starts, and gives the sweep a turn in Tune's loop."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """A worker begins with a Tune trial."""
        with self._link.guarded():
            self._link.started(trial.trial_id)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Forget a trial; Tune keeps it, with statistics of every number that it ever sent."""
        with self._link.guarded():
            self._link.forget(trial)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Look for trials that Tune has given up without a word, then take a turn."""
        # A worker that cannot be reset fails its next trial, and Tune tells nobody of that. Only
        # the youngest trials can be alive: the list keeps every trial of the session.
        with self._link.guarded():
            for trial in trials[-4 * self._link.plan.slots :]:
                if trial.status == TuneTrial.ERROR:
                    self._link.crashed(trial)
            self._link.on_step()


def run_tune(link: Link, scratch: Path) -> None:
    """Run errands and attempts until there are no more, in the Ray that is initialised.

    Args:
        link: What to run.
        scratch: Folder for what Tune insists on writing; on shared storage if there are several
            machines.

    Raises:
        KdsweepError: Nothing could start, or the sweep cannot go on.
    """
    tuner = Tuner(
        KdsweepTrial,
        tune_config=TuneConfig(
            num_samples=-1,
            search_alg=SweepSearcher(link),
            scheduler=SweepScheduler(link),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[SweepCallback(link)],
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    except LeaveSweepError:
        if link.error is not None:
            raise link.error from None


def put_up_sign(title: str) -> PlacementGroup:
    """Show the name of a running trial in Ray's dashboard and in ``ray list placement-groups``.

    Ray shows an actor for ever by the name it was created under, and a worker serves many trials.
    A placement group takes a name, costs two milliseconds, and one byte of memory here.
    """
    return placement_group([{"memory": 1}], name=title)


def _verdict_key(attempt: Attempt) -> str:
    return f"{attempt.home} attempt {attempt.attempt}"


def _cause(trial: TuneTrial) -> tuple[Failure, str]:
    """Class and message of what ended a Tune trial.

    Tune's own ``get_error()`` is empty until later; the pickle was written by this process.
    """
    path = trial.pickled_error_file
    error: Exception | None = None
    if path is not None and Path(path).exists():
        with open(path, "rb") as file:
            error = ray.cloudpickle.load(file)
    text = str(error) if error is not None else "the worker could not be used again"
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return Failure.OOM, text
    if isinstance(error, RayActorError):
        return Failure.CRASH, text
    return Failure.ERROR, text
