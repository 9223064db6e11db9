"""A sweep's results on the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console

from kdsweep.ledger.given_teachers import teacher_scores
from kdsweep.ledger.trials import title as trial_title
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import data_notes, notes, nothing_yet
from kdsweep.reporting.columns import (
    Column,
    declared,
    print_bullet,
    print_facts,
    print_state,
    print_table,
    print_text,
)
from kdsweep.reporting.confirmation import claims_in
from kdsweep.reporting.lengths import pairs_with_epochs
from kdsweep.reporting.next_steps import next_commands
from kdsweep.reporting.pareto import front_sentence, front_title
from kdsweep.reporting.results import Results
from kdsweep.reporting.verdict import verdict
from kdsweep.reporting.views import (
    CLASSES,
    FAILURES,
    FRONT,
    PAIRS,
    TERMS,
    TRIALS,
    confirmation_view,
    front_rows,
    settings,
    with_places,
    with_titles,
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
        print_text(console, nothing_yet(results.summary))
    else:
        _print_confirmation(results, console)
        _print_answer(results, console)
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
    for note in notes(results, luck=_luck_untold(results)):
        print_bullet(console, note)


def render_best(results: Results, console: Console, top: int = 5) -> None:
    """Print the end of a run: the best pairs, the best student, what to do next."""
    _print_head(results, console)
    if results.ranked().empty:
        print_text(console, nothing_yet(results.summary))
    elif not results.confirmation.empty:
        _print_confirmation(results, console)
    else:
        print_table(console, *_pairs(results, top))
        _print_front(results, console, top)
        _print_answer(results, console)
        _print_confirmed_by(results, console)
    for note in notes(results, brief=True, luck=_luck_untold(results)):
        print_bullet(console, note)
    answer = verdict(results)
    told = None if answer is None or answer.settling is None else answer.settling.command
    commands = [each for each in next_commands(results) if each[0] != told]
    if commands:
        console.print()
        print_text(console, "Next:")
        for command, purpose in commands:
            print_text(console, f"  # {purpose}", wrap=False, style="dim")
            print_text(console, f"  {command}", wrap=False, style="cyan")


def _print_answer(results: Results, console: Console) -> None:
    """Print which network is best, what a teacher did for it, and what would settle that."""
    answer = verdict(results)
    if answer is None:
        return
    print_text(console, answer.ship, style="bold")
    print_text(console, answer.teacher)
    if answer.settle is not None and answer.settling is not None:
        # The command has a line of its own, so that it can be copied.
        print_text(console, answer.settle.removesuffix(answer.settling.command).rstrip())
        print_text(console, f"  {answer.settling.command}", wrap=False, style="cyan")
    console.print()


def _luck_untold(results: Results) -> bool:
    """Return whether the answer does not say what luck alone does."""
    answer = verdict(results)
    return answer is None or not answer.tells_luck


def _print_head(results: Results, console: Console) -> None:
    summary = results.summary
    print_state(console, summary.name, summary.state, summary.pause_reason)
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
            frames = formats.training_frames(data)
            parts.append(f"{frames}, {data.get('num_val')} validation frames")
        if data.get("image_size"):
            parts.append(f"{formats.frame_size(data['image_size'])} (height × width)")
            parts.append(f"scored at {formats.scored_at(summary.protocol)}")
        parts += [f"fingerprint {short[-4:]}" for short in data.get("shorts", ())]
        print_text(console, f"data: {', '.join(parts)}")
    for score in teacher_scores(data):
        print_text(console, f"teacher: {score}")
    if summary.notice:
        print_text(console, f"Note: {summary.notice}", style="yellow")
    for note in data_notes(summary):
        print_text(console, f"Note: {note}", style="yellow")
    console.print()


def _first(num: int, top: int) -> str:
    return f" (the first {top} of {num})" if num > top else ""


def _best_students(results: Results, ranked: pd.DataFrame, top: int) -> tuple[str, list[Column]]:
    shown = with_places(ranked, top)
    more = {"settings": settings(shown, ("teacher.", "student."))}
    without = without_gains(results)
    columns = declared(TRIALS, shown, results.summary.metric_name, more, without)
    return f"Best students{_first(len(ranked), top)}", columns


def _pairs(results: Results, top: int) -> tuple[str, list[Column]]:
    shown = pairs_with_epochs(results.pairs.head(top))
    without = without_gains(results) | without_none(shown, "num_too_costly")
    columns = declared(PAIRS, shown, results.summary.metric_name, without=without)
    return f"Pairs of teacher and student{_first(len(results.pairs), top)}", columns


def _print_front(results: Results, console: Console, top: int) -> None:
    """Print between which students one may choose in several metrics."""
    front, metrics = results.front, results.summary.metrics
    if front.empty:
        return
    shown, more = front_rows(results, top)
    title = f"{front_title(metrics)}{_first(len(front), top)}"
    print_table(console, title, declared(FRONT, shown, results.summary.metric_name, more))
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
    columns = declared(TERMS, with_titles(shown).assign(remark=remarks), without=without)
    more = f" (of the first {top} students)" if len(ranked) > top else ""
    return f"What each distillation term does at the best epoch{more}", columns


def _print_confirmation(results: Results, console: Console) -> None:
    """Print what repeated seeds say, then in words what may be claimed of each job."""
    shown = results.confirmation
    if shown.empty:
        return
    pairs = [f"{row.teacher}→{row.student}" for row in shown.itertuples(index=False)]
    filled = shown.assign(
        pair=pairs,
        students=list(map(formats.spread, shown["mean"], shown["sd"])),
        controls=list(map(formats.spread, shown["control_mean"], shown["control_sd"])),
        interval=list(map(formats.interval, shown["low"], shown["high"])),
        always=list(map(formats.interval, shown["always_low"], shown["always_high"])),
        bootstrap=list(map(formats.interval, shown["boot_low"], shown["boot_high"])),
    )
    columns = declared(confirmation_view(shown), filled, results.summary.metric_name)
    print_table(console, "Confirmed with repeated seeds (mean ± sd)", columns)
    for claim in claims_in(shown):
        print_bullet(console, claim.short)
    for note in shown["rank_note"].dropna().unique():
        print_bullet(console, f"rank p (Wilcoxon's signed-rank test): {note}.")
    console.print()


def _print_confirmed_by(results: Results, console: Console) -> None:
    """Print what experiments that trained the best jobs again allow to claim."""
    for link in results.summary.confirmed_by:
        where = formats.short_path(Path(link.experiment))
        line = f"Confirmed with fresh seeds in {where} {link.remark}".rstrip()
        line += formats.of_protocol(link.protocol)
        print_text(console, line, style="bold", wrap=False)
        if link.other_data:
            print_bullet(console, f"on other data ({'; '.join(link.other_data)})")
        for claim in link.claims:
            print_bullet(console, claim.short)
        if link.error is not None:
            print_bullet(console, link.error)
    if results.summary.confirmed_by:
        console.print()


def _remark(verdict: str | float, ramp: float) -> str:
    if not pd.isna(verdict):
        return str(verdict)
    return "" if pd.isna(ramp) or ramp >= 1 else f"weight at {formats.percent(ramp)} %"


def _classes(results: Results) -> tuple[str, list[Column]]:
    best = results.summary.best
    assert best is not None
    shown = results.best_classes()
    without = set() if shown["control"].notna().any() else {"gain"}
    columns = declared(CLASSES, shown, without=without)
    named = trial_title(best.label, best.student, best.teacher)
    title = f"IoU of each class: trial {best.number}, {named}, epoch {best.best_epoch}"
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
    columns = declared(FAILURES, shown)
    more = f" (the commonest {top} kinds)" if len(grouped) > top else ""
    return f"What failed{more}", columns


def _logs(results: Results) -> list[str]:
    """Say where to read on: the last failure of each class."""
    last = results.failures.drop_duplicates("class", keep="last")
    return [
        f"log of trial {number}: {formats.short_path(Path(str(log)))}"
        for number, log in zip(last["trial"], last["log"], strict=True)
    ]
