"""What the start of a sweep is doing, a line for each stage with its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from kdsweep.sweep.progress import Progress


class Stages:
    """Times the stages of a start, one after the other.

    Args:
        progress: Shows them.
        clock: Source of monotonic time.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._name: str | None = None
        self._since = 0.0

    def begin(self, name: str) -> None:
        """End the stage before, and begin one.

        Args:
            name: A few words.
        """
        self.end()
        self._name, self._since = name, self._clock()
        self.tick()

    def tick(self) -> None:
        """Show that the stage goes on; may be called as often as one likes."""
        if self._name is not None:
            self._progress.waiting(self._name, self._clock() - self._since)

    def end(self) -> None:
        """Say how long the stage has taken."""
        if self._name is not None:
            self._progress.note(f"{self._name:<10} {self._clock() - self._since:4.1f} s")
            self._name = None

    def drop(self) -> None:
        """Say nothing more of a stage that has not come to its end."""
        self._name = None
