"""What a sweep shows while it runs: a live table, plain lines, JSON lines, or nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, Any, Literal

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from kdsweep.ledger import Event
from kdsweep.ledger.events import FailEvent, TrialEvent, to_json
from kdsweep.ledger.state import Sweep
from kdsweep.plain_text import printable
from kdsweep.pulse import Beat
from kdsweep.sweep.display import event_line, render, stage_line
from kdsweep.sweep.heartbeat import Pace
from kdsweep.sweep.outcome import Outcome, outcome_lines

Mode = Literal["auto", "live", "plain", "quiet", "json", "notebook"]

_REFRESH_SECONDS = 0.25
_STILL_WAITING_SECONDS = 30.0
_NO_PACES: Mapping[int, Pace] = {}


class Progress:
    """Shows nothing; the base of the others.

    Every method is called from one thread, but for :meth:`note`.
    """

    def note(self, text: str) -> None:
        """Say one thing that is not in the ledger, for example the address of Ray's page."""

    def begins(self, stage: str, words: str) -> None:
        """Show that a stage of the start begins, and in words what is done in it."""

    def waiting(self, stage: str, seconds: float, beat: Beat | None = None) -> None:
        """Show how long a stage of the start has taken, and how far it is; called often."""

    def event(self, sweep: Sweep, event: Event) -> None:
        """Show an event that was just taken into the state."""

    def tick(self, sweep: Sweep, paces: Mapping[int, Pace] = _NO_PACES) -> None:
        """Called about ten times a second, with the paces of cohorts that have told."""

    def close(self, outcome: Outcome) -> None:
        """Show how it ended."""

    def abort(self) -> None:
        """Leave the terminal in order; an error follows."""


class PlainProgress(Progress):
    """One line per event."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._next_line = _STILL_WAITING_SECONDS

    def begins(self, stage: str, words: str) -> None:
        """Print a line."""
        self._print(f"{stage:<10} {f'{words} ' if words else ''}…")

    def waiting(self, stage: str, seconds: float, beat: Beat | None = None) -> None:
        """Print a line every half minute."""
        if seconds < 1.0:
            self._next_line = _STILL_WAITING_SECONDS
        if seconds >= self._next_line:
            self._next_line += _STILL_WAITING_SECONDS
            told = f", {beat.words}" if beat is not None and beat.doing else ""
            self._print(f"{stage}: {seconds:.0f} s so far{told}")

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
        self.console.print(Text(printable(text)), soft_wrap=True)


class LiveProgress(Progress):
    """A table that is drawn again in place, for terminals."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._words = ""
        self._next = 0.0

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(Text(printable(text)), soft_wrap=True)

    def begins(self, stage: str, words: str) -> None:
        """Remember what is done; it is drawn in place."""
        self._words = words
        self._next = 0.0

    def waiting(self, stage: str, seconds: float, beat: Beat | None = None) -> None:
        """Draw the stage and its seconds in place, with a bar where it can be counted."""
        self._draw(lambda: stage_line(stage, seconds, self._words, beat))

    def event(self, sweep: Sweep, event: Event) -> None:
        """Print failures and what a sampler cannot learn above the table; all else is in it."""
        line = event_line(sweep, event) if isinstance(event, FailEvent | TrialEvent) else None
        if line is not None:
            self.console.print(Text(printable(line), style="yellow"), soft_wrap=True)

    def tick(self, sweep: Sweep, paces: Mapping[int, Pace] = _NO_PACES) -> None:
        """Draw the table, at most four times a second."""
        self._draw(lambda: render(sweep, time.time(), self.console.width, paces))

    def _draw(self, make: Callable[[], RenderableType]) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REFRESH_SECONDS
        if self._live is None:
            # Without rich's own thread: the state changes only between two ticks.
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(make(), refresh=True)

    def close(self, outcome: Outcome) -> None:
        """Take the table away and print the summary."""
        self.abort()
        for line in outcome_lines(outcome):
            self.console.print(Text(printable(line)), soft_wrap=True)

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
        self._write(to_json(event))

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
        if isinstance(event, FailEvent) and not event.retry:
            self.console.print(Text(printable(event_line(sweep, event) or "")), soft_wrap=True)

    def close(self, outcome: Outcome) -> None:
        """Print the command that goes on, if something is left."""
        if outcome.resume_command is not None:
            self.console.print(Text(printable(outcome.resume_command)), soft_wrap=True)


class LastingProgress(Progress):
    """Shows what another progress shows, as long as there is somebody to show it to.

    A sweep outlives its output: a pipe whose reader has left (``| head``), a terminal that is
    closed, a full disk. The loss is told once on standard error; from then on nothing is shown.

    Attributes:
        shown: What is shown; nothing after a loss.
    """

    def __init__(self, shown: Progress, file: IO[str]) -> None:
        self.shown = shown
        self._file = file

    def note(self, text: str) -> None:
        """Say it if that is possible."""
        self._try(lambda: self.shown.note(text))

    def begins(self, stage: str, words: str) -> None:
        """Show it if that is possible."""
        self._try(lambda: self.shown.begins(stage, words))

    def waiting(self, stage: str, seconds: float, beat: Beat | None = None) -> None:
        """Show it if that is possible."""
        self._try(lambda: self.shown.waiting(stage, seconds, beat))

    def event(self, sweep: Sweep, event: Event) -> None:
        """Show it if that is possible."""
        self._try(lambda: self.shown.event(sweep, event))

    def tick(self, sweep: Sweep, paces: Mapping[int, Pace] = _NO_PACES) -> None:
        """Show it if that is possible."""
        self._try(lambda: self.shown.tick(sweep, paces))

    def close(self, outcome: Outcome) -> None:
        """Show it if that is possible."""
        self._try(lambda: self.shown.close(outcome))

    def abort(self) -> None:
        """Leave the terminal in order if there is one."""
        self._try(self.shown.abort)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            lost, self.shown = self.shown, Progress()
            _discard(self._file)
            with contextlib.suppress(OSError):
                lost.abort()
            text = (
                f"warning: nothing can be shown any more ({error.strerror or error}); the sweep "
                "goes on, and kdsweep status --watch shows it"
            )
            try:
                print(text, file=sys.stderr, flush=True)
            except OSError:
                _discard(sys.stderr)


def _discard(file: IO[str]) -> None:
    """Send what else is written to a standard stream, and what is in its buffer, nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a file in memory has no number
        if file.fileno() in (1, 2):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, file.fileno())
            os.close(null)


class _Console(Console):
    """Passes a broken pipe on, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def make_progress(mode: Mode = "auto", console: Console | None = None) -> LastingProgress:
    """The progress of a mode.

    ``auto`` is a live table on a terminal and plain lines elsewhere; ``notebook`` a live table in a
    notebook and quiet elsewhere.

    Args:
        mode: Which one.
        console: Where to; standard output if left out (``quiet``: standard error).
    """
    if mode == "json":
        file = sys.stdout if console is None else console.file
        return LastingProgress(JsonProgress(file), file)
    if mode == "notebook":
        from kdsweep.sweep.notebook import NotebookProgress, is_notebook

        if is_notebook():
            return LastingProgress(NotebookProgress(), sys.stdout)
        mode = "quiet"
    console = console or _Console(stderr=mode == "quiet", highlight=False)
    if mode == "quiet":
        shown: Progress = QuietProgress(console)
    elif mode == "live" or (mode == "auto" and console.is_terminal):
        shown = LiveProgress(console)
    else:
        shown = PlainProgress(console)
    return LastingProgress(shown, console.file)
