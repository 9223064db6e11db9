"""For how many epochs a control without a teacher trains in the time of its pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kdsweep.config import JobList, Space
from kdsweep.config.sweep import EQUAL_TIME
from kdsweep.sweep.ray.preflight import Measure
from kdsweep.training.step_cost import StepCost

EqualTime = Mapping[str, Mapping[str, float]]
"""By job ``epochs``, ``pair_s`` and ``control_s``, as a ledger's first line has them."""


def what_to_measure(space: Space | JobList) -> Measure | None:
    """Return whose steps decide on something in a new sweep."""
    if EQUAL_TIME in space.sweep.further_controls:
        return "each"
    return "largest" if space.sweep.students_per_teacher == "auto" else None


def decide_equal_time(
    space: Space | JobList, measured: Mapping[str, Any] | None, note: Callable[[str], None]
) -> EqualTime:
    """Return what the controls of equal time go by; empty without such.

    Args:
        space: What is trained.
        measured: What a runner's ``measure`` found of each job, where it was asked; of a sweep that
            goes on the ledger knows.
        note: Told what was decided.
    """
    if not isinstance(space, JobList) or measured is None:
        return {}
    found = {}
    for (name, job), cost in zip(space.jobs.items(), measured["costs"], strict=False):
        steps, epochs = StepCost.from_json(cost), job.train.epochs
        pair = epochs, job.distill.head_start_epochs
        found[name] = {
            "epochs": steps.equal_epochs(*pair),
            "pair_s": steps.pair_s(*pair) / epochs,
            "control_s": steps.alone_epoch_s,
        }
        note(
            f"equal time: {found[name]['epochs']} epochs of {name} without a teacher take as long "
            f"as {epochs} with it, by a few measured steps"
        )
    return found
