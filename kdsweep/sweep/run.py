"""Run a search space as a sweep, and go on with one that was interrupted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kdsweep.config import JobList, Space, dump_yaml
from kdsweep.errors import ConfigError, ExperimentError
from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.atomic import remove, write_json, write_text
from kdsweep.ledger.events import ExtendEvent, RetryEvent
from kdsweep.ledger.layout import EXPERIMENTS
from kdsweep.ledger.object_store import ObjectStoreCopy, check_writable, uri_of
from kdsweep.ledger.provenance import environment
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.deadline import Hours
from kdsweep.sweep.driver import leftovers
from kdsweep.sweep.earlier import Earlier
from kdsweep.sweep.feasibility import Feasibility
from kdsweep.sweep.machine import check_folder
from kdsweep.sweep.outcome import Outcome, make_outcome
from kdsweep.sweep.progress import Mode, Progress, make_progress
from kdsweep.sweep.session import SweepSession
from kdsweep.sweep.storage import copy_of
from kdsweep.sweep.tracked import MakeSummary
from kdsweep.user_folders import nearest_existing

RUNNER = "kdsweep.trial"


def run_sweep(
    space: Space | JobList,
    *,
    experiments: Path,
    address: str | None = None,
    progress: Progress | Mode = "quiet",
    command: Sequence[str] | None = None,
    dashboard: bool = True,
    listen: bool = False,
    runner: str = RUNNER,
    make_summary: MakeSummary | None = None,
    accept_changed_data: bool = False,
    best_of: Sequence[Path] = (),
    priors: Sequence[Path] = (),
    hours: float | None = None,
    storage: str | None = None,
) -> Outcome:
    """Run a search space from the start, in a new experiment.

    Args:
        space: What to search.
        experiments: Parent folder of experiments.
        address: Ray cluster to join (``auto``: the one on this machine); ``None`` starts one here,
            unless ``RAY_ADDRESS`` is set.
        progress: How to show progress.
        command: The command line, for the record; this process's if left out.
        dashboard: Whether a Ray that is started here has its dashboard.
        listen: Whether other machines can reach it.
        runner: Module with what workers call, like :mod:`kdsweep.trial`.
        make_summary: Makes what trackers are told of the sweep as a whole when it has ended.
        accept_changed_data: Whether to confirm jobs on other data than they were found on.
        best_of: Experiments whose best settings are tried first.
        priors: Experiments whose trials the sampler begins with, as far as this space can draw them
            on the same data; of others the best settings are tried first.
        hours: In which the sweep is to end, from now on; it chooses epochs, students per teacher
            and trials by that.
        storage: Address in an object store below which the experiment gets a copy, kept up to date.

    Returns:
        How it ended; an interrupted or paused sweep is no error.

    Raises:
        ConfigError: The space says something that is not allowed, or nothing can be taken from an
            earlier experiment. No experiment was made.
        ExperimentError: There is no such earlier experiment. No experiment was made.
        DataError: Its data are missing or damaged. No experiment was made.
        WeightsError: Pretrained weights cannot be had. No experiment was made.
        ResourceError: A trial fits on no machine. No experiment was made.
        MachineError: This machine lacks what a sweep needs, or Ray does not come up. No experiment
            was made.
        KdsweepError: The sweep broke off; it can be resumed.
    """
    began = time.time()
    command = sys.argv if command is None else command
    shown = progress if isinstance(progress, Progress) else make_progress(progress)
    budget = None
    if hours is not None and isinstance(space, Space):
        space, budget = _planned(space, hours, began, Path(experiments), shown)
    earlier = None
    if isinstance(space, Space) and (best_of or priors):
        earlier = Earlier(space, best_of, priors)

    def create() -> Experiment:
        experiment = Experiment.create(Path(experiments), space.name)
        decided = space if earlier is None else earlier.space
        if earlier is not None:
            earlier.keep(experiment)
        write_text(experiment.space_yaml, space.text or _plain_yaml(space))
        write_json(experiment.spec_json, decided.resolved())
        seeds = {"sampler": space.sweep.seed}
        write_json(experiment.environment_json, environment(command, seeds))
        return experiment

    if storage is not None:
        check_writable(storage)
    session = SweepSession(
        space,
        shown,
        command,
        runner,
        address,
        Path(experiments),
        Path(experiments),
        dashboard=dashboard,
        listen=listen,
        make_summary=make_summary,
        source=_source(space),
        accept_changed_data=accept_changed_data,
        earlier=earlier,
        hours=budget,
        storage=storage,
    )
    return session.run(create)


def _planned(
    space: Space, hours: float, began: float, experiments: Path, shown: Progress
) -> tuple[Space, Hours]:
    """The space with what fits into so many hours, and these."""
    from kdsweep.sweep.hours import plan_hours

    shown.note("hours:      measuring a few steps")
    chosen, _ = plan_hours(space, hours, scratch=nearest_existing(experiments))
    for number, line in enumerate(chosen.lines):
        shown.note(f"{'' if number else 'hours:':12}{line}")
    return chosen.space, Hours(hours, began, chosen.seconds)


def resume_sweep(
    experiment: Path | str,
    *,
    experiments: Path | str = EXPERIMENTS,
    address: str | None = None,
    progress: Progress | Mode = "quiet",
    command: Sequence[str] | None = None,
    dashboard: bool = True,
    listen: bool = False,
    runner: str = RUNNER,
    max_hours: float | None = None,
    max_gpu_hours: float | None = None,
    make_summary: MakeSummary | None = None,
    more_trials: int = 0,
    accept_changed_data: bool = False,
    retry_failed: bool = False,
) -> Outcome:
    """Go on with a sweep that was interrupted, paused or killed, or extend one.

    Where only the last line is missing, it is written without starting Ray. What is not said here
    is as for :func:`run_sweep` and :func:`kdsweep.resume`.

    ``experiment`` may be the address of its copy in an object store, which is then fetched into
    ``experiments``. ``max_hours`` and ``max_gpu_hours`` replace the space's budgets in this
    session. ``more_trials`` are drawn on top of those that were asked for.

    Raises:
        DataError: The data have changed.
        ExperimentError: There is no such experiment, or another driver is running it.
        MachineError: Its folder cannot be written.
        ConfigError: More trials than the space has points.
        LedgerError: The ledger is damaged other than in its last line.
        KdsweepError: As for :func:`run_sweep`.
    """
    shown = progress if isinstance(progress, Progress) else make_progress(progress)
    opened, storage = _with_copy(experiment, Path(experiments), shown)
    check_folder(opened.path, "the experiment's ledger", "a copy of it")
    with Ledger.open(opened.ledger) as ledger:
        if ledger.num_torn_bytes:
            shown.note(
                f"warning: the ledger's last line was torn ({ledger.num_torn_bytes} bytes); the "
                "epoch it was about is reported again by its checkpoint"
            )
        space = read_space(opened)
        sweep = Sweep(ledger.replay())
        asked: ExtendEvent | RetryEvent | None = None
        if more_trials:
            asked = extend(space, ledger, more_trials)
        elif retry_failed:
            asked = retry(opened, sweep)
            if asked is None:
                shown.note(f"{opened.path}: no trial that has failed can be tried again now")
        if asked is not None:
            sweep.apply(asked)
        is_over = not sweep.is_new and not sweep.has_work
        if is_over and sweep.is_done:
            outcome = make_outcome(sweep, opened)
            if storage is not None:
                storage.push(opened.path)
                storage.release()
            shown.note(f"{opened.path}: nothing left to do")
            shown.close(outcome)
            return outcome
        command = sys.argv if command is None else command
        session = SweepSession(
            space,
            shown,
            command,
            runner,
            address,
            opened.path.parent,
            opened.path,
            dashboard=dashboard,
            listen=listen,
            max_hours=max_hours,
            max_gpu_hours=max_gpu_hours,
            make_summary=make_summary,
            accept_changed_data=accept_changed_data,
            storage=storage,
        )
        if is_over:
            return session.finish(opened, ledger)
        return session.run(lambda: opened, ledger, asked)


def _with_copy(
    experiment: Path | str, experiments: Path, shown: Progress
) -> tuple[Experiment, ObjectStoreCopy | None]:
    """The experiment, brought up to date with its copy in an object store if it has one.

    This process then has the copy's lease.
    """
    uri = uri_of(experiment)
    if uri is None:
        opened = Experiment.open(experiment)
        uri = copy_of(opened)
        if uri is None:
            return opened, None
        folder = opened.path
    else:
        folder = (experiments / uri.rpartition("/")[2]).absolute()
    copy = ObjectStoreCopy(uri)
    if not copy.exists and not folder.is_dir():
        raise ExperimentError(f"{uri}: there is no such experiment\n  try:     kdsweep list URI")
    shown.note(f"storage:    {uri}, brought to {folder}")
    copy.claim()
    if copy.exists:
        copy.fetch(folder)
    return Experiment.open(folder), copy


def _source(space: Space | JobList) -> Experiment | None:
    """The experiment whose jobs are confirmed, if it is still there."""
    if not isinstance(space, JobList) or "experiment" not in space.origin:
        return None
    source = Experiment(Path(space.origin["experiment"]))
    return source if source.ledger.is_file() else None


def extend(space: Space | JobList, ledger: Ledger, more: int) -> ExtendEvent:
    """Return the event that asks for more trials; everything else of the sweep stays as it was.

    Raises:
        ConfigError: The space does not have so many points.
    """
    sweep = Sweep(ledger.replay())
    header = sweep.header
    if sweep.is_new:
        raise ConfigError(
            "this sweep has not begun: nothing is there to extend",
            hint="kdsweep resume begins it; sweep.trials says with how many trials",
        )
    if isinstance(space, JobList):
        source = space.origin.get("experiment", "SOURCE")
        raise ConfigError(
            "this is a confirmation: its jobs and seeds are fixed",
            hint=f"kdsweep confirm {source} --seeds N makes one with more seeds",
        )
    planned = header.trials - sweep.num_outdated
    feasibility = Feasibility(space, header.static_costs)
    num_points = feasibility.num_points(planned + more)
    if planned + more > num_points:
        within = " within its constraints" if feasibility.is_limiting else ""
        raise ConfigError(
            f"the space has {num_points} different jobs{within}, and {planned} trials are asked "
            f"for already: there are no {more} more",
            allowed=f"at most {num_points - planned} more",
            hint="kdsweep run with a wider space",
        )
    return ExtendEvent(
        trials=header.trials + more,
        num_controls=header.num_controls + more * space.sweep.num_paired,
    )


def retry(experiment: Experiment, sweep: Sweep) -> RetryEvent | None:
    """Return the event that asks for failed trials again; ``None`` if there are none.

    Controls of their cohorts that ended with them go with them. Checkpoints that a killed driver
    has left are deleted: all begin anew.
    """
    again = {trial.number: trial for trial in sweep.to_retry()}
    for trial in list(again.values()):
        for beside in sweep.cohort(trial.number):
            if beside.number == trial.control and beside.state is State.STOPPED:
                again[beside.number] = beside
    for trial in again.values():
        for folder in leftovers(experiment, sweep, trial):
            remove(folder)
    return RetryEvent(trials=sorted(again)) if again else None


def read_space(experiment: Experiment) -> Space | JobList:
    """Return what an experiment trains: its search space, or the jobs that it confirms.

    Raises:
        ExperimentError: It cannot be read.
    """
    path = experiment.spec_json
    try:
        resolved = json.loads(path.read_text(encoding="utf-8"))
        if "jobs" in resolved:
            return JobList.from_resolved(resolved)
        return Space.from_resolved(resolved)
    except (OSError, ValueError) as error:
        raise ExperimentError(
            f"{path}: the search space cannot be read: {error}\n"
            f"  try:     restore the file; kdsweep run {experiment.space_yaml} starts afresh"
        ) from error


def _plain_yaml(space: Space | JobList) -> str:
    """The file of a space that did not come from one."""
    return dump_yaml({key: value for key, value in space.resolved().items() if key != "labels"})
