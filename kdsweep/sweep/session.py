"""One session of a sweep: from starting Ray to the last line of the ledger."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from kdsweep.errors import KdsweepError, SpecError
from kdsweep.spec import Space
from kdsweep.store import Event, Experiment, Ledger
from kdsweep.store.provenance import mask_secrets
from kdsweep.sweep import cluster
from kdsweep.sweep.driver import Driver
from kdsweep.sweep.mirror import StudyMirror
from kdsweep.sweep.outcome import Outcome, make_outcome, resume_command
from kdsweep.sweep.prelude import Prelude
from kdsweep.sweep.progress import Progress
from kdsweep.sweep.resources import Plan, plan
from kdsweep.sweep.signals import Interruption, blocked
from kdsweep.sweep.state import Sweep
from kdsweep.sweep.study import check_sampler

if TYPE_CHECKING:
    from kdsweep.sweep.tune import Link

# How long running trials may take to reach their next report before a pause leaves without it. A
# signal's sender seldom waits long (Docker 10 s, SLURM 30 s); a budget can wait for an epoch.
GRACE_SECONDS = {"sigint": 3.0, "sigterm": 3.0, "max_hours": 600.0, "max_gpu_hours": 600.0}


class SweepSession:
    """One session of a sweep, from checks to the last line.

    Args:
        space: The search space.
        progress: Shows what happens.
        command: The command line, for the record.
        runner: Module that holds ``check_job``, ``prepare`` and ``run_job``.
        address: Ray cluster to join.
        shared: Folder of experiments.
        dashboard: Whether to start Ray's dashboard.
        max_hours: Replaces the space's budget.
        max_gpu_hours: Replaces the space's budget.
    """

    def __init__(
        self,
        space: Space,
        progress: Progress,
        command: Sequence[str],
        runner: str,
        address: str | None,
        shared: Path,
        *,
        dashboard: bool,
        max_hours: float | None = None,
        max_gpu_hours: float | None = None,
    ) -> None:
        self._space = space
        self._progress = progress
        self._command = shlex.join(mask_secrets(command))
        self._runner = runner
        self._address = address
        self._shared = shared
        self._dashboard = dashboard
        self._max_hours = max_hours or space.sweep.max_hours
        self._max_gpu_hours = max_gpu_hours or space.sweep.max_gpu_hours
        self._interruption = Interruption()
        self._deadline: float | None = None

    def run(
        self, open_experiment: Callable[[], Experiment], ledger: Ledger | None = None
    ) -> Outcome:
        """Start Ray, check everything, run trials, stop Ray.

        Args:
            open_experiment: Gives the experiment's folder; called when all checks have passed.
            ledger: The experiment's ledger, if it is open already.
        """
        check_sampler(self._space.sweep.sampler)
        self._interruption.install()
        try:
            # What this stack closes outlives Ray: the ledger's lock is held while a worker may
            # still write.
            with ExitStack() as stack:
                outcome = self._run(stack, open_experiment, ledger)
        finally:
            self._progress.abort()
            self._interruption.uninstall()
        self._progress.close(outcome)
        return outcome

    def _run(
        self,
        stack: ExitStack,
        open_experiment: Callable[[], Experiment],
        ledger: Ledger | None,
    ) -> Outcome:
        self._progress.note("starting Ray, checking the networks and preparing the data")
        with ExitStack() as ray_stack:
            ray_stack.enter_context(cluster.environment())
            importing = Thread(target=import_module, args=["kdsweep.sweep.tune"], daemon=True)
            importing.start()
            with blocked():
                joined = ray_stack.enter_context(
                    cluster.connect(self._address, self._shared, dashboard=self._dashboard)
                )
            # Ray has handlers of its own.
            self._interruption.install()
            importing.join()
            sweep = self._space.sweep
            resources = plan(joined.nodes, self._space.resources, sweep.max_concurrent)

            def begin(data: dict[str, Any]) -> Driver:
                nonlocal ledger
                experiment = open_experiment()
                if ledger is None:
                    ledger = stack.enter_context(Ledger.open(experiment.ledger))
                self._introduce(experiment, joined, data)
                driver = Driver(
                    self._space,
                    experiment,
                    ledger,
                    resources,
                    max_hours=self._max_hours,
                    max_gpu_hours=self._max_gpu_hours,
                )
                driver.listeners.append(self._progress)
                for listener in self._recorders(driver, experiment):
                    driver.listeners.append(listener)
                    stack.callback(listener.close)
                driver.begin(self._command, data)
                return driver

            driver = self._train(begin, resources, joined.scratch)
            if driver is None:
                return Outcome(None, 130, self._interruption.reason or "sigint")
            driver.end()
        notice = driver.sweep.header["data"].get("notice")
        return make_outcome(driver.sweep, driver.experiment, notice=notice)

    def _train(
        self, begin: Callable[[dict[str, Any]], Driver], resources: Plan, scratch: Path
    ) -> Driver | None:
        """Run everything; ``None`` if it was interrupted before anything was there to resume."""
        # Imported here: Tune reads its settings when it is imported.
        from kdsweep.sweep.tune import Link, run_tune

        prelude = Prelude(self._space.jobs_to_check(), resources.slots)
        link = Link(resources, self._runner, prelude, begin, lambda: self._step(link))
        # Tune creates at most this many trials ahead of the machines.
        pending = {"TUNE_MAX_PENDING_TRIALS_PG": str(resources.slots)}
        try:
            with cluster.environment(**pending), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run_tune(link, scratch)
        except SpecError as error:
            raise self._space.locate(error) from None
        except KdsweepError:
            raise
        except Exception as error:
            if link.driver is None:
                raise
            experiment = link.driver.experiment
            raise KdsweepError(
                f"{experiment.path}: the sweep broke off: {error}\n"
                f"  try:     {resume_command(experiment)} goes on from the last line of the ledger"
            ) from error
        return link.driver

    def _step(self, link: Link) -> None:
        """A turn in Tune's loop: signals, budgets, progress."""
        from kdsweep.sweep.tune import LeaveSweepError

        reason, driver = self._interruption.reason, link.driver
        if driver is None:
            if reason is not None:
                raise LeaveSweepError
            return
        if reason is not None:
            driver.pause(reason)
        driver.check_budgets()
        self._progress.tick(driver.sweep)
        if driver.pausing is not None:
            now = time.monotonic()
            if self._deadline is None:
                self._deadline = now + GRACE_SECONDS[driver.pausing]
            if now >= self._deadline:
                raise LeaveSweepError

    def _recorders(
        self, driver: Driver, experiment: Experiment
    ) -> tuple[TrackerListener, StudyMirror]:
        from kdsweep.tracking import open_tracker

        note, name = self._progress.note, experiment.name
        tracker = open_tracker(self._space.tracking, experiment.wandb, name, warn=note)
        return (
            TrackerListener(tracker),
            StudyMirror(experiment.study_db, name, driver.study, note),
        )

    def _introduce(
        self, experiment: Experiment, joined: cluster.Cluster, data: dict[str, Any]
    ) -> None:
        note = self._progress.note
        if data.get("notice"):
            note(str(data["notice"]))
        note(f"experiment: {experiment.path}")
        if joined.dashboard is not None:
            note(f"dashboard:  {joined.dashboard}")
            note("            it asks for a token, which `ray get-auth-token` prints")
        elif joined.problem is not None:
            note(f"warning: Ray's dashboard could not be started: {joined.problem}")


class TrackerListener:
    """Passes events on to a tracker.

    Args:
        tracker: As :func:`kdsweep.tracking.open_tracker` gives it.
    """

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._known: set[int] = set()

    def event(self, sweep: Sweep, event: Event) -> None:
        """Tell the tracker about starts, epochs and ends of trials."""
        number = event.get("trial", -1)
        trial = sweep.trials.get(number)
        if trial is None:
            return
        if event["event"] == "start" and number not in self._known:
            self._known.add(number)
            kind = "control" if trial.is_control else "search"
            self._tracker.trial(number, trial.label, trial.job_to_run, kind)
        elif event["event"] == "epoch":
            numbers = {k: v for k, v in event["metrics"].items() if v is not None}
            self._tracker.epoch(number, event["epoch"], numbers)
        if trial.state.is_final and number in self._known:
            # A resumed session's tracker has not seen the epochs before it; the ledger has.
            best = {} if trial.best is None else {f"best/{sweep.header['metric']}": trial.best}
            self._tracker.trial_end(number, str(trial.state), best)

    def close(self) -> None:
        """Send what is left."""
        self._tracker.close()
