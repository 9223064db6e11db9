"""What the start of a sweep is doing: each stage as it begins, with its seconds when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from kdsweep.pulse import Beat
from kdsweep.sweep.progress import Progress

_WORDS = {
    "checks": "looking at this machine and for the data",
    "Ray": "starting or joining it",
    "machines": "looking at each of them",
    "workers": "starting them; they import PyTorch",
    "networks": "building each choice of the space once",
    "data": "preparing frames and weights",
    "teachers": "scoring the given ones",
    "costs": "timing steps and looking at memory",
}


class Stages:
    """Times the stages of a start, one after the other, and has them shown."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._name: str | None = None
        self._since = 0.0
        self._beat: Beat | None = None
        self._before: Beat | None = None

    def begin(self, name: str) -> None:
        """End the stage before, and begin one, named in a few words."""
        self.end()
        self._name, self._since, self._before = name, self._clock(), self._beat
        self._progress.begins(name, _WORDS.get(name, ""))
        self.tick()

    def tick(self, beat: Beat | None = None) -> None:
        """Show that the stage goes on; may be called as often as one likes.

        Args:
            beat: How far a worker is, if one has told; left out where it has not since the stage
                began.
        """
        self._beat = beat or self._beat
        if self._name is not None:
            told = None if self._beat == self._before else self._beat
            self._progress.waiting(self._name, self._clock() - self._since, told)

    def end(self) -> None:
        """Say how long the stage has taken."""
        if self._name is not None:
            self._progress.note(f"{self._name:<10} {self._clock() - self._since:4.1f} s")
            self._name = None

    def drop(self) -> None:
        """Say nothing more of a stage that has not come to its end."""
        self._name = None
