"""kdsweep from Python: the command line's main verbs as functions.

Everything heavy is imported when it is called, so that ``import kdsweep`` costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import KdsweepError, SpecError

if TYPE_CHECKING:
    from kdsweep.reporting import Results
    from kdsweep.spec import Job, Space
    from kdsweep.sweep import Outcome
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
        return max(self.reports, key=lambda report: report.metrics["student/miou"])


def run(
    space: Source | Space,
    *,
    data: Sequence[str] = (),
    overrides: Sequence[str] = (),
    experiments: str | Path = DEFAULT_EXPERIMENTS,
    address: str | None = None,
) -> Results:
    """Run a sweep to its end, quietly.

    Args:
        space: A search space: a file, a mapping, or one that is loaded already.
        data: Where data sets lie, as ``"camvid=PATH"``.
        overrides: Leaves to change, as ``"train.epochs=3"``.
        experiments: Folder that gets the experiment's folder.
        address: A Ray cluster to join; one is started on this machine if left out.

    Returns:
        The tables; ``results.summary["state"]`` says whether the sweep came to its end.

    Raises:
        KdsweepError: Bad input, before anything started, or a sweep that could not go on.
    """
    from kdsweep.reporting import load as load_results
    from kdsweep.spec import Space, load_space
    from kdsweep.sweep import run_sweep

    if not isinstance(space, Space):
        space = load_space(space, overrides, data)
    elif overrides or data:
        raise SpecError("data and overrides are for spaces that are not loaded yet")
    outcome = run_sweep(space, experiments=Path(experiments), address=address, progress="quiet")
    return load_results(_folder(outcome))


def resume(experiment: str | Path, *, address: str | None = None) -> Results:
    """Go on with a sweep that was interrupted or paused, quietly.

    Args:
        experiment: Its folder.
        address: A Ray cluster to join.

    Raises:
        KdsweepError: There is no such experiment, or another process is running it.
    """
    from kdsweep.reporting import load as load_results
    from kdsweep.sweep import resume_sweep

    outcome = resume_sweep(Path(experiment), address=address, progress="quiet")
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


def train(
    job: Source | Job,
    *,
    data: Sequence[str] = (),
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "auto",
    num_threads: int | None = None,
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

    Raises:
        KdsweepError: Bad input, or a training that diverged.
    """
    from kdsweep.spec import Job, load_job
    from kdsweep.store import TrialFolder
    from kdsweep.trial import check_job, prepare, run_job

    if not isinstance(job, Job):
        job = load_job(job, overrides, data)
    elif overrides or data:
        raise SpecError("data and overrides are for jobs that are not loaded yet")
    check_job(job)
    prepare([job])
    folder = TrialFolder(Path(out) if out is not None else new_single_folder(job.name))
    reports = tuple(run_job(job, folder, device=device, num_threads=num_threads))
    return Training(folder.path, reports)


def new_single_folder(name: str, experiments: Path = DEFAULT_EXPERIMENTS) -> Path:
    """A folder for one training outside any sweep that is not there yet."""
    stem = experiments / "single" / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    folder, number = stem, 1
    while folder.exists():
        number += 1
        folder = stem.with_name(f"{stem.name}-{number}")
    return folder
