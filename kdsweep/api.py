"""kdsweep from Python: the command line's main verbs as functions.

Everything heavy is imported when it is called, so that ``import kdsweep`` costs nothing. It is long
because each verb says here what it takes, returns and raises, for who reads it from Python.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import ConfigError, KdsweepError

if TYPE_CHECKING:
    from kdsweep.config import Job, Space
    from kdsweep.config.metrics import Protocol
    from kdsweep.data.source import SplitName
    from kdsweep.deploy.choosing import ChosenStudent
    from kdsweep.deploy.evaluation import Evaluation
    from kdsweep.deploy.export import Exported, Format
    from kdsweep.deploy.search import Search
    from kdsweep.reporting import Results
    from kdsweep.sweep import Outcome
    from kdsweep.sweep.dashboard import Dashboard
    from kdsweep.sweep.preview import Preview
    from kdsweep.tracking import SweepSummary
    from kdsweep.training.report import EpochReport

DEFAULT_EXPERIMENTS = Path("experiments")
Source = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """What :func:`train` gave.

    Attributes:
        folder: Where the best student, checkpoints and samples lie.
        reports: One per epoch of this call, in order; for a training that went on from its last
            checkpoint, that checkpoint's report comes first.
    """

    folder: Path
    reports: tuple[EpochReport, ...]

    @property
    def best(self) -> EpochReport:
        """The report with the highest student mIoU."""
        from kdsweep.config.metrics import MIOU

        return max(self.reports, key=lambda report: report.metrics[MIOU])


def run(
    space: Source | Space,
    *,
    data: Sequence[str] = (),
    overrides: Sequence[str] = (),
    experiments: str | Path = DEFAULT_EXPERIMENTS,
    address: str | None = None,
    best_of: Sequence[str | Path] = (),
    priors: Sequence[str | Path] = (),
    hours: float | None = None,
    storage: str | None = None,
) -> Results:
    """Run a sweep to its end; in a notebook with its progress, elsewhere quietly.

    Args:
        space: A search space: a file, the name of one that comes with kdsweep, a mapping, or one
            that is loaded already.
        data: Where data sets lie, as ``"camvid=PATH"``.
        overrides: Leaves to change, as ``"train.epochs=3"``.
        experiments: Folder that gets the experiment's folder.
        address: A Ray cluster to join; one is started on this machine if left out.
        best_of: Experiments whose three best settings are tried first.
        priors: Experiments whose trials the sampler begins with, where jobs and data match; as
            ``best_of`` where they do not.
        hours: In which the sweep ends, from now on; it chooses epochs, students per teacher and
            trials by that, but for what ``overrides`` sets.
        storage: Address in an object store below which the experiment gets a copy, kept up to date.

    Returns:
        The tables; ``results.summary.state`` says whether the sweep came to its end.

    Raises:
        KdsweepError: Bad input, before anything started, or a sweep that could not go on.
    """
    from kdsweep.config import Space, load_space
    from kdsweep.reporting import load as load_results
    from kdsweep.sweep import run_sweep

    if not isinstance(space, Space):
        space = load_space(space, overrides, data)
    elif overrides or data:
        raise ConfigError("data and overrides are for spaces that are not loaded yet")
    outcome = run_sweep(
        space,
        experiments=Path(experiments),
        address=address,
        progress="notebook",
        make_summary=sweep_summary,
        best_of=[Path(folder) for folder in best_of],
        priors=[Path(folder) for folder in priors],
        hours=hours,
        storage=storage,
    )
    return load_results(_folder(outcome))


def plan(
    space: Source | Space,
    *,
    data: Sequence[str] = (),
    overrides: Sequence[str] = (),
    measure: bool | None = None,
    slots: int | None = None,
    experiments: str | Path = DEFAULT_EXPERIMENTS,
    hours: float | None = None,
) -> Preview:
    """Return what a sweep would train, and how long and how much memory that would take here.

    Trains nothing, starts no Ray and makes no experiment.

    Args:
        space: A search space: a file, the name of one that comes with kdsweep, a mapping, or one
            that is loaded already.
        data: Where data sets lie, as ``"camvid=PATH"``.
        overrides: Leaves to change, as ``"train.epochs=3"``.
        measure: Whether to time a few steps of the smallest and the largest job, which takes about
            a minute; nothing is said of hours and memory without. ``None``: unless that was done on
            this machine within the last hour.
        slots: Trials at a time; as many as fit on this machine if left out.
        experiments: Folder that would get the experiment's folder; checkpoints are timed on its
            disk.
        hours: In which it is to end; as for :func:`run`.

    Raises:
        KdsweepError: Bad input, or steps that could not be measured.
    """
    from kdsweep.config import Space, load_space
    from kdsweep.sweep.hours import plan_hours
    from kdsweep.sweep.preview import preview
    from kdsweep.user_folders import nearest_existing

    if not isinstance(space, Space):
        space = load_space(space, overrides, data)
    elif overrides or data:
        raise ConfigError("data and overrides are for spaces that are not loaded yet")
    scratch = nearest_existing(Path(experiments))
    if hours is None:
        return preview(space, measure=measure, slots=slots, scratch=scratch)
    if measure is False:
        raise ConfigError("what fits into a number of hours is known by measured steps only")
    return plan_hours(space, hours, slots=slots, scratch=scratch, measure=measure)[1]


def resume(
    experiment: str | Path,
    *,
    address: str | None = None,
    accept_changed_data: bool = False,
    retry_failed: bool = False,
) -> Results:
    """Resume a sweep that was interrupted or paused.

    Args:
        experiment: Its folder.
        address: A Ray cluster to join.
        accept_changed_data: Whether to go on where the data are not those of the trials so far,
            none of which is then compared with those to come.
        retry_failed: Whether to train failed trials again, from their first epoch.

    Raises:
        KdsweepError: There is no such experiment, another process is running it, or its data have
            changed.
    """
    from kdsweep.reporting import load as load_results
    from kdsweep.sweep import resume_sweep

    outcome = resume_sweep(
        experiment,
        address=address,
        progress="notebook",
        make_summary=sweep_summary,
        accept_changed_data=accept_changed_data,
        retry_failed=retry_failed,
    )
    return load_results(_folder(outcome))


def sweep_summary(experiment: Path, session: int) -> SweepSummary:
    """Return what trackers are told of a sweep after a session; draws the report's page for it."""
    from kdsweep.ledger import Experiment
    from kdsweep.reporting import load as load_results
    from kdsweep.reporting import to_json, write_page
    from kdsweep.tracking import SweepSummary

    results = load_results(experiment)
    found = to_json(results)
    return SweepSummary(
        session=session,
        facts=found["summary"],
        tables={name: found[name] for name in ("trials", "front", "pairs", "gains", "terms")},
        page=write_page(results, Experiment.open(experiment).report),
    )


def confirm(
    experiment: str | Path,
    *,
    top: int = 3,
    trials: Sequence[int] = (),
    seeds: int = 5,
    until_settled: bool = False,
    max_seeds: int = 20,
    equal_time: bool = False,
    protocol: Protocol | None = None,
    experiments: str | Path = DEFAULT_EXPERIMENTS,
    address: str | None = None,
    accept_changed_data: bool = False,
) -> Results:
    """Train the best jobs of a sweep again on fresh seeds, each beside its exact control.

    Args:
        experiment: The sweep's folder.
        top: How many of the best jobs; all, if there are fewer.
        trials: Numbers of the trials to confirm in place of the best.
        seeds: Fresh seeds of each.
        until_settled: Whether each gets seeds until its gain is settled instead, by a test that
            may be looked at after every seed.
        max_seeds: Most seeds of each then.
        equal_time: Whether each seed gets a second control, which trains alone for as long as the
            pair takes, by a few steps measured at the start.
        protocol: The size to score at, ``native`` or ``resized``; that of the sweep if left out.
        experiments: Folder that gets the new experiment's folder.
        address: A Ray cluster to join.
        accept_changed_data: Whether to confirm on other data than the jobs were found on.

    Returns:
        The tables; ``results.confirmation`` has what may be claimed of each job.

    Raises:
        KdsweepError: There is no such experiment, or nothing in it to confirm.
    """
    from kdsweep.reporting import load as load_results
    from kdsweep.sweep import jobs_to_confirm, run_sweep

    jobs = jobs_to_confirm(
        experiment,
        top=top,
        trials=trials,
        seeds=max_seeds if until_settled else seeds,
        protocol=protocol,
        until_settled=until_settled,
        equal_time=equal_time,
    )
    outcome = run_sweep(
        jobs,
        experiments=Path(experiments),
        address=address,
        progress="notebook",
        make_summary=sweep_summary,
        accept_changed_data=accept_changed_data,
    )
    return load_results(_folder(outcome))


def _folder(outcome: Outcome) -> Path:
    if outcome.experiment is None:
        raise KdsweepError(f"the sweep ended before it had a folder: {outcome.reason}")
    return outcome.experiment


def load(experiment: str | Path) -> Results:
    """The tables of an experiment, also while it runs.

    Raises:
        ExperimentError: There is no such experiment.
    """
    from kdsweep.reporting import load as load_results

    return load_results(experiment)


def dashboard(experiment: str | Path, *, port: int = 8080) -> Dashboard:
    """optuna-dashboard on an experiment, also while it runs; ``serve()`` of it serves until Ctrl-C.

    Args:
        experiment: Its folder.
        port: Where to listen, on this machine only; 0 takes a free one.

    Raises:
        KdsweepError: No such experiment, no study in it yet, optuna-dashboard is not installed, or
            the port is in use.
    """
    from kdsweep.sweep.dashboard import Dashboard

    return Dashboard(experiment, port)


def export(
    experiment: str | Path,
    *,
    trial: int | None = None,
    format: Format = "onnx",
    out: str | Path | None = None,
    data: Sequence[str] = (),
    max_loss: float = 2.0,
    advance: Callable[[str, int, int], None] | None = None,
) -> Exported:
    """Export a trained student to a new folder, checked on validation frames.

    Args:
        experiment: An experiment, a trial's folder, or a student's weights with card and job.
        trial: A trial of the experiment; its best one if left out.
        format: ``onnx`` (float32), ``int8`` (ONNX, statically quantised) or ``torch`` (safetensors,
            card and job).
        out: Folder to write, which must not be there yet; a new one under the experiment's
            ``exports`` if left out.
        data: Where data sets lie, as ``"camvid=PATH"``.
        max_loss: Points of mIoU that ``int8`` may lose.
        advance: Called with what is being done, steps done and steps in all.

    Raises:
        KdsweepError: Bad input, missing data or packages, or an export that is not as good as the
            student.
    """
    from kdsweep.deploy.choosing import choose_student
    from kdsweep.deploy.export import export_student

    chosen = choose_student(experiment, trial)
    return export_student(
        chosen,
        format=format,
        out=out,
        data=data,
        max_loss=max_loss,
        claims=_claims_of(chosen),
        advance=advance or (lambda doing, done, total: None),
    )


def _claims_of(chosen: ChosenStudent) -> list[str]:
    """Return what repeated seeds have shown of a trial's job, in words."""
    if chosen.experiment is None:
        return []
    results = load(chosen.experiment.path)
    number = int(chosen.folder.path.name)
    lines = []
    for other in results.summary.confirmed_by:
        name = Path(other.experiment).name
        lines += [
            f"Trained again in `{name}` ({row.seeds} seeds), {row.split}: {row.claim}"
            for row in other.claims
            if row.job == f"trial {number:04d}"
        ]
    trials = results.trials
    if "param:job" in trials:  # a confirmation itself: other seeds of the same job
        job = trials.set_index("number")["param:job"].get(number)
        rows = results.confirmation[results.confirmation["job"] == job].to_dict("records")
        lines += [f"Over {row['seeds']} seeds, {row['split']}: {row['claim']}" for row in rows]
    return lines


def train(
    job: Source | Job,
    *,
    data: Sequence[str] = (),
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "auto",
    num_threads: int | None = None,
    accept_changed_data: bool = False,
) -> Training:
    """Train one job here, without Ray.

    Args:
        job: A job: a file, a mapping, or one that is loaded already.
        data: Where data sets lie, as ``"camvid=PATH"``.
        overrides: Leaves to change, as ``"train.epochs=3"``.
        out: Folder of the training; a folder that holds a started one goes on with it. A new
            folder under ``experiments/single`` if left out.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        num_threads: CPU threads.
        accept_changed_data: Whether a training that was started goes on with other data; its best
            epoch so far then counts no more.

    Raises:
        KdsweepError: Bad input, or a training that diverged.
    """
    from kdsweep.config import Job, load_job
    from kdsweep.ledger import TrialFolder
    from kdsweep.ledger.given_teachers import teacher_doubts
    from kdsweep.trial import check_job, note_data, prepare_one, return_freed_memory, run_job

    if not isinstance(job, Job):
        job = load_job(job, overrides, data)
    elif overrides or data:
        raise ConfigError("data and overrides are for jobs that are not loaded yet")
    check_job(job)
    folder = TrialFolder(Path(out) if out is not None else new_single_folder(job.name))
    found = prepare_one(job, folder, device=device)
    for doubt in teacher_doubts(found):
        warnings.warn(doubt, stacklevel=2)
    note_data(folder, found, accept_changed_data, lambda said: warnings.warn(said, stacklevel=4))
    try:
        reports = tuple(run_job(job, folder, device=device, num_threads=num_threads))
    finally:
        return_freed_memory()
    return Training(folder.path, reports)


def evaluate(
    path: str | Path,
    *,
    trial: int | None = None,
    split: SplitName = "val",
    data: Sequence[str] = (),
    postprocess: str | None = None,
    teacher: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    accept_changed_data: bool = False,
    protocol: Protocol | None = None,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
) -> Evaluation:
    """Score a trained student on a split, with intervals over frames, and write the scores.

    Scoring the test split is written down in the experiment; a second time warns.

    Args:
        path: An experiment, a trial's folder, or a student's weights with card and job.
        trial: Number of a trial of the experiment; its best one if left out.
        split: ``val``, ``test`` or ``train``.
        data: Where data sets lie, as ``"camvid=PATH"``.
        postprocess: Steps such as ``"flip,regions:0.001"``, or ``"auto"`` for what
            :func:`postprocess` has chosen.
        teacher: Folder of a trained network, for the step ``teacher``.
        out: Folder of the files; ``evaluation`` in the experiment if left out.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        accept_changed_data: Whether to use other data than the student was trained on.
        protocol: The size to score at: ``native`` is that of the label files, ``resized`` that of
            ``data.image_size``; as the training's validation did if left out.
        window: Height and width of windows that look at images at their own resolution; whole
            images if left out.
        stride: Rows and columns between windows; two thirds of the window if left out.

    Raises:
        KdsweepError: Bad input, or data that are not those that it was trained on.
    """
    from kdsweep.deploy.scoring import score
    from kdsweep.deploy.windows import make_windows

    return score(
        path,
        trial=trial,
        split=split,
        data=data,
        postprocess=postprocess,
        teacher=teacher,
        out=None if out is None else Path(out),
        device=device,
        accept_changed_data=accept_changed_data,
        protocol=protocol,
        windows=make_windows(window, stride),
        warn=lambda said: warnings.warn(said, stacklevel=4),
    ).evaluation


def postprocess(
    path: str | Path,
    *,
    trial: int | None = None,
    data: Sequence[str] = (),
    teacher: str | Path | None = None,
    device: str = "auto",
    accept_changed_data: bool = False,
) -> Search:
    """Try post-processing on a student's validation frames, and write which of it pays.

    Args:
        path: An experiment, a trial's folder, or a student's weights with card and job.
        trial: Number of a trial of the experiment; its best one if left out.
        data: Where data sets lie, as ``"camvid=PATH"``.
        teacher: Folder of a trained network, for the step ``teacher``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        accept_changed_data: Whether to use other data than the student was trained on.

    Raises:
        KdsweepError: Bad input, or data that are not those that it was trained on.
    """
    from kdsweep.deploy.scoring import search

    return search(
        path,
        trial=trial,
        data=data,
        teacher=teacher,
        device=device,
        accept_changed_data=accept_changed_data,
        warn=lambda said: warnings.warn(said, stacklevel=4),
    ).search


def new_single_folder(name: str) -> Path:
    """A folder for one training outside any sweep that is not there yet."""
    from kdsweep.user_folders import new_folder

    # Not beside the sweeps: it holds no ledger, and experiments/latest must stay a sweep.
    return new_folder(DEFAULT_EXPERIMENTS / "single" / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
