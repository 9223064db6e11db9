"""What a sweep shows while it runs: a live table, plain lines, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdsweep.store import Event
from kdsweep.sweep.state import State, Sweep, Trial

Mode = Literal["auto", "live", "plain", "quiet", "json"]

_REFRESH_SECONDS = 0.25


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended.

    Attributes:
        experiment: The experiment's folder; ``None`` if it ended before there was one.
        exit_code: 0 done, 3 done but trials failed, 4 budget reached, 130 interrupted.
        reason: ``done``, or why the sweep paused.
        num_complete: Trials trained to the end, controls included.
        num_stopped: Trials that halving stopped.
        num_failed: Trials that failed.
        num_left: Trials that have not ended.
        best_trial: Number of the search trial with the best value.
        best_label: Its name.
        best_value: Its value.
        hours: Wall-clock hours over all sessions.
        gpu_hours: GPU-hours over all sessions.
        resume_command: What goes on with the sweep, if anything is left.
        notice: What is to be known about the scores.
    """

    experiment: Path | None
    exit_code: int
    reason: str
    num_complete: int = 0
    num_stopped: int = 0
    num_failed: int = 0
    num_left: int = 0
    best_trial: int | None = None
    best_label: str | None = None
    best_value: float | None = None
    hours: float = 0.0
    gpu_hours: float = 0.0
    resume_command: str | None = None
    notice: str | None = None


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


# ---------------------------------------------------------------------------------------------
# Words


def event_line(sweep: Sweep, event: Event) -> str | None:
    """One line about an event, or ``None`` if there is nothing to say."""
    kind = event["event"]
    if kind == "start":
        trial = sweep.trials[event["trial"]]
        again = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
        after = f" after epoch {event['epoch']}" if event["epoch"] else ""
        return f"{_name(trial)}  started{after}{again}"
    if kind == "epoch":
        trial = sweep.trials[event["trial"]]
        line = (
            f"{_name(trial)}  epoch {event['epoch']}/{trial.epochs}  "
            f"{metric_name(sweep)} {event['value']:.3f}"
        )
        if event["stop"] is None:
            return line
        word = "complete" if event["stop"] == "complete" else "stopped at a rung"
        ended = sum(sweep.count(s) for s in State if s.is_final)
        return f"{line}  {word} ({ended} of {sweep.num_trials} trials ended)"
    if kind == "fail":
        trial = sweep.trials[event["trial"]]
        message = event["message"].strip().splitlines()
        then = "tried again" if event["retry"] else "given up"
        if "job" in event:
            then += f" with batch_size {event['job']['batch_size']}"
        first = message[0] if message else ""
        return f"{_name(trial)}  failed ({event['class']}, {then}): {first}"
    return None


def outcome_lines(outcome: Outcome) -> list[str]:
    """The summary at the end."""
    if outcome.experiment is None:
        return [f"ended before anything was trained ({outcome.reason})"]
    counts = [f"{outcome.num_complete} complete"]
    for number, word in (
        (outcome.num_stopped, "stopped early"),
        (outcome.num_failed, "failed"),
        (outcome.num_left, "left"),
    ):
        if number:
            counts.append(f"{number} {word}")
    ending = {
        "done": "done",
        "sigint": "interrupted",
        "sigterm": "interrupted",
        "max_hours": "paused: the budget of hours is used up",
        "max_gpu_hours": "paused: the budget of GPU-hours is used up",
    }.get(outcome.reason, outcome.reason)
    spent = f"{_duration(outcome.hours * 3600)}"
    if outcome.gpu_hours:
        spent += f", {outcome.gpu_hours:.2f} GPU-hours"
    lines = [f"{ending}: {', '.join(counts)}  ({spent})"]
    if outcome.best_value is not None:
        lines.append(
            f"best: {outcome.best_value:.3f} by trial {outcome.best_trial:04d} {outcome.best_label}"
        )
    if outcome.notice is not None:
        lines.append(outcome.notice)
    if outcome.resume_command is not None:
        lines.append(f"to go on: {outcome.resume_command}")
    return lines


def metric_name(sweep: Sweep) -> str:
    """Short name of the sweep's metric."""
    name = str(sweep.header["metric"]).rsplit("/", 1)[-1]
    return "mIoU" if name == "miou" else name


def time_left(sweep: Sweep, now: float) -> float | None:
    """Seconds until everything has ended, as far as the epochs so far can tell."""
    trials = sweep.trials.values()
    done = sum(len(t.values) for t in trials)
    if not done or not sweep.sessions:
        return None
    seconds_per_epoch = sweep.slot_hours(now) * 3600 / done
    ended = [t for t in trials if t.state.is_final and not t.is_control]
    full = int(sweep.header["epochs"])
    # Trials to come are stopped about as early as those before.
    expected = sum(t.epoch for t in ended) / len(ended) if len(ended) >= 3 else float(full)
    left = sweep.num_undrawn * expected
    left += sum(
        max(1.0, (t.epochs if t.is_control else max(expected, t.epoch + 1.0)) - t.epoch)
        for t in trials
        if not t.state.is_final
    )
    return left * seconds_per_epoch / sweep.sessions[-1].slots


# ---------------------------------------------------------------------------------------------
# Drawing


def render(sweep: Sweep, now: float, width: int) -> Group:
    """The live table: one line on the whole, one line per running trial."""
    overview = _overview(sweep, now, width)
    return (
        Group(overview, _running_table(sweep, now, width)) if sweep.running() else Group(overview)
    )


def _overview(sweep: Sweep, now: float, width: int) -> Text:
    ended = sum(sweep.count(state) for state in State if state.is_final)
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(f"{sweep.header['name']}  ", "bold")
    text.append(f"{ended}/{sweep.num_trials} ended")
    colours = {State.RUNNING: "cyan", State.WAITING: "dim", State.COMPLETE: "green"}
    colours |= {State.STOPPED: "blue", State.FAILED: "red"}
    for state in (State.RUNNING, State.WAITING, State.COMPLETE, State.STOPPED, State.FAILED):
        if sweep.count(state):
            text.append(" · ", "dim").append(f"{sweep.count(state)} {state}", colours[state])
    facts = Text(overflow="ellipsis", no_wrap=True)
    best = sweep.best()
    if best is not None:
        facts.append(f"best {metric_name(sweep)} {_number(best.best)}", "bold green")
        facts.append(" · ", "dim")
    if sweep.sessions and sweep.sessions[-1].gpus_per_trial:
        facts.append(f"{sweep.gpu_hours(now):.2f} GPU-hours")
    else:
        facts.append(f"{sweep.slot_hours(now):.2f} slot-hours")
    left = time_left(sweep, now)
    facts.append(" · ", "dim")
    facts.append("first epochs" if left is None else f"about {_duration(left)} left")
    if best is not None:
        # Last, because a narrow terminal cuts it off.
        facts.append(" · ", "dim").append(f"best is {_name(best)}")
    separator = Text("  │  ", "dim") if text.cell_len + facts.cell_len + 5 <= width else Text("\n")
    return Text.assemble(text, separator, facts, no_wrap=True, overflow="ellipsis")


def _running_table(sweep: Sweep, now: float, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("trial", no_wrap=True, overflow="ellipsis", max_width=max(20, width - 50))
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("", width=10 if width < 100 else 24)
    table.add_column(metric_name(sweep), justify="right", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for trial in sweep.running():
        seconds = trial.seconds + (now - trial.started if trial.started is not None else 0.0)
        table.add_row(
            _name(trial),
            f"{trial.epoch}/{trial.epochs}",
            ProgressBar(total=trial.epochs, completed=trial.epoch),
            _number(trial.last),
            _number(trial.best),
            _duration(seconds),
        )
    return table


def _name(trial: Trial) -> str:
    return f"{trial.number:04d} {trial.label}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    seconds = round(max(0.0, seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
