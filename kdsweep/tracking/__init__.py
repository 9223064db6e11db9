"""Where epoch reports are sent besides the ledger: a protocol, and trackers behind it.

Importing this imports none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kdsweep.config import JobList, Space
from kdsweep.config.tracking import WandbConfig
from kdsweep.config.wandb_sweep import has_ranges, to_wandb_shown
from kdsweep.errors import ConfigError, dotted
from kdsweep.ledger import Experiment, TrialFolder
from kdsweep.tracking.account import choose_mode
from kdsweep.tracking.base import (
    DATA_FINGERPRINT,
    SweepSummary,
    Tracker,
    Trackers,
    TrialDetails,
)
from kdsweep.tracking.sidecar import Sidecar
from kdsweep.tracking.wandb import WandbTracker

__all__ = [
    "DATA_FINGERPRINT",
    "SweepSummary",
    "Tracker",
    "Trackers",
    "TrialDetails",
    "agents_run",
    "open_job_tracker",
    "open_tracker",
]

Warn = Callable[[str], None]
PROJECT = WandbConfig().project


def open_tracker(
    space: Space | JobList, experiment: Experiment, warn: Warn | None = None
) -> Tracker:
    """The trackers that a search space asks for, as one.

    Nothing is started before the first trial.

    Args:
        space: The search space; a list of jobs becomes no W&B sweep.
        experiment: Its folder, in which runs are written. Its name, which no other has, is the
            runs' group, and with a trial's number their id, so that a resumed sweep continues its
            runs.
        warn: Tells the user what went wrong, once at most for each tracker; called in the thread
            that uses the tracker. A Python warning if left out.
    """
    found: list[Tracker] = []
    for name, config in space.tracking.used().items():
        if isinstance(config, WandbConfig):
            found += _open_wandb(config, space, experiment, warn)
            continue
        place = {"group": experiment.name, "dir": str(experiment.tracker(name))}
        options = {**config.model_dump(mode="json"), **place}
        found.append(Sidecar(config.title, config.implementation, options, warn=warn))
    if not found:
        return Trackers()
    return found[0] if len(found) == 1 else Trackers(found)


def _open_wandb(
    config: WandbConfig, space: Space | JobList, experiment: Experiment, warn: Warn | None
) -> list[Tracker]:
    mode = choose_mode(config.mode, os.environ, Path.home(), Path.cwd())
    if mode == "off":
        return []
    sweep, problem = None, None
    if mode == "online" and config.sweep and isinstance(space, Space) and has_ranges(space):
        try:
            sweep = {**to_wandb_shown(space), "name": experiment.name}
        except ConfigError as error:
            problem = f"{error.problem} (here at {dotted(error.path)})"
    tracker = WandbTracker(
        mode,
        config.project,
        config.entity,
        experiment.name,
        experiment.wandb,
        sweep=sweep,
        sweep_file=experiment.wandb_sweep,
        warn=warn,
    )
    if problem is not None:
        tracker.warn(
            f"{problem}, so that the runs belong to no W&B sweep; "
            "tracking.wandb.sweep: false says that this is meant"
        )
    return [tracker]


def open_job_tracker(folder: TrialFolder, warn: Warn | None = None) -> Tracker:
    """A tracker for one job trained without a sweep of kdsweep's, as trial 0.

    What is not known here is taken from wandb's own environment variables. Under ``wandb agent``
    the run is the one that the agent has begun.
    """
    mode = choose_mode("auto", os.environ, Path.home(), Path.cwd())
    if mode == "off":
        return Trackers()
    return WandbTracker(
        mode,
        os.environ.get("WANDB_PROJECT") or PROJECT,
        os.environ.get("WANDB_ENTITY"),
        folder.path.name,
        folder.wandb,
        agent=bool(agents_run()),
        warn=warn,
    )


def agents_run() -> tuple[str, ...]:
    """The id of the run that ``wandb agent`` has started this process for, if it has."""
    run = os.environ.get("WANDB_RUN_ID")
    return (run,) if run and os.environ.get("WANDB_SWEEP_ID") else ()
