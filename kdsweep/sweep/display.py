"""A sweep in words and as a table, for people to read while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdsweep.config.metrics import metric_of, written
from kdsweep.ledger import Event
from kdsweep.ledger.at_random import names_at_random, random_note
from kdsweep.ledger.events import (
    EpochEvent,
    FailEvent,
    HoursEvent,
    RejectedEvent,
    SettledEvent,
    StartEvent,
    Stop,
    TrialEvent,
)
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import FINAL, State, Trial
from kdsweep.pulse import EPOCH, TRAINING, VALIDATING, Beat
from kdsweep.sweep.heartbeat import Pace
from kdsweep.sweep.outcome import duration

_ENDINGS: dict[str, str] = {
    Stop.COMPLETE: "complete",
    Stop.CONSTRAINT: "costs more than allowed",
    Stop.UNNEEDED: "no longer needed",
    Stop.HOURS: "ended: too few hours are left for its next rung",
}

# Columns from which on steps are told at all, and in words.
_STEPS, _WIDE = 70, 120
_SILENT_SECONDS = 60.0


def event_line(sweep: Sweep, event: Event) -> str | None:
    """One line about an event, or ``None`` if there is nothing to say."""
    if isinstance(event, StartEvent):
        trial = sweep.trials[event.trial]
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        after = f" after epoch {event.epoch}" if event.epoch else ""
        return f"{_name(trial)}  started{after}{again}"
    if isinstance(event, EpochEvent):
        trial = sweep.trials[event.trial]
        line = (
            f"{_name(trial)}  epoch {event.epoch}/{trial.epochs}  "
            f"{metric_name(sweep)} {event.value:.3f}"
        )
        if event.stop is None:
            return line
        word = _ENDINGS.get(event.stop, "stopped at a rung")
        ended = sweep.count(*FINAL)
        and_controls = " and controls" if any(t.is_control for t in sweep.trials.values()) else ""
        return f"{line}  {word} ({ended} of {sweep.num_trials} trials{and_controls} ended)"
    if isinstance(event, SettledEvent):
        return f"{event.job}  settled after {event.seeds} seeds: {event.verdict}; no further seeds"
    if isinstance(event, HoursEvent):
        number = sum(not trial.is_control for trial in sweep.trials.values())
        return f"no time is left for another trial: the sweep ends with {number}"
    if isinstance(event, RejectedEvent):
        return _rejected_line(sweep, event)
    if isinstance(event, TrialEvent) and event.at_random:
        known = names_at_random(t for t in sweep.trials.values() if t.number < event.trial)
        new = [name for name in event.at_random if name not in known]
        return f"warning: {random_note(sweep.header.sampler, new)}" if new else None
    if isinstance(event, FailEvent):
        trial = sweep.trials[event.trial]
        message = event.message.strip().splitlines()
        then = "tried again" if event.retry else "given up"
        if event.job:
            then += f" with batch_size {event.job['batch_size']}"
        first = message[0] if message else ""
        there = f" on {event.machine}" if event.machine else ""
        return f"{_name(trial)}  failed{there} ({event.failure}, {then}): {first}"
    return None


def _rejected_line(sweep: Sweep, event: RejectedEvent) -> str:
    """Why a draw was never trained."""
    bounds = sweep.header.constraints
    reasons = [
        f"{written(metric, bounds[metric] * (1.0 + excess))}, at most {bounds[metric]:g} allowed"
        for metric, excess in event.excess.items()
        if excess > 0
    ]
    return f"{event.label}  not trained: {'; '.join(reasons)}"


def metric_name(sweep: Sweep) -> str:
    """Short name of the sweep's metric."""
    return metric_of(sweep.header.metric).short


def time_left(sweep: Sweep, now: float) -> float | None:
    """Seconds until everything has ended, as far as the epochs so far can tell."""
    trials = sweep.trials.values()
    done = sum(len(t.values) for t in trials)
    if not done or not sweep.sessions:
        return None
    seconds_per_epoch = sweep.slot_hours(now) * 3600 / done
    ended = [t for t in trials if t.state.is_final and not t.is_control]
    full = sweep.header.epochs or 0
    # Trials to come are stopped about as early as those before.
    expected = sum(t.epoch for t in ended) / len(ended) if len(ended) >= 3 else float(full)
    left = sweep.num_undrawn * expected
    left += sum(
        max(1.0, (t.epochs if t.is_control else max(expected, t.epoch + 1.0)) - t.epoch)
        for t in trials
        if not t.state.is_final
    )
    return left * seconds_per_epoch / sweep.sessions[-1].slots


def render(sweep: Sweep, now: float, width: int, paces: Mapping[int, Pace] | None = None) -> Group:
    """The live table: one line on the whole, one line per running trial.

    Args:
        sweep: The state.
        now: Unix time.
        width: Columns.
        paces: How those get on that have told, by cohort.
    """
    overview = _overview(sweep, now, width)
    if not sweep.running():
        return Group(overview)
    return Group(overview, _running_table(sweep, now, width, paces or {}))


def stage_line(stage: str, seconds: float, words: str, beat: Beat | None) -> RenderableType:
    """A stage of the start that goes on, with a bar where it can be counted."""
    begin = f"{stage:<10} {seconds:4.0f} s"
    if beat is None or not beat.total:
        return Text(f"{begin}  {words} …", no_wrap=True, overflow="ellipsis")
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(no_wrap=True)
    line.add_column(width=20)
    line.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(total=beat.total, completed=beat.done)
    line.add_row(begin, bar, f"{beat.done}/{beat.total} {beat.doing}")
    return line


def _overview(sweep: Sweep, now: float, width: int) -> Text:
    ended = sweep.count(*FINAL)
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(f"{sweep.header.name}  ", "bold")
    text.append(f"{ended}/{sweep.num_trials} ended")
    colours = {State.RUNNING: "cyan", State.WAITING: "dim", State.COMPLETE: "green"}
    colours |= {State.STOPPED: "blue", State.FAILED: "red"}
    # Here interrupted trials are among those that wait.
    counts = {state: sweep.count(state) for state in (State.RUNNING, State.WAITING, *FINAL)}
    counts[State.WAITING] += sweep.count(State.INTERRUPTED)
    for state, count in counts.items():
        if count:
            text.append(" · ", "dim").append(f"{count} {state}", colours[state])
    facts = Text(overflow="ellipsis", no_wrap=True)
    best = sweep.best()
    if best is not None:
        facts.append(f"best {metric_name(sweep)} {_number(best.best)}", "bold")
        facts.append(" · ", "dim")
    if sweep.sessions and sweep.sessions[-1].gpus_per_trial:
        facts.append(f"{sweep.gpu_hours(now):.2f} GPU-hours")
    else:
        facts.append(f"{sweep.slot_hours(now):.2f} slot-hours")
    left = time_left(sweep, now)
    facts.append(" · ", "dim")
    facts.append("first epochs" if left is None else f"about {duration(left)} left")
    if best is not None:
        # Last, because a narrow terminal cuts it off.
        facts.append(" · ", "dim").append(f"best is {best.number:04d} {best.title}{_after(best)}")
    separator = Text("  │  ", "dim") if text.cell_len + facts.cell_len + 5 <= width else Text("\n")
    return Text.assemble(text, separator, facts, no_wrap=True, overflow="ellipsis")


def _running_table(sweep: Sweep, now: float, width: int, paces: Mapping[int, Pace]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    shows_steps, in_words = bool(paces) and width >= _STEPS, bool(paces) and width >= _WIDE
    bar = 12 if in_words else 6 if shows_steps else 10 if width < 100 else 24
    rest = 91 if in_words else 52 if shows_steps else 50
    table.add_column("trial", no_wrap=True, overflow="ellipsis", max_width=max(20, width - rest))
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("", width=bar)
    table.add_column(metric_name(sweep), justify="right", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    if shows_steps:
        most = None if in_words else 12
        table.add_column("now", no_wrap=True, overflow="ellipsis", max_width=most)
    for trial in sweep.running():
        seconds = trial.seconds + (now - trial.started if trial.started is not None else 0.0)
        pace = paces.get(trial.cohort)
        row: list[RenderableType] = [
            _name(trial),
            f"{trial.epoch}/{trial.epochs}",
            ProgressBar(total=trial.epochs, completed=trial.epoch + _part(trial, pace)),
            _number(trial.last),
            _number(trial.best),
            duration(seconds),
        ]
        if shows_steps:
            row.append(Text("") if pace is None else _now(pace, in_words))
        table.add_row(*row)
    return table


def _part(trial: Trial, pace: Pace | None) -> float:
    """Which part of the epoch after the last one is trained."""
    if pace is None or pace.beat.epoch != trial.epoch + 1 or pace.beat.doing not in EPOCH:
        return 0.0
    beat = pace.beat
    if beat.doing != TRAINING:
        return 1.0
    return beat.done / beat.total if beat.total else 0.0


def _now(pace: Pace, in_words: bool) -> Text:
    """What an attempt does: ``training 12/40 · 85 frames/s · 23 s left``, or ``12/40``."""
    beat = pace.beat
    count = f"{beat.done}/{beat.total}" if beat.total else ""
    if pace.silence >= _SILENT_SECONDS:
        return Text(f"silent {duration(pace.silence)}", "yellow")
    if not in_words:
        word = {TRAINING: "", VALIDATING: "val"}.get(beat.doing, "" if count else beat.doing)
        return Text(f"{word} {count}".strip())
    parts = [f"{beat.doing} {count}".strip()]
    if pace.frames_per_s is not None:
        parts.append(f"{pace.frames_per_s:.3g} frames/s")
    if pace.left_s is not None:
        parts.append(f"{duration(pace.left_s)} left")
    return Text(" · ".join(parts))


def _name(trial: Trial) -> str:
    return f"{trial.number:04d} {trial.label}"


def _after(trial: Trial) -> str:
    """How far a trial came, where that is not to the end."""
    is_short = trial.planned is not None and trial.epoch < trial.planned
    return f", after {trial.epoch} of {trial.planned} epochs" if is_short else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
