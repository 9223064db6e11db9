"""Thin adapters between Ray Tune and the driver of a sweep.

Tune decides where a trial runs: it places trials on the machines by their resources, starts their
workers, keeps these for later trials and tells who died. The driver decides everything else: what
to run next, when to stop it, what to try again, when to pause; and what there is to remember is in
the ledger. Nothing that Tune saves is ever read.

So Tune's searcher only passes on what the driver hands out, its scheduler asks the driver about
each result, and its callback gives the sweep a turn in Tune's loop. What a worker does before its
first trial is handed out the same way (see :mod:`kdsweep.sweep.ray.preflight` for why).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

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

from kdsweep.sweep.ray import bridge
from kdsweep.sweep.ray.link import LeaveSweepError, Link
from kdsweep.sweep.ray.worker import KdsweepTrial


class SweepSearcher(Searcher):
    """Hands out preflight tasks and attempts as Tune trials."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return what the next Tune trial runs; ``None`` for later, ``FINISHED`` for never."""
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
        """Do nothing: the driver knows already. Tune requires the method."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger holds all there is to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: Tune's snapshots are never read."""


class SweepScheduler(FIFOScheduler):
    """Asks about each result, and passes failures on."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Return stop or continue. This is where the ledger's line is written.

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
        """Take in that a worker died, or failed outside of the training."""
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
        """Take note that a worker begins with a Tune trial."""
        with self._link.guarded():
            self._link.started(trial)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Forget a trial; Tune keeps it, with statistics of every number that it ever sent."""
        with self._link.guarded():
            self._link.forget(trial)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Look for trials that Tune is silent about, then take a turn."""
        # A worker that cannot be reset fails its next trial, and Tune tells nobody of that. Only
        # the youngest trials can be alive: the list keeps every trial of the session.
        with self._link.guarded():
            for trial in trials[-4 * self._link.plan.slots :]:
                if trial.status == TuneTrial.ERROR:
                    self._link.crashed(trial)
                elif bridge.is_taken_over(trial):
                    self._link.taken_over(trial)
            self._link.on_step()


def run_tune(link: Link, scratch: Path) -> None:
    """Run preflight tasks and attempts until there are no more, in the Ray that is initialised.

    Args:
        link: What to run.
        scratch: Folder for what Tune insists on writing; on shared storage if there are several
            machines.

    Raises:
        KdsweepError: Nothing could start, or the sweep cannot go on.
    """
    # No more trials are made ahead of the machines than can run.
    pending = {bridge.MAX_PENDING: str(link.plan.slots)}
    try:
        with (
            bridge.environment(**pending),
            bridge.uncounted(),
            bridge.going_on_without_memory(),
            bridge.keeping_keys(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            _make_tuner(link, scratch).fit()
    except LeaveSweepError:
        if link.error is not None:
            raise link.error from None


def _make_tuner(link: Link, scratch: Path) -> Tuner:
    return Tuner(
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
