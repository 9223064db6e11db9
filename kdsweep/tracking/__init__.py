"""Where epoch reports are sent besides the ledger: a protocol, and Weights & Biases behind it.

Importing this never imports wandb.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kdsweep.spec.sweep import TrackingSpec
from kdsweep.tracking.account import choose_mode
from kdsweep.tracking.base import NullTracker, Tracker

__all__ = ["NullTracker", "Tracker", "open_tracker"]


def open_tracker(
    spec: TrackingSpec,
    folder: Path,
    sweep_name: str,
    warn: Callable[[str], None] | None = None,
) -> Tracker:
    """The tracker that a search space asks for.

    Nothing is started before the first trial.

    Args:
        spec: The ``tracking`` section.
        folder: Where runs are written, ``Experiment.wandb``.
        sweep_name: Name that no other sweep has, ``Experiment.name``: the runs' group, and with a
            trial's number their id, so that a resumed sweep continues its runs.
        warn: Tells the user what went wrong, once at most; called in the thread that uses the
            tracker. A Python warning if left out.
    """
    mode = choose_mode(spec.wandb.mode, os.environ, Path.home(), Path.cwd())
    if mode == "off":
        return NullTracker()
    from kdsweep.tracking.wandb import WandbTracker

    return WandbTracker(
        mode, spec.wandb.project, spec.wandb.entity, sweep_name, Path(folder).absolute(), warn=warn
    )
