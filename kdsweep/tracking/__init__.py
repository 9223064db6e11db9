"""Where epoch reports are sent besides the ledger: a protocol, and Weights & Biases behind it.

Importing this never imports wandb.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdsweep.spec.sweep import TrackingSpec
from kdsweep.store import Experiment
from kdsweep.tracking.account import choose_mode
from kdsweep.tracking.base import NullTracker, Tracker

__all__ = ["NullTracker", "Tracker", "open_tracker"]


def open_tracker(spec: TrackingSpec, folder: Path, sweep_name: str) -> Tracker:
    """The tracker that a search space asks for.

    Nothing is started before the first trial.

    Args:
        spec: The ``tracking`` section.
        folder: The experiment's folder.
        sweep_name: Name of the search space, a tag of every run.
    """
    mode = choose_mode(spec.wandb.mode, os.environ, Path.home(), Path.cwd())
    if mode == "off":
        return NullTracker()
    from kdsweep.tracking.wandb import WandbTracker

    experiment = Experiment(Path(folder).absolute())
    return WandbTracker(
        mode,
        spec.wandb.project,
        spec.wandb.entity,
        group=experiment.name,
        tags=(sweep_name[:64],),
        # wandb itself adds the last part of the path.
        folder=experiment.wandb.parent,
    )
