"""Step costs made up for tests, with round numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

from kdsweep.training.step_cost import StepCost

GIB = 2**30


def make_cost(**changes: Any) -> StepCost:
    """A cost in which everything is free but what is given."""
    nothing: dict[str, Any] = {
        field.name: 0.0 for field in dataclasses.fields(StepCost) if field.name.endswith("_s")
    }
    counts = {
        "num_batches": 100,
        "num_val": 0,
        "teacher_bytes": 0,
        "student_bytes": 0,
        "activation_bytes": 0,
        "num_frames": 8,
        "num_rounds": 5,
        "spread": 0.1,
        "device": "a device",
        "threads": 1,
    }
    return StepCost(**nothing | counts | changes)
