"""Whether the disk of an experiment has room for what the sweep will keep there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

# Weights, and two moments of an optimiser such as AdamW.
_STATE = 3
# Two stay, and a third one is being written.
_CHECKPOINTS = 3


def bytes_to_keep(network_bytes: Sequence[int], slots: int, students: int, trials: int) -> int:
    """Return about how many bytes a sweep keeps at once: checkpoints, and each trial's weights.

    Args:
        network_bytes: Of the largest teacher and of the largest student.
        slots: Trials, or cohorts of them, at a time.
        students: Students and controls of a teacher.
        trials: Trials and controls in all.
    """
    teacher, student = network_bytes
    checkpoints = _CHECKPOINTS * _STATE * (teacher + students * student)
    return slots * checkpoints + trials * student


def warn_of_room(folder: Path, needed: int) -> str | None:
    """Return what to say where a disk has less room than that; ``None`` where it has enough."""
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"warning: the disk may fill up: {folder} has {free / 1e9:.1f} GB free, and checkpoints "
        f"and weights may take about {needed / 1e9:.1f} GB\n"
        "  try:     make room there, a smaller sweep.max_concurrent, or --out FOLDER on a larger "
        "disk"
    )
