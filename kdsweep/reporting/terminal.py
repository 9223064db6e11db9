"""A sweep's results on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from kdsweep.config.metrics import metric_of
from kdsweep.ledger import Experiment
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.columns import (
    Column,
    print_bullet,
    print_facts,
    print_table,
    print_text,
    printable,
)
from kdsweep.reporting.constraints import nothing_within
from kdsweep.reporting.fields import Field, View
from kdsweep.reporting.pareto import front_sentence, front_title
from kdsweep.reporting.results import Results
from kdsweep.reporting.views import (
    CLASSES,
    CONFIRMATION,
    FAILURES,
    FRONT,
    PAIRS,
    TERMS,
    TRIALS,
    front_rows,
    settings,
    with_places,
    without_gains,
    without_none,
)


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
        _print_front(results, console, top)
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
        _print_front(results, console, top)
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
            parts.append(f"scored at {formats.scored_at(summary.protocol)}")
        print_text(console, f"data: {', '.join(parts)}")
    if summary.notice:
        print_text(console, f"Note: {summary.notice}", style="yellow")
    console.print()


def _columns(
    view: View,
    shown: pd.DataFrame,
    metric: str,
    more: Mapping[str, Sequence[Field]] | None = None,
    without: Collection[str] = (),
) -> list[Column]:
    """A declared table as columns of the terminal.

    Args:
        view: Its declaration.
        shown: Its rows.
        metric: The sweep's metric as a heading.
        more: As in :meth:`View.of`.
        without: Fields that are not to be shown.
    """
    columns = []
    for field in view.of(view.terminal, shown, more, without):
        heading = field.terminal
        if heading is None:
            heading = "\n".join([field.name, *([field.unit] if field.unit else [])])
        heading = heading.replace("{metric}", metric)
        cells = field.cells(shown[field.key])
        columns.append(Column(heading, cells, field.keep, field.is_text, field.least, field.style))
    return columns


def _first(num: int, top: int) -> str:
    return f" (the first {top} of {num})" if num > top else ""


def _best_students(results: Results, ranked: pd.DataFrame, top: int) -> tuple[str, list[Column]]:
    shown = with_places(ranked, top)
    more = {"settings": settings(shown, ("teacher.", "student."))}
    without = without_gains(results)
    columns = _columns(TRIALS, shown, metric_name(results), more, without)
    return f"Best students{_first(len(ranked), top)}", columns


def _pairs(results: Results, top: int) -> tuple[str, list[Column]]:
    shown = results.pairs.head(top)
    without = without_gains(results) | without_none(shown, "num_too_costly")
    columns = _columns(PAIRS, shown, metric_name(results), without=without)
    return f"Pairs of teacher and student{_first(len(results.pairs), top)}", columns


def _print_front(results: Results, console: Console, top: int) -> None:
    """Several metrics: between which students one may choose."""
    front, metrics = results.front, results.summary.metrics
    if front.empty:
        return
    shown, more = front_rows(results, top)
    title = f"{front_title(metrics)}{_first(len(front), top)}"
    print_table(console, title, _columns(FRONT, shown, metric_name(results), more))
    print_text(console, front_sentence(front[metrics].to_dict("records")), style="bold")
    console.print()


def _terms(results: Results, ranked: pd.DataFrame, top: int) -> tuple[str, list[Column]]:
    places = {number: place for place, number in enumerate(ranked["number"].head(top))}
    terms = results.terms
    shown = terms[terms["trial"].isin(list(places))]
    shown = shown.sort_values("trial", key=lambda numbers: numbers.map(places), kind="stable")
    remarks = [_remark(v, r) for v, r in zip(shown["verdict"], shown["ramp"], strict=True)]
    without = set() if shown["label"].nunique(dropna=False) > 1 else {"label"}
    if not shown["share"].notna().any():
        without |= {"share", "median_share", "labels_share", "remark"}
    columns = _columns(TERMS, shown.assign(remark=remarks), metric_name(results), without=without)
    more = f" (of the first {top} students)" if len(ranked) > top else ""
    return f"What each distillation term does at the best epoch{more}", columns


def _print_confirmation(results: Results, console: Console) -> None:
    """Repeated seeds: the table, then in words what may be claimed of each job."""
    shown = results.confirmation
    if shown.empty:
        return
    pairs = [f"{row.teacher}→{row.student}" for row in shown.itertuples(index=False)]
    filled = shown.assign(
        pair=pairs,
        students=_spreads(shown["mean"], shown["sd"]),
        controls=_spreads(shown["control_mean"], shown["control_sd"]),
        interval=_intervals(shown["low"], shown["high"]),
        bootstrap=_intervals(shown["boot_low"], shown["boot_high"]),
    )
    columns = _columns(CONFIRMATION, filled, metric_name(results))
    print_table(console, "Confirmed with repeated seeds (mean ± sd)", columns)
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
        line = f"Confirmed with fresh seeds in {where}{state}{formats.of_protocol(link)}"
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
    shown = shown.assign(gain=shown["student"] - shown["control"])
    without = set() if shown["control"].notna().any() else {"gain"}
    columns = _columns(CLASSES, shown, metric_name(results), without=without)
    title = f"IoU of each class: trial {best.number}, {best.label}, epoch {best.best_epoch}"
    return title, columns


def _failures(results: Results, top: int) -> tuple[str, list[Column]]:
    failures = results.failures
    first_line = failures["message"].fillna("").str.split("\n").str[0]
    grouped = failures.assign(message=first_line).groupby(["class", "message"], sort=False)
    groups = sorted(grouped, key=lambda item: -len(item[1]))[:top]
    shown = pd.DataFrame(
        {
            "class": str(kind),
            "times": len(rows),
            "num_retried": int(rows["retried"].sum()),
            "trials": formats.few(list(dict.fromkeys(rows["trial"]))),
            "message": message or formats.MISSING,
        }
        for (kind, message), rows in groups
    )
    columns = _columns(FAILURES, shown, metric_name(results))
    more = f" (the commonest {top} kinds)" if len(grouped) > top else ""
    return f"What failed{more}", columns


def _logs(results: Results) -> list[str]:
    """Where to read on: the last failure of each class."""
    last = results.failures.drop_duplicates("class", keep="last")
    return [
        f"log of trial {number}: {formats.short_path(Path(str(log)))}"
        for number, log in zip(last["trial"], last["log"], strict=True)
    ]
