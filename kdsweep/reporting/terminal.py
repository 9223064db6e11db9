"""A sweep's results on the terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from kdsweep.reporting import formats
from kdsweep.reporting.columns import Column, draw, printable
from kdsweep.reporting.notes import notes
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM
from kdsweep.store import Experiment

_NAME = 14  # terminal cells that tell most encoders apart
_STATE_STYLES = {"done": "green", "running": "cyan", "paused": "yellow", "died": "red"}

# A budget counts all sessions, so going on needs a larger one.
_BUDGET_FLAGS = {"max_hours": " --max-hours N", "max_gpu_hours": " --max-gpu-hours N"}


def render(results: Results, console: Console, top: int = 10) -> None:
    """Print the whole report: best students, pairs, classes of the best, failures, caveats.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        console: Where to; tables fit its width.
        top: Rows of the longer tables.
    """
    _print_head(results, console)
    ranked = results.ranked()
    if ranked.empty:
        _say(console, "No trial has finished an epoch yet.")
    else:
        _table(console, *_best_students(results, ranked, top))
        _table(console, *_pairs(results, top))
        _table(console, *_classes(results))
    if not results.failures.empty:
        _table(console, *_failures(results, top))
        for line in _logs(results):
            _say(console, line, style="dim", wrap=False)
        console.print()
    for note in notes(results):
        _bullet(console, note)


def render_best(results: Results, console: Console, top: int = 5) -> None:
    """Print the end of a run: the best pairs, the best student, what to do next."""
    _print_head(results, console)
    if results.ranked().empty:
        _say(console, "No trial has finished an epoch.")
    else:
        _table(console, *_pairs(results, top))
        _say(console, best_sentence(results), style="bold")
        console.print()
    for note in notes(results, brief=True):
        _bullet(console, note)
    commands = next_commands(results)
    if commands:
        console.print()
        _say(console, "Next:")
        for command, purpose in commands:
            _say(console, f"  # {purpose}", wrap=False, style="dim")
            _say(console, f"  {command}", wrap=False, style="cyan")


def best_sentence(results: Results) -> str:
    """The best trial in one sentence, ties included."""
    best = results.summary["best"]
    assert best is not None
    ties = [number for number in results.summary["best_ties"] if number != best["number"]]
    parts = [f"Best: trial {best['number']}, {best['label']}"]
    parts.append(
        f"{metric_name(results)} {formats.score(best['value'])} at epoch {best['best_epoch']}"
    )
    if best["gain"] is not None:
        parts.append(f"{formats.gain(best['gain'])} against its control")
    if best["params_m"] is not None:
        parts.append(f"{best['params_m']:.1f} M parameters")
    sentence = ", ".join(parts)
    if ties:
        shown = ", ".join(str(number) for number in ties[:5]) + (", …" if len(ties) > 5 else "")
        sentence += f" (equal: trial{'s' if len(ties) > 1 else ''} {shown})"
    return sentence


def next_commands(results: Results) -> list[tuple[str, str]]:
    """Commands worth running now, each with what it does."""
    summary = results.summary
    if summary["experiment"] is None:
        return []
    folder = Path(summary["experiment"])
    commands = []
    if summary["state"] in ("paused", "died"):
        flag = _BUDGET_FLAGS.get(summary["pause_reason"] or "", "")
        commands.append((f"kdsweep resume {_short(folder)}{flag}", "go on where it stopped"))
    commands.append((f"kdsweep report {_short(folder)}", "all tables, also as CSV and Parquet"))
    if summary["best"] is not None:
        job = Experiment(folder).trial(summary["best"]["number"]).job_yaml
        commands.append((f"kdsweep train {_short(job)}", "train the best trial again"))
    return commands


def metric_name(results: Results) -> str:
    """The sweep's metric as a heading."""
    metric = results.summary["metric"]
    return "mIoU" if metric == "student/miou" else str(metric)


def _print_head(results: Results, console: Console) -> None:
    summary = results.summary
    state = summary["state"]
    head = Text(printable(str(summary["name"] or "sweep")), style="bold")
    head.append(f"  {state}", style=_STATE_STYLES.get(state, "dim"))
    if summary["pause_reason"]:
        head.append(f" ({summary['pause_reason']})", style="dim")
    console.print(head)
    planned = f" of {summary['num_planned']}" if summary["num_planned"] else ""
    states = ", ".join(f"{count} {name}" for name, count in summary["states"].items() if count)
    lines = [f"{summary['num_trials']}{planned} trials{f' ({states})' if states else ''}"]
    if summary["num_controls"]:
        lines.append(formats.counted(summary["num_controls"], "control"))
    lines.append(formats.counted(summary["num_epochs"], "epoch"))
    sessions = formats.counted(summary["num_sessions"], "session")
    lines.append(f"{formats.duration(summary['hours'])} in {sessions}")
    if summary["gpu_hours"]:
        lines.append(f"{summary['gpu_hours']:.2f} GPU-hours")
    _say(console, " · ".join(lines))
    data = summary["data"]
    if data.get("source"):
        parts = [str(data["source"])]
        if data.get("num_train") is not None:
            parts.append(f"{data['num_train']} training, {data.get('num_val')} validation frames")
        if data.get("image_size"):
            parts.append("{}×{} pixels (height × width)".format(*data["image_size"]))
        _say(console, f"data: {', '.join(parts)}")
    if summary["notice"]:
        _say(console, f"Note: {summary['notice']}", style="yellow")
    console.print()


def _best_students(results: Results, ranked: pd.DataFrame, top: int) -> tuple[str, list[Column]]:
    shown = ranked.head(top)
    places = ranked["value"].rank(method="min", ascending=False).astype(int).head(top)
    ties = ranked["value"].duplicated(keep=False).head(top)
    unit, factor, form = formats.time_unit(shown["hours"].max())
    with_teacher = bool(shown["teacher_miou"].notna().any())
    with_gain = bool(results.gains["gain"].notna().any())
    columns = [
        Column(
            "# ",
            [f"{place}{'=' if tied else ' '}" for place, tied in zip(places, ties, strict=True)],
        ),
        Column("trial", [str(number) for number in shown["number"]], keep=8),
        Column("teacher", formats.names(shown["teacher"]), text=True, least=_NAME),
        Column("student", formats.names(shown["student"]), text=True, least=_NAME),
        Column(metric_name(results), [formats.score(v) for v in shown["value"]], style="bold"),
    ]
    if with_gain:
        columns.append(Column("gain", [formats.gain(v) for v in shown["gain"]]))
    columns += [
        Column("params\nM", [formats.number(v, ".1f") for v in shown["params_m"]], keep=7),
        Column("best/last\nepoch", _epochs(shown), keep=6),
        Column(f"time\n{unit}", [formats.number(v * factor, form) for v in shown["hours"]], keep=5),
        Column("state", list(shown["state"]), keep=4, text=True, least=11),
    ]
    if with_teacher:
        columns.append(
            Column("teacher\nmIoU", [formats.score(v) for v in shown["teacher_miou"]], keep=3)
        )
    columns.append(Column("seed", [formats.number(v, "d") for v in shown["seed"]], keep=2))
    columns += _drawn_columns(shown)
    more = f" (the first {top} of {len(ranked)})" if len(ranked) > top else ""
    return f"Best students{more}", columns


def _drawn_columns(shown: pd.DataFrame) -> list[Column]:
    """The drawn parameters that differ between rows and are not in the table already."""
    names = [
        column.removeprefix(PARAM)
        for column in map(str, shown)
        if column.startswith(PARAM)
        and not column.startswith((f"{PARAM}teacher.", f"{PARAM}student."))
        and shown[column].astype("object").map(repr).nunique() > 1
    ]
    short = formats.shortest_names(names)
    return [
        Column(short[name], [formats.setting(v) for v in shown[f"{PARAM}{name}"]], keep=1)
        for name in names
    ]


def _pairs(results: Results, top: int) -> tuple[str, list[Column]]:
    pairs = results.pairs
    shown = pairs.head(top)
    metric = metric_name(results)
    columns = [
        Column("teacher", formats.names(shown["teacher"]), text=True, least=_NAME),
        Column("student", formats.names(shown["student"]), text=True, least=_NAME),
        Column("trials", [str(n) for n in shown["num_trials"]]),
        Column(f"best\n{metric}", [formats.score(v) for v in shown["best"]], style="bold"),
    ]
    medians = [Column(f"median\n{metric}", [formats.score(v) for v in shown["median"]], keep=8)]
    if results.gains["gain"].notna().any():
        columns.append(Column("its\ngain", [formats.gain(v) for v in shown["best_gain"]]))
        medians.append(
            Column("median\ngain", [formats.gain(v) for v in shown["median_gain"]], keep=7)
        )
    columns += medians
    columns += [
        Column("params\nM", [formats.number(v, ".1f") for v in shown["params_m"]], keep=6),
        Column("stopped\nearly", [str(n) for n in shown["num_stopped"]], keep=4),
        Column("failed", [str(n) for n in shown["num_failed"]], keep=5),
        Column("best\ntrial", [formats.number(n, "d") for n in shown["best_trial"]], keep=3),
    ]
    more = f" (the first {top} of {len(pairs)})" if len(pairs) > top else ""
    return f"Pairs of teacher and student{more}", columns


def _classes(results: Results) -> tuple[str, list[Column]]:
    best = results.summary["best"]
    assert best is not None
    shown = results.classes[results.classes["trial"] == best["number"]]
    columns = [
        Column("class", list(shown["class"]), text=True),
        Column("student", [formats.score(v) for v in shown["student"]], style="bold"),
    ]
    if shown["control"].notna().any():
        columns.append(Column("control", [formats.score(v) for v in shown["control"]]))
        gain = shown["student"] - shown["control"]
        columns.append(Column("gain", [formats.gain(v) for v in gain]))
    if shown["teacher"].notna().any():
        columns.append(Column("teacher", [formats.score(v) for v in shown["teacher"]]))
    title = (
        f"IoU of each class: trial {best['number']}, {best['label']}, epoch {best['best_epoch']}"
    )
    return title, columns


def _failures(results: Results, top: int) -> tuple[str, list[Column]]:
    failures = results.failures
    first_line = failures["message"].fillna("").str.split("\n").str[0]
    grouped = failures.assign(message=first_line).groupby(["class", "message"], sort=False)
    groups = sorted(grouped, key=lambda item: -len(item[1]))[:top]
    rows = [(str(kind), str(message), rows) for (kind, message), rows in groups]
    columns = [
        Column("failure", [kind for kind, *_ in rows], text=True, least=5),
        Column("times", [str(len(r)) for *_, r in rows]),
        Column("retried", [str(int(r["retried"].sum())) for *_, r in rows], keep=8),
        Column(
            "trials",
            [formats.few(list(dict.fromkeys(r["trial"]))) for *_, r in rows],
            text=True,
            least=6,
        ),
        Column(
            "message", [message or formats.MISSING for _, message, _ in rows], text=True, least=20
        ),
    ]
    more = f" (the commonest {top} kinds)" if len(grouped) > top else ""
    return f"What failed{more}", columns


def _logs(results: Results) -> list[str]:
    """Where to read on: the last failure of each class."""
    last = results.failures.drop_duplicates("class", keep="last")
    return [
        f"log of trial {number}: {_short(Path(str(log)))}"
        for number, log in zip(last["trial"], last["log"], strict=True)
    ]


def _table(console: Console, title: str, columns: Sequence[Column]) -> None:
    if columns and len(columns[0].cells):
        for line in draw(title, columns, console.width):
            console.print(line, no_wrap=True, crop=True)
        console.print()


def _say(console: Console, text: str, style: str = "", wrap: bool = True, end: str = "\n") -> None:
    """Print plain text; unwrapped lines stay whole so that they can be copied."""
    console.print(Text(printable(text), style=style), soft_wrap=not wrap, end=end)


def _bullet(console: Console, text: str) -> None:
    lines = Text(printable(text)).wrap(console, max(console.width - 2, 20))
    for index, line in enumerate(lines):
        line.rstrip()
        console.print(
            Text("· " if index == 0 else "  ", style="dim").append_text(line), style="dim"
        )


def _epochs(trials: pd.DataFrame) -> list[str]:
    pairs = zip(trials["best_epoch"], trials["epochs"], strict=True)
    return [f"{best}/{last}" for best, last in pairs]


def _short(path: Path) -> str:
    """A path as it is best typed: relative where that is below the working folder."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
