"""How far a step is that may take over two seconds: a bar, or plain lines where it is piped."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from kdsweep.cli.output import terminal

Advance = Callable[[str, int, int], None]

_FIRST_S, _SECOND_S, _MOST_S = 2.0, 10.0, 60.0


@contextmanager
def step_progress(doing: str, *, quiet: bool = False) -> Iterator[Advance]:
    """Show on standard error what is done while the block runs.

    Args:
        doing: What is done first.
        quiet: Show nothing.

    Yields:
        What to call with what is being done, how many are done and how many there are in all (0
        where that is not known).
    """
    if quiet:
        yield lambda doing, done, total: None
    elif sys.stderr.isatty():
        with _bar(doing) as advance:
            yield advance
    else:
        lines = _Lines(doing)
        try:
            yield lines.advance
        finally:
            lines.end()


@contextmanager
def _bar(doing: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)

        def advance(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total or None)

        yield advance


class _Lines:
    """A line after two seconds, ten seconds later, and then ever more seldom, but each minute."""

    def __init__(self, doing: str) -> None:
        self._now = (doing, 0, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def advance(self, doing: str, done: int, total: int) -> None:
        """Take what the next line says."""
        self._now = (doing, done, total)

    def end(self) -> None:
        """Write no further line."""
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        wait = _FIRST_S
        while not self._over.wait(wait):
            doing, done, total = self._now
            count = f" {done}/{total}" if total else ""
            with suppress(OSError, ValueError):  # nobody reads it any more
                print(f"{doing}{count} …", file=sys.stderr, flush=True)
            wait = _SECOND_S if wait == _FIRST_S else min(2 * wait, _MOST_S)
