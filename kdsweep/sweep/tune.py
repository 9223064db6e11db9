"""Thin adapters between Ray Tune and the driver of a sweep.

Tune schedules: it places trials on the machines, reuses their workers and tells who died. What to
run and when to stop it is the driver's decision, and what there is to remember is in the ledger;
nothing that Tune saves is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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
    with_resources,
)
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from kdsweep.sweep.driver import Attempt, Driver
from kdsweep.sweep.trainable import KdsweepTrial


class LeaveSweepError(BaseException):
    """Leaves Tune's loop at once.

    Not an ``Exception``: Tune would answer those with 10 to 15 seconds of tidying up.
    """


class Link:
    """What the adapters share: the driver, and which Tune trial runs which attempt.

    Tune pickles its parts into a snapshot that nobody reads; a copy of a link is the link itself,
    and its pickle is empty.

    Args:
        driver: The driver.
        runner: Module that holds ``run_job``.
        on_step: Called about ten times a second, from Tune's loop.
    """

    def __init__(self, driver: Driver, runner: str, on_step: Callable[[], None]) -> None:
        self.driver = driver
        self.runner = runner
        self.on_step = on_step
        self.attempts: dict[str, Attempt] = {}

    def __deepcopy__(self, _: dict[int, Any]) -> Link:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return dict, ()


class SweepSearcher(Searcher):
    """Hands out the driver's attempts as Tune trials."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next attempt's configuration; ``None`` for later, ``FINISHED`` for never."""
        driver = self._link.driver
        attempt = driver.next_attempt()
        if attempt is None:
            return Searcher.FINISHED if driver.is_finished else None
        self._link.attempts[trial_id] = attempt
        payload = {
            "title": attempt.title,
            "attempt": attempt.attempt,
            "folder": attempt.folder,
            "job": attempt.job,
            "runner": self._link.runner,
            "device": driver.plan.device,
            "num_threads": driver.plan.cpus_per_trial,
            "metric": driver.space.sweep.metric,
        }
        # One text instead of a tree: Tune flattens and copies configurations with each result.
        return {"payload": json.dumps(payload)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the driver knows already. Tune requires the method."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds all there is to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: Tune's snapshots are never read."""


class SweepScheduler(FIFOScheduler):
    """Asks the driver about each result, and tells it of failures."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Stop or continue. This is where the ledger's line is written.

        Tune calls the scheduler before everything else, so nothing acts on a result before the
        line with the decision is on the disk.
        """
        attempt = self._link.attempts[trial.trial_id]
        stop = self._link.driver.reported(attempt, json.loads(result["payload"]))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, controller: Any, trial: TuneTrial) -> None:
        """A worker died, or failed outside of the training."""
        attempt = self._link.attempts[trial.trial_id]
        failure, message = _cause(trial)
        self._link.driver.crashed(attempt, failure, message)


class SweepCallback(Callback):
    """Tells the driver when an attempt starts, and gives it a turn in Tune's loop."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """A worker begins with an attempt."""
        self._link.driver.started(self._link.attempts[trial.trial_id])

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Look for trials that Tune has given up without a word, then take a turn."""
        self._find_lost(trials)
        self._link.on_step()

    def _find_lost(self, trials: list[TuneTrial]) -> None:
        # A worker that cannot be reset fails its next trial, and Tune tells nobody of that.
        # Only the youngest trials can be alive: the list keeps every trial of the session.
        driver = self._link.driver
        for trial in trials[-4 * driver.plan.slots :]:
            attempt = self._link.attempts.get(trial.trial_id)
            if trial.status == TuneTrial.ERROR and attempt and driver.is_active(attempt):
                failure, message = _cause(trial)
                driver.crashed(attempt, failure, message)


def run_tune(driver: Driver, scratch: Path, on_step: Callable[[], None], *, runner: str) -> None:
    """Run the driver's attempts until it has no more, in the Ray that is initialised.

    Args:
        driver: The driver.
        scratch: Folder for what Tune insists on writing; on shared storage if there are several
            machines.
        on_step: Called about ten times a second. May raise :class:`LeaveSweepError`.
        runner: Module that holds ``run_job``.
    """
    link = Link(driver, runner, on_step)
    resources = {"CPU": driver.plan.cpus_per_trial, "GPU": driver.plan.gpus_per_trial}
    tuner = Tuner(
        with_resources(KdsweepTrial, {k: v for k, v in resources.items() if v}),
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
    tuner.fit()


def _cause(trial: TuneTrial) -> tuple[str, str]:
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
        return "oom", text
    if isinstance(error, RayActorError):
        return "crash", text
    return "error", text
