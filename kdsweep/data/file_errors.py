"""Collecting what is wrong with a data set, so that one error names it all."""

from __future__ import annotations

from pathlib import Path

from kdsweep.data.pictures import FrameError
from kdsweep.errors import DataError

NUM_SHOWN = 5


class Problems:
    """Problems found so far in one data set.

    Args:
        source: Name of the source, the first word of the message.
        root: Folder that file names are shown relative to.
    """

    def __init__(self, source: str, root: Path) -> None:
        self._source = source
        self._root = root
        self._found: list[tuple[Path, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, path: Path, problem: str) -> None:
        """Notes one file and what is wrong with it."""
        self._found.append((path, problem))

    def add_frame(self, problem: FrameError) -> None:
        """Notes what a decoder complained about."""
        self.add(problem.path, problem.problem)

    def raise_if_any(self, num_checked: int, hint: str) -> None:
        """Raises one error for all problems noted.

        Args:
            num_checked: Files that were looked at.
            hint: What to do next.

        Raises:
            DataError: At least one problem was noted.
        """
        if not self._found:
            return
        found = sorted(self._found, key=lambda item: str(item[0]))
        lines = [
            f"{self._source}: {len(found)} of {num_checked} files in {self._root} cannot be used"
        ]
        lines += [f"  {self._shown(path)}: {problem}" for path, problem in found[:NUM_SHOWN]]
        if len(found) > NUM_SHOWN:
            lines.append(f"  … and {len(found) - NUM_SHOWN} more")
        lines.append(f"  try:     {hint}")
        raise DataError("\n".join(lines))

    def _shown(self, path: Path) -> Path:
        return path.relative_to(self._root) if path.is_relative_to(self._root) else path
