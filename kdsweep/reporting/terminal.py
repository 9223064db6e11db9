"""A sweep's results on the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from kdsweep.ledger import Experiment
from kdsweep.reporting import formats
from kdsweep.reporting.bounds import nothing_within
from kdsweep.reporting.columns import (
    Column,
    print_bullet,
    print_facts,
    print_table,
    print_text,
    printable,
)
from kdsweep.reporting.front_display import print_front
from kdsweep.reporting.notes import notes
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM
from kdsweep.spec.metrics import metric_of

_NAME = 14  # terminal cells that tell most encoders apart


def render(results: Results, console: Console, top: int = 10) -> None:
    """Print the whole report: best students, pairs, what distillation does, classes, failures.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        console: Where to; tables fit its width.
        top: Rows of the longer tables.
    """
    _print_head(results, console)
    ranked = results.ranked()
    if ranked.empty:
        print_text(console, nothing_yet(results))
    else:
        _print_confirmation(results, console)
        _print_confirmed_by(results, console)
        print_table(console, *_best_students(results, ranked, top))
        print_front(results, console, top)
        print_table(console, *_pairs(results, top))
        print_table(console, *_terms(results, ranked, top))
        print_table(console, *_classes(results))
    if not results.failures.empty:
        print_table(console, *_failures(results, top))
        for line in _logs(results):
            print_text(console, line, style="dim", wrap=False)
        console.print()
    for note in notes(results):
        print_bullet(console, note)


def render_best(results: Results, console: Console, top: int = 5) -> None:
    """Print the end of a run: the best pairs, the best student, what to do next."""
    _print_head(results, console)
    if results.ranked().empty:
        print_text(console, nothing_yet(results))
    elif not results.confirmation.empty:
        _print_confirmation(results, console)
    else:
        print_table(console, *_pairs(results, top))
        print_front(results, console, top)
        print_text(console, best_sentence(results), style="bold")
        console.print()
        _print_confirmed_by(results, console)
    for note in notes(results, brief=True):
        print_bullet(console, note)
    commands = next_commands(results)
    if commands:
        console.print()
        print_text(console, "Next:")
        for command, purpose in commands:
            print_text(console, f"  # {purpose}", wrap=False, style="dim")
            print_text(console, f"  {command}", wrap=False, style="cyan")


def best_sentence(results: Results) -> str:
    """The best trial in one sentence, ties included."""
    best = results.summary.best
    assert best is not None
    ties = [number for number in results.summary.best_ties if number != best.number]
    parts = [f"Best: trial {best.number}, {best.label}"]
    parts.append(f"{metric_name(results)} {formats.score(best.value)} at epoch {best.best_epoch}")
    if best.gain is not None:
        parts.append(f"{formats.gain(best.gain)} against its control")
    if best.params_m is not None:
        parts.append(f"{best.params_m:.1f} M parameters")
    if best.latency_ms is not None:
        parts.append(f"{formats.amount(best.latency_ms)} ms a frame")
    sentence = ", ".join(parts)
    if ties:
        shown = ", ".join(str(number) for number in ties[:5]) + (", …" if len(ties) > 5 else "")
        sentence += f" (equal: trial{'s' if len(ties) > 1 else ''} {shown})"
    return sentence


def nothing_yet(results: Results) -> str:
    """Why there is no best student."""
    summary = results.summary
    if summary.num_too_costly:
        return nothing_within(summary.constraints)
    if summary.num_trials and summary.states["failed"] == summary.num_trials:
        return "Every trial failed before its first epoch was finished."
    return "No trial has finished an epoch yet."


def next_commands(results: Results) -> list[tuple[str, str]]:
    """Commands worth running now, each with what it does."""
    summary = results.summary
    if summary.experiment is None:
        return []
    folder = Path(summary.experiment)
    commands = []
    if summary.state in ("paused", "died"):
        resume = formats.resume_command(folder, summary.pause_reason)
        commands.append((resume, "go on where it stopped"))
    commands.append((f"kdsweep report {formats.short_path(folder)}", "all tables, also as files"))
    confirmed = summary.confirmed_by
    if confirmed:
        path = formats.short_path(Path(confirmed[-1]["experiment"]))
        commands.append((f"kdsweep report {path}", "what its confirmation found"))
    if summary.best is not None:
        job = Experiment(folder).trial(summary.best.number).job_yaml
        again = f"kdsweep train {formats.short_path(job)}"
        # On CPUs sums depend on how many threads share them.
        if summary.cpus_per_trial and not summary.gpu_hours:
            again += f" --threads {summary.cpus_per_trial}"
        commands.append((again, "train the best trial again"))
        if results.confirmation.empty and summary.state == "done" and not confirmed:
            confirm = f"kdsweep confirm {formats.short_path(folder)}"
            commands.append((confirm, "did the teacher help? the best jobs on fresh seeds"))
    return commands


def metric_name(results: Results) -> str:
    """The sweep's metric as a heading."""
    return metric_of(results.summary.metric).name


def _print_head(results: Results, console: Console) -> None:
    summary = results.summary
    state = summary.state
    head = Text(printable(str(summary.name or "sweep")), style="bold")
    head.append(f"  {state}", style=formats.STATE_STYLES.get(state, "dim"))
    if summary.pause_reason:
        head.append(f" ({printable(formats.pause_reason(summary.pause_reason))})", style="dim")
    console.print(head)
    lines = summary.counts()
    sessions = formats.counted(summary.num_sessions, "session")
    lines.append(f"{formats.duration(summary.hours)} in {sessions}")
    if summary.gpu_hours:
        lines.append(f"{summary.gpu_hours:.2f} GPU-hours")
    print_facts(console, lines)
    data = summary.data
    if data.get("source"):
        parts = [str(data["source"])]
        if data.get("num_train") is not None:
            parts.append(f"{data['num_train']} training, {data.get('num_val')} validation frames")
        if data.get("image_size"):
            parts.append("{}×{} pixels (height × width)".format(*data["image_size"]))
        print_text(console, f"data: {', '.join(parts)}")
    if summary.notice:
        print_text(console, f"Note: {summary.notice}", style="yellow")
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
        *_cost_columns(shown),
        Column("best/last\nepoch", _epochs(shown), keep=6),
        Column(f"time\n{unit}", [formats.number(v * factor, form) for v in shown["hours"]], keep=5),
        Column("state", list(shown["state"]), keep=4, text=True, least=11),
    ]
    if with_teacher:
        columns.append(
            Column("teacher\nmIoU", [formats.score(v) for v in shown["teacher_miou"]], keep=3)
        )
    if shown["agreement"].notna().any():
        agreement = [formats.percent(v) for v in shown["agreement"]]
        columns.append(Column("agrees\n%", agreement, keep=3))
    columns.append(Column("seed", [formats.number(v, "d") for v in shown["seed"]], keep=2))
    columns += _drawn_columns(shown)
    more = f" (the first {top} of {len(ranked)})" if len(ranked) > top else ""
    return f"Best students{more}", columns


def _cost_columns(shown: pd.DataFrame) -> list[Column]:
    """What a frame costs at inference, where that was measured."""
    columns = []
    for header, name, keep in (
        ("latency\nms", "latency_ms", 7),
        ("MACs\nG", "macs_g", 4),
        ("memory\nMB", "inference_mb", 3),
        ("95 %\nms", "latency_p95_ms", 2),
    ):
        if shown[name].notna().any():
            form = formats.form_of(shown[name])
            cells = [formats.number(value, form) for value in shown[name]]
            columns.append(Column(header, cells, keep=keep))
    return columns


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
        *(
            [Column("too\ncostly", [str(n) for n in shown["num_too_costly"]], keep=5)]
            if shown["num_too_costly"].any()
            else []
        ),
        Column("failed", [str(n) for n in shown["num_failed"]], keep=5),
        Column("best\ntrial", [formats.number(n, "d") for n in shown["best_trial"]], keep=3),
    ]
    more = f" (the first {top} of {len(pairs)})" if len(pairs) > top else ""
    return f"Pairs of teacher and student{more}", columns


def _terms(results: Results, ranked: pd.DataFrame, top: int) -> tuple[str, list[Column]]:
    places = {number: place for place, number in enumerate(ranked["number"].head(top))}
    terms = results.terms
    shown = terms[terms["trial"].isin(list(places))]
    shown = shown.sort_values("trial", key=lambda numbers: numbers.map(places), kind="stable")
    labels = formats.names(shown["label"])
    several = len(set(labels)) > 1
    columns = [
        Column("trial", [str(number) for number in shown["trial"]]),
        *([Column("teacher→student", labels, keep=6, text=True, least=20)] if several else []),
        Column("term", list(shown["term"]), text=True, least=12),
        Column("epoch", [str(epoch) for epoch in shown["epoch"]], keep=3),
        Column("loss", [formats.number(v, ".3g") for v in shown["raw"]], keep=5),
        Column("weighted", [formats.number(v, ".3g") for v in shown["weighted"]], keep=7),
    ]
    if shown["share"].notna().any():
        columns += [
            Column("gradient\n%", [formats.percent(v) for v in shown["share"]], style="bold"),
            Column("median\n%", [formats.percent(v) for v in shown["median_share"]], keep=8),
            Column("labels\n%", [formats.percent(v) for v in shown["labels_share"]], keep=8),
            Column(
                "",
                [_remark(v, r) for v, r in zip(shown["verdict"], shown["ramp"], strict=True)],
                text=True,
                least=10,
                style="yellow",
            ),
        ]
    more = f" (of the first {top} students)" if len(ranked) > top else ""
    return f"What each distillation term does at the best epoch{more}", columns


def _print_confirmation(results: Results, console: Console) -> None:
    """Repeated seeds: the table, then in words what may be claimed of each job."""
    shown = results.confirmation
    if shown.empty:
        return
    pairs = formats.names(f"{row.teacher}→{row.student}" for row in shown.itertuples(index=False))
    print_table(
        console,
        "Confirmed with repeated seeds (mean ± sd)",
        [
            Column("job", list(shown["job"]), text=True, least=10),
            Column("teacher→student", pairs, keep=3, text=True, least=20),
            Column("split", list(shown["split"]), text=True, least=10),
            Column("seeds", [str(n) for n in shown["seeds"]]),
            Column("student", _spreads(shown["mean"], shown["sd"])),
            Column("control", _spreads(shown["control_mean"], shown["control_sd"]), keep=6),
            Column("gain", [formats.gain(v) for v in shown["gain"]], style="bold"),
            Column("95 %", _intervals(shown["low"], shown["high"])),
            Column("bootstrap", _intervals(shown["boot_low"], shown["boot_high"]), keep=5),
            Column("rank p", [formats.number(v, ".3f") for v in shown["rank_p"]], keep=4),
        ],
    )
    for job, split, words in shown[["job", "split", "claim"]].itertuples(index=False):
        print_bullet(console, f"{job}, {split}: {words}.")
    for note in shown["rank_note"].dropna().unique():
        print_bullet(console, f"rank p (Wilcoxon's signed-rank test): {note}.")
    console.print()


def _print_confirmed_by(results: Results, console: Console) -> None:
    """What experiments that trained the best jobs again allow to claim."""
    for link in results.summary.confirmed_by:
        where = formats.short_path(Path(link["experiment"]))
        state = "" if link["state"] == "done" else f" ({link['state']})"
        line = f"Confirmed with fresh seeds in {where}{state}"
        print_text(console, line, style="bold", wrap=False)
        for row in link["claims"]:
            print_bullet(console, f"{row['job']}, {row['split']}: {row['claim']}.")
        if link["error"] is not None:
            print_bullet(console, link["error"])
    if results.summary.confirmed_by:
        console.print()


def _spreads(means: pd.Series, sds: pd.Series) -> list[str]:
    return [
        formats.score(mean) if pd.isna(sd) else f"{formats.score(mean)} ± {formats.score(sd)}"
        for mean, sd in zip(means, sds, strict=True)
    ]


def _intervals(lows: pd.Series, highs: pd.Series) -> list[str]:
    return [
        "–" if pd.isna(low) else f"{formats.gain(low)} to {formats.gain(high)}"
        for low, high in zip(lows, highs, strict=True)
    ]


def _remark(verdict: str | float, ramp: float) -> str:
    if not pd.isna(verdict):
        return str(verdict)
    return "" if pd.isna(ramp) or ramp >= 1 else f"weight at {formats.percent(ramp)} %"


def _classes(results: Results) -> tuple[str, list[Column]]:
    best = results.summary.best
    assert best is not None
    shown = results.classes[results.classes["trial"] == best.number]
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
    title = f"IoU of each class: trial {best.number}, {best.label}, epoch {best.best_epoch}"
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
        f"log of trial {number}: {formats.short_path(Path(str(log)))}"
        for number, log in zip(last["trial"], last["log"], strict=True)
    ]


def _epochs(trials: pd.DataFrame) -> list[str]:
    pairs = zip(trials["best_epoch"], trials["epochs"], strict=True)
    return [f"{best}/{last}" for best, last in pairs]
