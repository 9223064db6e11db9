"""How a run of a sweep ended: its exit code, its summary, and how to go on."""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kdsweep.disk import disk_problem
from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import FINAL, State


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended.

    Attributes:
        experiment: The experiment's folder; ``None`` if it ended before there was one.
        exit_code: 0 done, 3 done but trials failed, 4 budget reached, 130 interrupted.
        reason: ``done``, or why the sweep paused.
        num_complete: Trials trained to the end; controls are counted by themselves.
        num_stopped: Trials that halving stopped.
        num_too_costly: Trials that ended because they cost more than the sweep allows.
        num_left: Trials that have not ended, those not drawn yet too.
        num_controls: Controls so far.
        num_failed_controls: Those of them that failed.
        best_trial: Number of the trial with the best value, controls included.
        hours: Wall-clock hours over all sessions.
        gpu_hours: GPU-hours over all sessions.
        resume_command: What goes on with the sweep, if anything is left.
        notice: What is to be known about the scores.
        retry_command: What tries failed trials again, if there are any.
    """

    experiment: Path | None
    exit_code: int
    reason: str
    num_complete: int = 0
    num_stopped: int = 0
    num_too_costly: int = 0
    num_failed: int = 0
    num_left: int = 0
    num_controls: int = 0
    num_failed_controls: int = 0
    best_trial: int | None = None
    best_label: str | None = None
    best_value: float | None = None
    hours: float = 0.0
    gpu_hours: float = 0.0
    resume_command: str | None = None
    notice: str | None = None
    retry_command: str | None = None


@dataclass(frozen=True)
class HoursOutcome(Outcome):
    """How a sweep ended that was to end in hours; those used hold measuring and starting too."""

    asked_hours: float = 0.0
    used_hours: float = 0.0


def make_outcome(sweep: Sweep, experiment: Experiment, notice: str | None = None) -> Outcome:
    """How a sweep stands at the end of a session."""
    best = sweep.best()
    search = [trial for trial in sweep.trials.values() if not trial.is_control]
    controls = [trial for trial in sweep.trials.values() if trial.is_control]
    num_too_costly = sum(trial.breaks_bound for trial in search)
    fates = Counter(trial.state for trial in search)
    resume = resume_command(experiment, sweep.paused)
    outcome = Outcome(
        experiment=experiment.path,
        exit_code=exit_code(sweep),
        reason=sweep.paused or ("broken off" if sweep.has_work else "done"),
        num_complete=fates[State.COMPLETE],
        num_stopped=fates[State.STOPPED] - num_too_costly,
        num_too_costly=num_too_costly,
        num_failed=fates[State.FAILED],
        num_left=sweep.header.trials - sum(fates[state] for state in FINAL),
        num_controls=len(controls),
        num_failed_controls=sum(trial.state is State.FAILED for trial in controls),
        best_trial=None if best is None else best.number,
        best_label=None if best is None else best.label,
        best_value=None if best is None else best.best,
        hours=sweep.hours(),
        gpu_hours=sweep.gpu_hours(),
        resume_command=resume if sweep.has_work else None,
        notice=notice,
        retry_command=f"{resume} --retry-failed" if sweep.to_retry() else None,
    )
    if sweep.asked_hours is None:
        return outcome
    return HoursOutcome(
        **vars(outcome), asked_hours=sweep.asked_hours, used_hours=sweep.used_hours()
    )


def exit_code(sweep: Sweep) -> int:
    """The exit code that tells where a sweep stands."""
    if sweep.paused in ("sigint", "sigterm", "sighup"):
        return 130
    if sweep.paused is not None:
        return 4
    if sweep.has_work:
        return 1
    return 3 if sweep.count(State.FAILED) else 0


def resume_command(experiment: Experiment, paused: str | None = None) -> str:
    """The command that goes on with an experiment, as short as it can be from here.

    Args:
        experiment: The experiment.
        paused: Why it paused, if it did; a used-up budget needs a larger one.
    """
    path = experiment.path
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    flag = f" --{paused.replace('_', '-')} N" if paused in ("max_hours", "max_gpu_hours") else ""
    return f"kdsweep resume {shlex.quote(str(path))}{flag}"


def broken_off(experiment: Experiment, error: Exception, scratch: Path) -> KdsweepError:
    """Return what to tell of an error that ended a sweep: what it was, and how to go on."""
    problem = disk_problem(error, (experiment.path, scratch))
    if isinstance(error, FileNotFoundError) and not experiment.ledger.exists():
        problem = f"{experiment.ledger} is not there any more", "put its folder back, or mount it"
    reason, remedy = problem or (str(error), "")
    remedy = f"{remedy}; then " if remedy else ""
    return KdsweepError(
        f"{experiment.path}: the sweep broke off: {reason}\n"
        f"  try:     {remedy}{resume_command(experiment)} goes on from the last line of the ledger"
    )


def outcome_lines(outcome: Outcome) -> list[str]:
    """How it ended, in short; the report that follows says what was found."""
    if outcome.experiment is None:
        return [f"ended before anything was trained ({outcome.reason})"]
    counts = [f"{outcome.num_complete} complete"]
    for number, word in (
        (outcome.num_stopped, "stopped early"),
        (outcome.num_too_costly, "too costly"),
        (outcome.num_failed, "failed"),
        (outcome.num_left, "left"),
    ):
        if number:
            counts.append(f"{number} {word}")
    if outcome.num_controls:
        plural = "" if outcome.num_controls == 1 else "s"
        failed = f" ({outcome.num_failed_controls} failed)" if outcome.num_failed_controls else ""
        counts[-1] += f"; {outcome.num_controls} control{plural}{failed}"
    ending = {
        "done": "done",
        "sigint": "interrupted",
        "sigterm": "interrupted",
        "sighup": "interrupted: its terminal was closed",
        "max_hours": "paused: the budget of hours is used up",
        "max_gpu_hours": "paused: the budget of GPU-hours is used up",
        "storage": "paused: another driver has taken over its copy",
    }.get(outcome.reason, outcome.reason)
    spent = f"{duration(outcome.hours * 3600)}"
    if isinstance(outcome, HoursOutcome):
        spent = f"{duration(outcome.used_hours * 3600)} of {duration(outcome.asked_hours * 3600)}"
    if outcome.gpu_hours:
        spent += f", {outcome.gpu_hours:.2f} GPU-hours"
    lines = [f"{ending}: {', '.join(counts)}  ({spent})"]
    if outcome.resume_command is not None:
        lines.append(f"resume with: {outcome.resume_command}")
    if outcome.retry_command is not None:
        lines.append(f"retry failed trials with: {outcome.retry_command}")
    return lines


def duration(seconds: float) -> str:
    """A length of time for people."""
    seconds = round(max(0.0, seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
