"""Training the best jobs of a sweep again, with fresh seeds, each beside its exact control."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kdsweep.config import Job, JobList
from kdsweep.config.metrics import NATIVE, RESIZED
from kdsweep.config.sweep import EQUAL_TIME, SELF, FurtherControl
from kdsweep.errors import ConfigError
from kdsweep.ledger import Experiment, iter_ledger
from kdsweep.ledger.anytime import FEWEST_TO_SETTLE
from kdsweep.ledger.events import decode_progress
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import Trial, best_first
from kdsweep.sweep.run import read_space


def jobs_to_confirm(
    experiment: Path | str,
    *,
    top: int,
    seeds: int,
    trials: Sequence[int] = (),
    protocol: str | None = None,
    until_settled: bool = False,
    equal_time: bool = False,
) -> JobList:
    """The best jobs of a sweep, to be run with :func:`~kdsweep.sweep.run.run_sweep`.

    Each is trained at full length, without early stopping, in one cohort with its control (the
    same student without a teacher, on the same batches, from the same initial weights), on seeds
    that the sweep has not used, and scored once on the test split. Where it learns from frames
    without labels, the same student taught by its own average trains beside it as well.

    Args:
        experiment: The sweep's folder.
        top: How many jobs, by their best value and, where that is equal, the smaller student;
            those with a teacher only, and none that costs more than the sweep allows. Trials of one
            job count once, also where they had different seeds.
        seeds: How many seeds of each.
        trials: Numbers of the trials to confirm in place of the best.
        protocol: The size to score at; that of the sweep if left out.
        until_settled: Whether a job gets so many seeds at most, and none once its gain is settled
            (:mod:`kdsweep.ledger.anytime`).
        equal_time: Whether each seed gets a second control, which trains alone for as long as the
            pair took.

    Raises:
        ExperimentError: There is no such experiment.
        ConfigError: It has no trial that could be confirmed, there is no such protocol, or so few
            seeds can settle nothing.
    """
    if until_settled and seeds < FEWEST_TO_SETTLE:
        raise ConfigError(
            "so few seeds can settle nothing, whatever they say",
            path=("max_seeds",),
            value=seeds,
            allowed=f"{FEWEST_TO_SETTLE} or more",
        )
    if protocol not in (None, RESIZED, NATIVE):
        raise ConfigError(
            "no such protocol", path=("protocol",), value=protocol, allowed=[RESIZED, NATIVE]
        )
    opened = Experiment.open(experiment)
    sweep = Sweep(iter_ledger(opened.ledger, decode_progress))
    space = read_space(opened)
    if isinstance(space, JobList):
        source = space.origin.get("experiment", "SOURCE")
        raise ConfigError(
            f"{opened.path}: this is a confirmation itself",
            hint=f"kdsweep confirm {source} --seeds N confirms the same jobs on more seeds",
        )
    current = [t for t in sweep.trials.values() if not t.is_control and not t.is_outdated]
    scored = [t for t in current if t.best is not None]
    taught = [t for t in scored if t.job["teacher"] is not None]
    allowed = [t for t in taught if not t.breaks_bound]
    if not allowed:
        within = " within the sweep's constraints" if taught else ""
        raise ConfigError(
            f"{opened.path}: nothing to confirm: no trial with a teacher has a score{within} yet",
            hint=f"kdsweep resume {opened.path} goes on with it",
        )
    if trials:
        ranked = _chosen(trials, allowed, opened.path)
        top = len(ranked)
    else:
        # Of a sweep with several metrics those on the front only.
        ranked = best_first(sweep.front(allowed) if len(sweep.metrics) > 1 else allowed)
    jobs: dict[str, Trial] = {}
    for trial in ranked:
        jobs.setdefault(_without_seed(sweep, trial), trial)
    best = list(jobs.values())[:top]
    confirmed = {f"trial {t.number:04d}": _job(sweep, t, protocol) for t in best}
    further: list[FurtherControl] = list(space.sweep.further_controls)
    # Does the teacher help, or do the frames without labels?
    if any(job.learns_unlabelled for job in confirmed.values()) and SELF not in further:
        further.append(SELF)
    used = {int(trial.job["train"]["seed"]) for trial in sweep.trials.values()}
    fresh = (seed for seed in range(1, len(used) + seeds + 1) if seed not in used)
    metric = space.sweep.score
    return JobList(
        name=f"{space.name}-confirm"[:80],
        jobs=confirmed,
        seeds=tuple(seed for seed, _ in zip(fresh, range(seeds), strict=False)),
        sweep=space.sweep.model_copy(
            update={
                "trials": len(best) * seeds,
                "metric": metric,
                "constraints": {},
                "sampler": "grid",
                "try_first": (),
                "scheduler": "none",
                "controls": "paired",
                "further_controls": (*further, *([EQUAL_TIME] if equal_time else [])),
                "students_per_teacher": 1,
                "max_hours": None,
                "max_gpu_hours": None,
            }
        ),
        resources=space.resources,
        tracking=space.tracking,
        until_settled=until_settled,
        origin={
            "experiment": str(opened.path),
            "trials": {f"trial {t.number:04d}": {"label": t.label, metric: t.best} for t in best},
        },
    )


def _chosen(numbers: Sequence[int], allowed: Sequence[Trial], path: Path) -> list[Trial]:
    """The trials of these numbers, in this order."""
    known = {trial.number: trial for trial in allowed}
    for number in numbers:
        if number not in known:
            raise ConfigError(
                f"{path}: trial {number} is not one that can be confirmed: it needs a teacher, a "
                "score, and costs within the sweep's constraints",
                path=("trial",),
                value=number,
                allowed=", ".join(map(str, known)),
            )
    return [known[number] for number in numbers]


def _without_seed(sweep: Sweep, trial: Trial) -> str:
    """A trial's job but for what a confirmation changes: equal texts are equal jobs."""
    job = sweep.job_to_run(trial.number)
    train = {key: value for key, value in job["train"].items() if key != "seed"}
    return json.dumps({**job, "name": None, "train": train}, sort_keys=True)


def _job(sweep: Sweep, trial: Trial, protocol: str | None) -> Job:
    job = Job.model_validate_json(json.dumps(sweep.job_to_run(trial.number)))
    if protocol is None:
        return job
    train = job.train.model_copy(update={"validate_at": protocol})
    return job.model_copy(update={"train": train})
