"""Evaluations and searches for post-processing, for people to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kdsweep.deploy.bootstrap import LEVEL
from kdsweep.deploy.evaluation import Evaluation
from kdsweep.deploy.search import Search, Tried
from kdsweep.deploy.steps import Steps, step_text
from kdsweep.deploy.tables import change, ends, plain_table, score, scored_text

_NAMES = {
    "miou": "mIoU",
    "miou_seen": "  over all seen",
    "pixel_accuracy": "pixel accuracy",
    "boundary_f": "boundary F",
    "ece": "calibration ECE",
    "lyft/score": "Lyft challenge",
    "lyft/road_f05": "  road F0.5",
    "lyft/vehicle_f2": "  vehicle F2",
}
_WIDE = 110  # terminal cells from which on the reliability table is shown too


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print scores and intervals, whole and by class."""
    facts = evaluation.facts
    head = Text(f"{facts['student']} on {facts['split']}", style="bold")
    height, width = facts["image_size"]
    source = facts["data"]["short"] if facts["data"] else facts["source"]
    head.append(
        f"  {source}, {facts['num_frames']} frames, {height}×{width}, epoch {facts['epoch']}",
        style="dim",
    )
    console.print(head)
    said = scored_text(facts)
    _say(console, f"{said[0].upper()}{said[1:]}.", "dim")
    if facts["split"] == "test":
        _say(console, "This is the test split: score it once, when nothing is left to choose.")
    if facts["postprocess"] != "none":
        _say(
            console,
            f"post-processing {facts['postprocess']}: {facts['ms']:.1f} ms a frame, "
            f"{facts['ms_without']:.1f} ms without",
        )
    console.print()
    _show_scores(evaluation, console)
    _show_classes(evaluation, console)
    if console.width >= _WIDE:
        _show_reliability(evaluation, console)
    interval, px = facts["interval"], facts["boundary_tolerance_px"]
    _say(
        console,
        f"Intervals are {100 * LEVEL:.0f} %, {interval['method']} ({interval['num_resamples']} "
        f"resamples, seed {interval['seed']}). Boundaries may be "
        + ("" if px is None else f"{px:.1f} px apart (")
        + "0.75 % of the diagonal"
        + (" apart." if px is None else ")."),
        "dim",
    )
    for note in evaluation.notes:
        _say(console, f"Note: {note}", "yellow")


def show_search(search: Search, console: Console) -> None:
    """Print what was tried, what pays, and what was not tried."""
    facts = search.facts
    head = Text(f"Post-processing of {facts['student']}", style="bold")
    head.append(
        f"  {facts['source']}, {facts['num_frames']} validation frames, "
        f"{len(search.tried)} chains tried",
        style="dim",
    )
    console.print(head)
    console.print()
    table = plain_table(
        ("step", "left"),
        "mIoU",
        "boundary\nF",
        "mIoU\nadded",
        (f"{100 * LEVEL:.0f} %", "left"),
        "ms\nadded",
        ("pays", "left"),
    )
    baseline = search.baseline
    table.add_row("none", score(baseline["miou"]), score(baseline["boundary_f"]), "", "", "", "")
    for one in search.tried:
        table.add_row(
            Text(step_text(_added(one))),
            score(one.scores["miou"]),
            score(one.scores["boundary_f"]),
            change(one.added.value),
            ends(one.added, signed=True),
            f"{one.added_ms:+.1f}",
            _verdict(one),
            style="bold" if one.chosen else "",
        )
    console.print(table)
    console.print()
    _say(console, _conclusion(search), "bold")
    for chain in dict.fromkeys(one.builds_on for one in search.tried if one.builds_on):
        added = [step_text(_added(one)) for one in search.tried if one.builds_on == chain]
        _say(console, f"On top of {step_text(chain)}: {'  '.join(added)}", "dim")
    _say(
        console,
        "mIoU added is against what a step was put on top of; ms against no post-processing, "
        f"{search.baseline_ms:.1f} ms a frame ({facts['device']}).",
        "dim",
    )
    for name, why in search.not_tried.items():
        _say(console, f"Not tried: {name}, {why}", "yellow")
    if facts["notice"]:
        _say(console, f"Note: {facts['notice']}", "yellow")


def show_written(paths: Sequence[Path], console: Console) -> None:
    """Print where files lie."""
    for path in paths:
        console.print(f"Written: {path}", markup=False, highlight=False, soft_wrap=True)


def _show_scores(evaluation: Evaluation, console: Console) -> None:
    without, differences = evaluation.without, evaluation.differences
    columns: list[str | tuple[str, str]] = [("score", "left"), "value", ("95 %", "left")]
    if without is not None:
        columns += ["without", "difference", ("95 %", "left")]
    table = plain_table(*columns)
    differs = _differs(evaluation)
    for name, shown in _NAMES.items():
        if name in evaluation.scores and (differs or name != "miou_seen"):
            found = evaluation.scores[name]
            row = [shown, score(found.value), ends(found)]
            if without is not None and differences is not None:
                gain = differences[name]
                row += [score(without[name].value), change(gain.value)]
                row.append(ends(gain, signed=True))
            table.add_row(*row)
    console.print(table)
    if differs:
        _say(
            console,
            "Over all seen: mmseg and torchmetrics also count, with an IoU of 0, classes that are "
            "predicted here and have no label.",
            "dim",
        )
    console.print()


def _differs(evaluation: Evaluation) -> bool:
    """Return whether a class that is predicted and has no label would make another mIoU."""
    found = [evaluation.scores, *([evaluation.without] if evaluation.without else [])]
    return any(one["miou"].value != one["miou_seen"].value for one in found)


def _show_classes(evaluation: Evaluation, console: Console) -> None:
    shown = [n for n in evaluation.classes if not math.isnan(evaluation.scores[f"iou/{n}"].value)]
    table = plain_table(("class", "left"), "IoU", ("95 %", "left"), "boundary F", ("95 %", "left"))
    for name in shown:
        iou = evaluation.scores[f"iou/{name}"]
        boundary = evaluation.scores[f"boundary_f/{name}"]
        table.add_row(
            Text(name), score(iou.value), ends(iou), score(boundary.value), ends(boundary)
        )
    console.print(table)
    absent = len(evaluation.classes) - len(shown)
    if absent:
        _say(console, f"{absent} classes have no label in these frames and do not count.", "dim")
    console.print()


def _show_reliability(evaluation: Evaluation, console: Console) -> None:
    table = plain_table(("confidence", "left"), "of pixels", "mean confidence", "accuracy")
    for row in evaluation.reliability:
        if row["share"]:
            table.add_row(
                f"{row['from']:.2f} to {row['to']:.2f}",
                f"{100 * row['share']:.1f} %",
                score(row["confidence"]),
                score(row["accuracy"]),
            )
    console.print(table)
    console.print()


def _conclusion(search: Search) -> str:
    if not search.chosen:
        return (
            "Nothing pays: no step raises mIoU with an interval above zero. Ship the student "
            "without post-processing."
        )
    last = [one for one in search.tried if one.chosen][-1]
    gain = last.against_none
    return (
        f"{step_text(search.chosen)} pays: mIoU {score(last.scores['miou'])} against "
        f"{score(search.baseline['miou'])} without ({change(gain.value)}, 95 % "
        f"{ends(gain, signed=True)}), {last.added_ms:+.1f} ms a frame. It was chosen on these "
        "frames; kdsweep evaluate --split test --postprocess auto says what it is worth."
    )


def _verdict(one: Tried) -> str:
    if one.chosen:
        return "chosen"
    return "yes" if one.pays else "no"


def _added(one: Tried) -> Steps:
    """Return what a chain adds to the one it builds on."""
    return tuple(step for step in one.steps if step not in one.builds_on)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style))
