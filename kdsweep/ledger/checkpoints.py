"""The last few checkpoints of one trial, each put in place whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from kdsweep.ledger.atomic import is_inside, new_directory

_NAME = re.compile(r"epoch-(\d+)$")


class CheckpointFolder:
    """Numbered checkpoints in a folder; what is inside them is the caller's affair.

    Args:
        path: Where they lie; made when the first one is saved.
        keep: How many stay, at least 1. Two let a trial go on when the newest is damaged.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path = path
        self.keep = max(1, keep)

    def newest_first(self) -> list[Path]:
        """The checkpoints there are."""
        if not self.path.is_dir():
            return []
        found = ((_NAME.match(entry.name), entry) for entry in self.path.iterdir())
        numbered = sorted((int(match.group(1)), entry) for match, entry in found if match)
        return [entry for _, entry in reversed(numbered)]

    def save(self, epoch: int, write: Callable[[Path], None]) -> None:
        """Put an epoch's checkpoint, filled by ``write``, in place, then drop the oldest ones."""
        with new_directory(self.path / f"epoch-{epoch:04d}") as temporary:
            write(temporary)
        for entry in self.newest_first()[self.keep :]:
            if is_inside(entry, self.path.parent):
                shutil.rmtree(entry, ignore_errors=True)


def epoch_of(checkpoint: Path) -> int:
    """Number of finished epochs of a checkpoint that :class:`CheckpointFolder` has named."""
    match = _NAME.match(checkpoint.name)
    assert match is not None, f"{checkpoint} was not named by a CheckpointFolder"
    return int(match.group(1))
