"""``kdsweep list`` and ``kdsweep status`` on the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from kdsweep.config.metrics import metric_of
from kdsweep.ledger.trials import title
from kdsweep.reporting import formats
from kdsweep.reporting.columns import declared, print_state, print_table, print_text
from kdsweep.reporting.constraints import bound_sentences, nothing_within
from kdsweep.reporting.next_steps import what_now
from kdsweep.reporting.pareto import front_sentence
from kdsweep.reporting.status import BestSoFar, Damaged, RunningTrial, Standstill, Status
from kdsweep.reporting.views import EXPERIMENTS, RUNNING, rows_of

_HANGS_SHOWN = 5


def render_list(found: Sequence[Status | Damaged], folder: Path, console: Console) -> None:
    """Print one line an experiment in a folder, and what is wrong with those that are damaged."""
    if not found:
        print_text(console, f"{folder}: no experiments. kdsweep run SPACE.yaml starts one.")
        return
    metrics = {seen.metric for seen in found if isinstance(seen, Status)}
    one_metric = metrics.pop() if len(metrics) == 1 else None
    columns = declared(
        EXPERIMENTS,
        rows_of(EXPERIMENTS, map(_list_row, found)),
        "" if one_metric is None else metric_of(one_metric).name,
        without=() if one_metric is None else ("metric",),
    )
    print_table(console, f"{formats.counted(len(found), 'experiment')} in {folder}", columns)
    for seen in found:
        if isinstance(seen, Damaged):
            print_text(console, seen.error.split("\n")[0], style="red", wrap=False)
        elif seen.confirmed_by:
            by = ", ".join(Path(path).name for path in seen.confirmed_by)
            print_text(console, f"{Path(seen.path).name} is confirmed by {by}", wrap=False)


def render_status(seen: Status, console: Console) -> None:
    """Print what runs now, what has ended, the best so far, and the budgets."""
    print_state(console, seen.name, seen.state, seen.reason)
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
    running = rows_of(RUNNING, map(_running_row, seen.running))
    print_table(console, "Running", declared(RUNNING, running, metric_of(seen.metric).name))
    for line in what_now(seen):
        print_text(console, line, wrap=False)


def ago(seconds: float) -> str:
    """Return a time gone by, in the unit that suits it."""
    return f"{seconds / 86400:.1f} days" if seconds >= 172_800 else formats.duration(seconds / 3600)


def _list_row(seen: Status | Damaged) -> dict[str, Any]:
    name = Path(seen.path).name
    if isinstance(seen, Damaged):
        return {"experiment": name, "state": seen.state}
    started = None
    if seen.started is not None:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(seen.started))
    return {
        "experiment": name,
        "started": started,
        "state": seen.state,
        "ended": _ended(seen),
        "failed": seen.states["failed"],
        "best": seen.best.value if seen.best else None,
        "metric": metric_of(seen.metric).name,
        "label": _named(seen.best) if seen.best else None,
        "time": formats.duration(seen.hours),
    }


def _named(best: BestSoFar) -> str:
    """Return the best trial's name, and its epochs if it was not trained to the end."""
    short = formats.after(best.epochs, best.planned_epochs)
    return f"{title(best.label, best.student, best.teacher)}{f', {short}' if short else ''}"


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
    lines += map(_standstill, seen.hangs[-_HANGS_SHOWN:])
    if seen.best is None:
        none = "none" if seen.num_too_costly else "no trial has finished an epoch yet"
        lines.append(f"best: {none}")
        if seen.num_too_costly:
            lines.append(nothing_within(seen.constraints))
    else:
        lines.append(
            f"best: {metric_of(seen.metric).name} {formats.score(seen.best.value)}, "
            f"trial {seen.best.number}, {_named(seen.best)}"
        )
    if seen.front:
        lines.append(front_sentence([each.values for each in seen.front]))
    lines += bound_sentences(seen.constraints, seen.num_too_costly, seen.rejected)
    lines.append(f"used: {' · '.join(_used(seen))}")
    if seen.silent_s is not None:
        lines.append(f"last word: {ago(seen.silent_s)} ago")
    return lines


def _standstill(hang: Standstill) -> str:
    there = "" if hang.machine is None else f" on {hang.machine}"
    then = "tried again" if hang.retried else "given up"
    return f"hung: {hang.number:04d} {hang.label}{there}, {then}: {hang.message}"


def _used(seen: Status) -> list[str]:
    parts = [formats.duration(seen.hours)]
    if seen.asked_hours is not None and seen.used_hours is not None:
        trials = formats.counted(seen.num_ended, "trial")
        used = formats.duration(seen.used_hours)
        parts[0] = f"{trials} in {used} of {formats.duration(seen.asked_hours)}"
    if seen.max_hours is not None:
        parts[0] += f" of {formats.duration(seen.max_hours)}"
    if seen.gpu_hours or seen.max_gpu_hours is not None:
        limit = "" if seen.max_gpu_hours is None else f" of {seen.max_gpu_hours:g}"
        parts.append(f"{seen.gpu_hours:.2f}{limit} GPU-hours")
    return parts


def _running_row(trial: RunningTrial) -> dict[str, Any]:
    epoch = f"{trial.epoch}/{formats.number(trial.epochs, 'd')}"
    return {**vars(trial), "epoch": epoch, "silence": ago(trial.silent_s)}
