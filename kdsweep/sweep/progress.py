"""What a sweep shows while it runs: a live table, plain lines, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import IO, Any, Literal

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kdsweep.store import Event
from kdsweep.sweep.display import event_line, render
from kdsweep.sweep.outcome import Outcome, outcome_lines
from kdsweep.sweep.state import Sweep

Mode = Literal["auto", "live", "plain", "quiet", "json"]

_REFRESH_SECONDS = 0.25


class Progress:
    """Shows nothing; the base of the others.

    Every method is called from one thread, but for :meth:`note`.
    """

    def note(self, text: str) -> None:
        """Say one thing that is not in the ledger, for example the dashboard's address."""

    def event(self, sweep: Sweep, event: Event) -> None:
        """Show an event that was just taken into the state."""

    def tick(self, sweep: Sweep) -> None:
        """Called about ten times a second."""

    def close(self, outcome: Outcome) -> None:
        """Show how it ended."""

    def abort(self) -> None:
        """Leave the terminal in order; an error follows."""


class PlainProgress(Progress):
    """One line per event."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def event(self, sweep: Sweep, event: Event) -> None:
        """Print the event's line, if it has one."""
        line = event_line(sweep, event)
        if line is not None:
            self._print(f"{time.strftime('%H:%M:%S')}  {line}")

    def close(self, outcome: Outcome) -> None:
        """Print the summary."""
        for line in outcome_lines(outcome):
            self._print(line)

    def _print(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


class LiveProgress(Progress):
    """A table that is drawn again in place, for terminals."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._next = 0.0

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(Text(text), soft_wrap=True)

    def event(self, sweep: Sweep, event: Event) -> None:
        """Print failures above the table; all else is in it."""
        if event["event"] == "fail":
            line = event_line(sweep, event)
            self.console.print(Text(line or "", style="yellow"), soft_wrap=True)

    def tick(self, sweep: Sweep) -> None:
        """Draw the table, at most four times a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REFRESH_SECONDS
        if self._live is None:
            # Without rich's own thread: the state changes only between two ticks.
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(render(sweep, time.time(), self.console.width), refresh=True)

    def close(self, outcome: Outcome) -> None:
        """Take the table away and print the summary."""
        self.abort()
        for line in outcome_lines(outcome):
            self.console.print(Text(line), soft_wrap=True)

    def abort(self) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class JsonProgress(Progress):
    """One JSON object a line: the ledger's events as they are written, notes, and the outcome."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def note(self, text: str) -> None:
        """Write a ``note``."""
        self._write({"event": "note", "time": round(time.time(), 3), "text": text})

    def event(self, sweep: Sweep, event: Event) -> None:
        """Write the event."""
        self._write(event)

    def close(self, outcome: Outcome) -> None:
        """Write the ``outcome``."""
        plain = asdict(outcome)
        plain["experiment"] = None if outcome.experiment is None else str(outcome.experiment)
        self._write({"event": "outcome", "time": round(time.time(), 3), **plain})

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._file.flush()


class QuietProgress(Progress):
    """Nothing but failures, and what is left to do at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def event(self, sweep: Sweep, event: Event) -> None:
        """Print failures that end a trial."""
        if event["event"] == "fail" and not event["retry"]:
            self.console.print(Text(event_line(sweep, event) or ""), soft_wrap=True)

    def close(self, outcome: Outcome) -> None:
        """Print the command that goes on, if something is left."""
        if outcome.resume_command is not None:
            self.console.print(Text(outcome.resume_command), soft_wrap=True)


def make_progress(mode: Mode = "auto", console: Console | None = None) -> Progress:
    """The progress of a mode; ``auto`` is a live table on a terminal and plain lines elsewhere.

    Args:
        mode: Which one.
        console: Where to; standard output if left out (``quiet``: standard error).
    """
    if mode == "json":
        return JsonProgress(sys.stdout if console is None else console.file)
    if mode == "quiet":
        return QuietProgress(console or Console(stderr=True, highlight=False))
    console = console or Console(highlight=False)
    if mode == "live" or (mode == "auto" and console.is_terminal):
        return LiveProgress(console)
    return PlainProgress(console)
