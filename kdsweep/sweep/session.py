"""One session of a sweep: from starting Ray to the last line of the ledger."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config import Job, JobList, Space
from kdsweep.disk import disk_problem
from kdsweep.errors import ConfigError, DataError, KdsweepError, MachineError
from kdsweep.labels import training_frames
from kdsweep.ledger import Experiment, Ledger, iter_ledger
from kdsweep.ledger.events import (
    ExtendEvent,
    RetryEvent,
    SessionEvent,
    SweepEvent,
    decode_progress,
    trial_of,
)
from kdsweep.ledger.given_teachers import teacher_notes
from kdsweep.ledger.object_store import ObjectStoreCopy
from kdsweep.ledger.provenance import mask_secrets, note_machines
from kdsweep.ledger.state import Sweep
from kdsweep.sweep.cohort_size import (
    decide_students_per_teacher,
    num_heads,
)
from kdsweep.sweep.deadline import HOURS, Hours
from kdsweep.sweep.driver import Driver
from kdsweep.sweep.earlier import Earlier, kept_observations
from kdsweep.sweep.equal_time import decide_equal_time, what_to_measure
from kdsweep.sweep.feasibility import Feasibility
from kdsweep.sweep.mirror import StudyMirror
from kdsweep.sweep.outcome import Outcome, broken_off, make_outcome
from kdsweep.sweep.progress import Progress
from kdsweep.sweep.ray import bridge, cluster
from kdsweep.sweep.ray.delivery import Way, open_depot
from kdsweep.sweep.ray.machines import Machines
from kdsweep.sweep.ray.preflight import Preflight
from kdsweep.sweep.ray.start import StartInterruptedError
from kdsweep.sweep.resources import Plan
from kdsweep.sweep.room import bytes_to_keep, warn_of_room
from kdsweep.sweep.samplers import check_sampler
from kdsweep.sweep.signals import Interruption
from kdsweep.sweep.start import Start
from kdsweep.sweep.storage import StorageListener, note_copy
from kdsweep.sweep.sweep_data import SweepData, known_teachers
from kdsweep.sweep.tracked import MakeSummary, TrackerListener
from kdsweep.tracking import open_tracker

if TYPE_CHECKING:
    from kdsweep.sweep.ray.link import Link

# How long running trials may take to reach their next report before a pause leaves without it. A
# signal's sender seldom waits long (Docker 10 s, SLURM 30 s); a budget can wait for an epoch.
GRACE_SECONDS = {"sigint": 3.0, "sigterm": 3.0, "sighup": 3.0}
GRACE_SECONDS |= {"max_hours": 600.0, "max_gpu_hours": 600.0}
# Past its hours and some a sweep waits no longer.
GRACE_SECONDS |= {HOURS: 3.0}
GRACE_SECONDS |= {"storage": 3.0}


class SweepSession:
    """One session of a sweep, from checks to the last line.

    What it takes is what :func:`~kdsweep.sweep.run.run_sweep` and ``resume_sweep`` take, and:

    Args:
        shared: Folder of experiments.
        folder: Folder that gets the experiment's folder, or the experiment's own.
        source: The experiment whose jobs are confirmed, if they are.
        earlier: What a new sweep takes from earlier ones.
        hours: In which a new sweep is to end.
        storage: The experiment's copy in an object store, whose lease this process has; or the
            address below which a new experiment gets one.
    """

    def __init__(
        self,
        space: Space | JobList,
        progress: Progress,
        command: Sequence[str],
        runner: str,
        address: str | None,
        shared: Path,
        folder: Path,
        *,
        dashboard: bool,
        listen: bool = False,
        max_hours: float | None = None,
        max_gpu_hours: float | None = None,
        make_summary: MakeSummary | None = None,
        source: Experiment | None = None,
        accept_changed_data: bool = False,
        earlier: Earlier | None = None,
        hours: Hours | None = None,
        storage: ObjectStoreCopy | str | None = None,
    ) -> None:
        self._space = space
        self._source = source
        self._accepts = accept_changed_data
        self._earlier = earlier
        self._hours = hours
        self._storage = storage
        self._make_summary = make_summary
        self._progress = progress
        self._command = shlex.join(mask_secrets(command))
        self._runner = runner
        self._max_hours = space.sweep.max_hours if max_hours is None else max_hours
        self._max_gpu_hours = space.sweep.max_gpu_hours if max_gpu_hours is None else max_gpu_hours
        self._interruption = Interruption()
        self._start = Start(
            progress,
            self._interruption,
            address,
            shared,
            folder,
            dashboard=dashboard,
            listen=listen,
        )
        self._deadline: float | None = None
        self._way: Way | None = None

    def run(
        self,
        open_experiment: Callable[[], Experiment],
        ledger: Ledger | None = None,
        asked: ExtendEvent | RetryEvent | None = None,
    ) -> Outcome:
        """Start Ray, check everything, run trials, stop Ray.

        Args:
            open_experiment: Gives the experiment's folder; called when all checks have passed.
            ledger: The experiment's ledger, if it is open already.
            asked: What to write into it when all checks have passed.
        """
        check_sampler(self._space.sweep.sampler)
        self._space.tracking.check_packages()
        self._interruption.install()
        try:
            # What this stack closes outlives Ray: the ledger's lock is held while a worker may
            # still write.
            with ExitStack() as stack:
                outcome = self._run(stack, open_experiment, ledger, asked)
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
        asked: ExtendEvent | RetryEvent | None,
    ) -> Outcome:
        with ExitStack() as ray_stack:
            ray_stack.callback(self._start.stages.drop)
            ray_stack.enter_context(bridge.environment())
            try:
                joined = self._start.connect(ray_stack, self._space, is_new=ledger is None)
            except StartInterruptedError:
                return Outcome(None, 130, self._interruption.reason or "sigint")
            sweep = self._space.sweep
            jobs = self._space.jobs_to_check()
            try:
                machines = self._look_at_machines(joined, jobs)
            except StartInterruptedError:
                return Outcome(None, 130, self._interruption.reason or "sigint")
            resources = machines.plan

            # A sweep that goes on keeps the number of students that it began with.
            is_new = ledger is None or not ledger.num_events
            wanted = sweep.students_per_teacher
            bounded = self._space.architectures() if is_new and sweep.static_bounds else []
            # `auto` looks at memory itself; a teacher that learns from its student has but one.
            if wanted == "auto" or any(job.distill.is_mutual for job in jobs):
                heads = num_heads(self._space, 1)
            else:
                heads = num_heads(self._space, wanted)
            preflight = Preflight(
                jobs,
                resources.slots,
                measure=what_to_measure(self._space) if is_new else None,
                students=[architecture.job for architecture in bounded],
                num_heads=heads,
                teachers=known_teachers(jobs, ledger),
                on_stage=self._start.stages.begin,
                on_worker=self._start.look_at_worker,
            )

            def begin(data: dict[str, Any]) -> Driver:
                nonlocal ledger
                self._start.stages.end()
                refusal, remarks = data.pop("refusal", None), data.pop("remarks", [])
                if refusal is not None and is_new and isinstance(self._space, Space):
                    raise DataError(refusal)
                remarks += [] if refusal is None else [f"warning: {refusal}"]
                keys = (architecture.key for architecture in bounded)
                static_costs = dict(zip(keys, preflight.static_costs, strict=True))
                if is_new:  # nothing is left behind where nothing could be trained
                    Feasibility(self._space, static_costs)
                found = SweepData.of(data)
                changes = self._changes(found, ledger)
                if ledger is None and changes:
                    data = {**data, "other_data": changes}
                if self._earlier is not None:
                    self._space = self._earlier.decide(found, self._progress.note)
                experiment = open_experiment()
                if machines.word is not None:
                    self._way = ray_stack.enter_context(open_depot(experiment, machines.word))
                    note_machines(experiment, machines.gpus)
                if ledger is None:
                    ledger = stack.enter_context(Ledger.open(experiment.ledger))
                if asked is not None:
                    ledger.append(asked)
                found.keep(experiment)
                self._introduce(experiment, joined, found)
                for note in data.get("weights", ()):
                    self._progress.note(f"weights:    {note}")
                for note in teacher_notes(data):
                    self._progress.note(f"teacher:    {note}")
                for remark in remarks:
                    self._progress.note(f"data:       {remark}")
                if preflight.warning:
                    self._progress.note(preflight.warning)
                decided = self._space, preflight.measured, self._progress.note
                driver = Driver(
                    self._space,
                    experiment,
                    ledger,
                    resources,
                    max_hours=self._max_hours,
                    max_gpu_hours=self._max_gpu_hours,
                    students_per_teacher=decide_students_per_teacher(
                        *decided, slots=resources.slots
                    ),
                    static_costs=static_costs,
                    equal_time=decide_equal_time(*decided),
                    priors=kept_observations(experiment),
                    hours=self._hours,
                )
                self._listen(stack, driver)
                driver.begin(self._command, data, changes)
                if is_new:
                    header = driver.sweep.header
                    kept = header.trials + header.num_controls
                    size = bytes_to_keep(preflight.network_bytes, resources.slots, heads, kept)
                    if warning := warn_of_room(experiment.path, size):
                        self._progress.note(warning)
                self._tell_who_trains_alone(driver.sweep.header)
                return driver

            driver = self._train(begin, preflight, machines, joined.scratch)
            if driver is None:
                return Outcome(None, 130, self._interruption.reason or "sigint")
            driver.end()
        return _outcome(driver)

    def finish(self, experiment: Experiment, ledger: Ledger) -> Outcome:
        """Write the last line of a sweep with nothing left to train, whose driver died before it.

        Ray is not started, and the data are not looked at.
        """
        self._space.tracking.check_packages()
        sessions = Sweep(ledger.replay()).sessions
        last = sessions[-1].event if sessions else SessionEvent(session=0)
        plan = Plan(last.slots, int(last.cpus_per_trial or 1), last.gpus_per_trial)
        with ExitStack() as stack:
            driver = Driver(
                self._space,
                experiment,
                ledger,
                plan,
                max_hours=self._max_hours,
                max_gpu_hours=self._max_gpu_hours,
            )
            self._listen(stack, driver)
            driver.begin(self._command, {})
            driver.end()
        outcome = _outcome(driver)
        self._progress.close(outcome)
        return outcome

    def _listen(self, stack: ExitStack, driver: Driver) -> None:
        """Let everybody know of each event who wants to."""
        driver.listeners.append(self._progress)
        listeners: list[Any] = [*self._recorders(driver, driver.experiment)]
        stored = self._copy(driver.experiment)
        if stored is not None:
            lost = partial(self._interruption.leave, "storage")
            note = self._progress.note
            listeners.append(
                StorageListener(
                    stored,
                    driver.experiment,
                    note,
                    lost,
                    is_leaving=lambda: self._interruption.reason is not None,
                )
            )
        for listener in listeners:
            driver.listeners.append(listener)
            stack.callback(listener.close)

    def _tell_who_trains_alone(self, header: SweepEvent) -> None:
        jobs = self._space.jobs_to_check()
        if header.students_per_teacher > 1 and any(j.distill.is_mutual for j in jobs):
            self._progress.note(
                "trials with mutual learning train alone: their teacher learns from its student"
            )

    def _train(
        self,
        begin: Callable[[dict[str, Any]], Driver],
        preflight: Preflight,
        machines: Machines,
        scratch: Path,
    ) -> Driver | None:
        """Run everything; ``None`` if it was interrupted before anything was there to resume."""
        # Imported here: Tune reads its settings when it is imported.
        from kdsweep.sweep.ray.link import Link
        from kdsweep.sweep.ray.tune import run_tune

        link = Link(
            machines.plan,
            self._runner,
            preflight,
            begin,
            lambda: self._step(link, machines),
            way=lambda: self._way,
            avoided=lambda: machines.avoided,
            leave_out=machines.leave_out,
        )
        try:
            run_tune(link, scratch)
        except ConfigError as error:
            raise self._space.locate(error) from None
        except KdsweepError:
            raise
        except Exception as error:
            if link.driver is None:
                if (problem := disk_problem(error)) is None:
                    raise
                raise MachineError("{}\n  try:     {}".format(*problem)) from error
            raise broken_off(link.driver.experiment, error, scratch) from error
        return link.driver

    def _copy(self, experiment: Experiment) -> ObjectStoreCopy | None:
        """The experiment's copy in an object store, with its lease."""
        if isinstance(self._storage, str):
            uri = f"{self._storage.rstrip('/')}/{experiment.name}"
            note_copy(experiment, uri)
            self._storage = ObjectStoreCopy(uri)
            self._storage.claim()
        return self._storage

    def _look_at_machines(self, joined: cluster.Cluster, jobs: Sequence[Job]) -> Machines:
        if not joined.is_own:
            self._start.stages.begin("machines")
        machines = Machines(
            joined,
            self._runner,
            [job.model_dump(mode="json") for job in jobs],
            self._space.resources,
            self._space.sweep.max_concurrent,
            self._progress.note,
            self._start.is_leaving,
        )
        self._start.stages.begin("workers")
        return machines

    def _step(self, link: Link, machines: Machines) -> None:
        """A turn in Tune's loop: signals, budgets, machines, progress."""
        from kdsweep.sweep.ray.link import LeaveSweepError

        reason, driver = self._interruption.reason, link.driver
        if driver is None:
            if reason is not None:
                raise LeaveSweepError
            self._start.tick(link.preparing())
            return
        if reason is not None:
            driver.pause(reason)
        driver.check_budgets()
        if machines.follow():
            driver.plan = machines.plan
            note_machines(driver.experiment, machines.gpus)
        link.look()
        self._progress.tick(driver.sweep, link.paces())
        if driver.pausing is not None:
            now = time.monotonic()
            if self._deadline is None:
                self._deadline = now + GRACE_SECONDS[driver.pausing]
            if now >= self._deadline:
                raise LeaveSweepError

    def _recorders(
        self, driver: Driver, experiment: Experiment
    ) -> tuple[TrackerListener, StudyMirror]:
        note = self._progress.note
        tracker = open_tracker(self._space, experiment, warn=note)
        trials = driver.sweep.trials.values()
        unfinished = {trial.number for trial in trials if not trial.state.is_final}
        # Whose best epoch is told when they end; there is seldom anything to look for.
        events = (
            [e for e in iter_ledger(experiment.ledger) if trial_of(e) in unfinished]
            if unfinished and tracker.is_active
            else []
        )
        return (
            TrackerListener(tracker, experiment, events, self._make_summary, note),
            StudyMirror(experiment.study_db, experiment.name, driver.study, note),
        )

    def _changes(self, found: SweepData, ledger: Ledger | None) -> list[str]:
        """Return in which ways the data differ from those of the trials so far, or of the source.

        Raises:
            DataError: They do, and that was not accepted.
        """
        if ledger is not None:
            known, whose = Experiment(ledger.path.parent), "this sweep"
            sweep = Sweep(ledger.replay())
        elif self._source is not None:
            known, whose = self._source, f"the sweep {self._source.name}"
            sweep = Sweep(iter_ledger(known.ledger, decode_progress))
        else:
            return []
        if not sweep.trials:
            return []
        consequence = (
            "begins a new part, whose trials are not compared with those so far"
            if ledger is not None
            else "confirms on the data as they are now"
        )
        return found.changes(
            sweep.data, known, whose, consequence, self._accepts, self._progress.note
        )

    def _introduce(self, experiment: Experiment, joined: cluster.Cluster, data: SweepData) -> None:
        note = self._progress.note
        if data.facts.get("notice"):
            note(str(data.facts["notice"]))
        note(f"experiment: {experiment.path}")
        for short in data.shorts:
            note(f"data:       {short}")
        if unlabelled := data.facts.get("num_unlabelled"):
            note(f"            {training_frames(data.facts['num_train'], unlabelled)} frames")
        if joined.dashboard is not None:
            note(f"workers:    {joined.dashboard} (Ray's page of workers and logs)")
            if bridge.asks_for_token(joined.dashboard):
                note("            it asks for a token: kdsweep ray-token")
        elif joined.problem is not None:
            note(f"warning: Ray's page of workers and logs could not be started: {joined.problem}")


def _outcome(driver: Driver) -> Outcome:
    notice = driver.sweep.header.data.get("notice")
    return make_outcome(driver.sweep, driver.experiment, notice=notice)
