"""``kdsweep list`` and ``kdsweep status`` on the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kdsweep.config.metrics import metric_of
from kdsweep.reporting import formats
from kdsweep.reporting.columns import Column, print_table, print_text, printable
from kdsweep.reporting.constraints import bound_sentences, nothing_within
from kdsweep.reporting.pareto import front_sentence
from kdsweep.reporting.status import Damaged, RunningTrial, Status


def render_list(found: Sequence[Status | Damaged], folder: Path, console: Console) -> None:
    """Print one line an experiment, and what is wrong with those that cannot be read.

    Args:
        found: What :func:`kdsweep.reporting.read_all_statuses` returned.
        folder: Where they are.
        console: Where to print.
    """
    if not found:
        print_text(console, f"{folder}: no experiments. kdsweep run SPACE.yaml starts one.")
        return
    metrics = {seen.metric for seen in found if isinstance(seen, Status)}
    one_metric = metrics.pop() if len(metrics) == 1 else None
    heading = "best" if one_metric is None else f"best\n{metric_of(one_metric).name}"
    rows = [_list_row(seen) for seen in found]
    columns = [
        Column("experiment", [Path(seen.path).name for seen in found], text=True, least=48),
        Column("started", [row["started"] for row in rows], keep=1),
        Column("state", [row["state"] for row in rows], text=True, least=7),
        Column("trials\nended", [row["trials"] for row in rows], keep=7),
        Column("failed", [row["failed"] for row in rows], keep=2),
        Column(heading, [row["best"] for row in rows], style="bold"),
    ]
    if one_metric is None:
        columns.append(Column("metric", [row["metric"] for row in rows], keep=6, text=True))
    columns += [
        Column("best student", [row["label"] for row in rows], keep=5, text=True, least=20),
        Column("time", [row["time"] for row in rows], keep=3),
    ]
    print_table(console, f"{formats.counted(len(found), 'experiment')} in {folder}", columns)
    for seen in found:
        if isinstance(seen, Damaged):
            print_text(console, seen.error.split("\n")[0], style="red", wrap=False)
        elif seen.confirmed_by:
            by = ", ".join(Path(path).name for path in seen.confirmed_by)
            print_text(console, f"{Path(seen.path).name} is confirmed by {by}", wrap=False)


def render_status(seen: Status, console: Console) -> None:
    """Print what runs now, what has ended, the best so far, and the budgets."""
    head = Text(printable(seen.name or "sweep"), style="bold")
    head.append(f"  {seen.state}", style=formats.STATE_STYLES.get(seen.state, "dim"))
    if seen.reason:
        head.append(f" ({printable(formats.pause_reason(seen.reason))})", style="dim")
    console.print(head)
    print_text(console, seen.path, wrap=False, style="dim")
    for line in _status_lines(seen):
        print_text(console, line)
    for what, path in (
        ("confirms", seen.confirms),
        *(("confirmed by", p) for p in seen.confirmed_by),
    ):
        if path is not None:
            print_text(console, f"{what}: {formats.short_path(Path(path))}", wrap=False)
    console.print()
    print_table(console, "Running", _running_columns(seen.running, seen.metric))
    for line in _what_now(seen):
        print_text(console, line, wrap=False)


def ago(seconds: float) -> str:
    """A time gone by, in the unit that suits it."""
    return f"{seconds / 86400:.1f} days" if seconds >= 172_800 else formats.duration(seconds / 3600)


def _list_row(seen: Status | Damaged) -> dict[str, str]:
    if isinstance(seen, Damaged):
        columns = ("started", "trials", "failed", "best", "metric", "label", "time")
        return {**dict.fromkeys(columns, formats.MISSING), "state": "damaged"}
    started = formats.MISSING
    if seen.started is not None:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(seen.started))
    return {
        "started": started,
        "state": seen.state,
        "trials": _ended(seen),
        "failed": str(seen.states["failed"]),
        "best": formats.score(seen.best["value"] if seen.best else None),
        "metric": metric_of(seen.metric).name,
        "label": seen.best["label"] if seen.best else formats.MISSING,
        "time": formats.duration(seen.hours),
    }


def _ended(seen: Status) -> str:
    planned = formats.MISSING if seen.num_planned is None else str(seen.num_planned)
    return f"{seen.num_ended}/{planned}"


def _status_lines(seen: Status) -> list[str]:
    fates = ", ".join(f"{count} {state}" for state, count in seen.states.items() if count)
    lines = [f"trials: {_ended(seen)} ended{f' ({fates})' if fates else ''}"]
    if seen.num_controls:
        lines[0] += f" · controls: {seen.num_controls_ended}/{seen.num_controls} ended"
    if seen.num_outdated:
        trials = formats.counted(seen.num_outdated, "trial")
        lines.append(f"{trials} of them on data that have changed since: compared with no other")
    lines += [f"data: {short}" for short in seen.data]
    if seen.num_failures:
        lines[0] += f" · {formats.counted(seen.num_failures, 'failure')}, retried ones counted"
    if seen.best is None:
        none = "none" if seen.num_too_costly else "no trial has finished an epoch yet"
        lines.append(f"best: {none}")
        if seen.num_too_costly:
            lines.append(nothing_within(seen.constraints))
    else:
        lines.append(
            f"best: {metric_of(seen.metric).name} {formats.score(seen.best['value'])}, "
            f"trial {seen.best['number']}, {seen.best['label']}"
        )
    if seen.front:
        lines.append(front_sentence([each["values"] for each in seen.front]))
    lines += bound_sentences(seen.constraints, seen.num_too_costly, seen.rejected)
    lines.append(f"used: {' · '.join(_used(seen))}")
    if seen.silent_s is not None:
        lines.append(f"last word: {ago(seen.silent_s)} ago")
    return lines


def _used(seen: Status) -> list[str]:
    parts = [formats.duration(seen.hours)]
    if seen.max_hours is not None:
        parts[0] += f" of {formats.duration(seen.max_hours)}"
    if seen.gpu_hours or seen.max_gpu_hours is not None:
        limit = "" if seen.max_gpu_hours is None else f" of {seen.max_gpu_hours:g}"
        parts.append(f"{seen.gpu_hours:.2f}{limit} GPU-hours")
    return parts


def _running_columns(running: Sequence[RunningTrial], metric: str) -> list[Column]:
    return [
        Column("trial", [str(trial.number) for trial in running]),
        Column("teacher→student", [trial.label for trial in running], text=True, least=20),
        Column("epoch", [f"{t.epoch}/{formats.number(t.epochs, 'd')}" for t in running]),
        Column(f"last\n{metric_of(metric).name}", [formats.score(t.value) for t in running]),
        Column("best", [formats.score(t.best) for t in running], style="bold", keep=6),
        Column("attempt", [str(t.attempt) for t in running], keep=2),
        Column("last word\nbefore", [ago(t.silent_s) for t in running], keep=4),
    ]


def _what_now(seen: Status) -> list[str]:
    session = seen.session or {}
    who = f"process {session.get('pid')} on {session.get('host')}"
    resume = formats.resume_command(Path(seen.path), seen.reason)
    if seen.state == "running" and seen.session is None:
        return ["It was asked for more trials; its next session begins just now."]
    if seen.state == "running" and seen.driven is None:
        return [f"Whether {who} still runs it cannot be told from here; Ctrl-C there pauses it."]
    if seen.state == "running":
        return [f"{who} runs it; Ctrl-C there pauses it."]
    if seen.state == "starting":
        return [f"{who} has taken it up and goes on just now."]
    if seen.state == "died":
        who = "Its process" if seen.session is None else who
        return [f"{who} is gone. Go on with: {resume}"]
    if seen.state == "paused" and not seen.driven:
        return [f"Go on with: {resume}"]
    if seen.driven:
        return [f"{who} holds it: it begins or ends just now."]
    return []
