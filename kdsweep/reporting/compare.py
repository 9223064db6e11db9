"""Experiments side by side: the best student of each, what it gains, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from kdsweep.config.metrics import SEEN, metric_of
from kdsweep.errors import ExperimentError
from kdsweep.ledger import Experiment
from kdsweep.ledger.trials import FINAL
from kdsweep.reporting import formats
from kdsweep.reporting.columns import Column, print_bullet, print_table
from kdsweep.reporting.constraints import allowed
from kdsweep.reporting.results import Results, load


@dataclass(frozen=True)
class Compared:
    """One experiment of a comparison.

    Attributes:
        path: Its folder.
        state: As in ``summary.state``.
        metric: The sweep's metric; of several the score that decides on epochs.
        metrics: All that the sweep searches by.
        constraints: Most that is allowed of each bounded cost.
        trial, student, teacher: The best trial; ``None`` before there is one, as all that follow.
        value: Its best value of the metric.
        gain: Against its control, in the metric's own unit.
        gain_matched: Whether that control differs in nothing but teacher and distillation.
        params_m: Millions of parameters.
        latency_ms: Median time of a frame at inference, on the machine of that sweep.
        best_epoch, epochs: Epoch of the best value, and epochs of a full training.
        num_ended, num_planned: Trials that have ended, and those asked for, without controls.
        num_seeds: Different seeds among the trials.
        hours, gpu_hours: Used so far.
        data: Source, image size, classes, and numbers of frames.
        miou_over: The classes that count in mIoU.
        protocol: The size at which its trials are scored.
    """

    path: str
    state: str
    metric: str
    metrics: tuple[str, ...]
    constraints: dict[str, float]
    trial: int | None
    student: str | None
    teacher: str | None
    value: float | None
    gain: float | None
    gain_matched: bool | None
    params_m: float | None
    latency_ms: float | None
    best_epoch: int | None
    epochs: int | None
    num_ended: int
    num_planned: int | None
    num_seeds: int
    hours: float
    gpu_hours: float
    data: dict[str, Any]
    miou_over: str
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def compare(paths: Sequence[Path | str]) -> list[Compared]:
    """The experiments, the one with the best student first.

    Args:
        paths: Their folders; one that is named twice counts once.

    Raises:
        ExperimentError: One is not there, has not begun, or cannot be compared with the others:
            another metric, or other data.
        LedgerError: A ledger is damaged.
    """
    folders = list(dict.fromkeys(Experiment.open(path).path for path in paths))
    found = [_compared(folder, load(folder)) for folder in folders]
    for what, of in _MUST_AGREE.items():
        _check_same(what, [(Path(one.path).name, of(one)) for one in found])
    return sorted(found, key=lambda one: (one.value is None, -(one.value or 0.0)))


def render_comparison(found: Sequence[Compared], console: Console) -> None:
    """Print a comparison."""
    unit, factor, form = formats.time_unit(max(one.hours for one in found))
    label = metric_of(found[0].metric).name
    columns = [
        Column("experiment", [Path(one.path).name for one in found], text=True, least=24),
        Column("state", [one.state for one in found], keep=3, text=True, least=7),
        Column("teacher", formats.names(o.teacher for o in found), keep=7, text=True, least=10),
        Column("best student", formats.names(o.student for o in found), text=True, least=12),
        Column(label, [formats.score(one.value) for one in found], style="bold"),
        Column("gain", [formats.gain(one.gain) for one in found], keep=8),
        Column("params\nM", [formats.number(o.params_m, ".1f") for o in found], keep=6),
        *_latency(found),
        Column(
            "trials\nended",
            [f"{one.num_ended}/{formats.number(one.num_planned, 'd')}" for one in found],
            keep=6,
        ),
        Column("seeds", [str(one.num_seeds) for one in found], keep=4),
        Column("epochs", [formats.number(o.epochs, "d") for o in found], keep=5),
        Column(f"time\n{unit}", [format(o.hours * factor, form) for o in found], keep=5),
        Column("trial", [formats.number(one.trial, "d") for one in found], keep=2),
    ]
    if any(one.gpu_hours for one in found):
        columns.append(Column("GPU-\nhours", [f"{one.gpu_hours:.2f}" for one in found], keep=4))
    data = found[0].data
    size = "×".join(map(str, data["image_size"])) if data["image_size"] else "unknown"
    title = (
        f"{formats.counted(len(found), 'experiment')} on {data['source']}, {size} pixels, scored "
        f"at {formats.scored_at(found[0].protocol)}"
    )
    print_table(console, title, columns)
    for remark in remarks(found):
        print_bullet(console, remark)


def _latency(found: Sequence[Compared]) -> list[Column]:
    values = [one.latency_ms for one in found]
    if all(value is None for value in values):
        return []
    form = formats.form_of(values)
    return [Column("latency\nms", [formats.number(value, form) for value in values], keep=5)]


def remarks(found: Sequence[Compared]) -> list[str]:
    """What has to be kept in mind about a comparison."""
    said = []
    for key, what in (("num_train", "training"), ("num_val", "validation")):
        numbers = {one.data[key] for one in found}
        if len(numbers) > 1:
            shown = ", ".join(f"{Path(o.path).name}: {o.data[key]}" for o in found)
            said.append(f"Not the same number of {what} frames ({shown}).")
    if len({one.miou_over for one in found}) > 1:
        old = ", ".join(Path(one.path).name for one in found if one.miou_over == SEEN)
        said.append(
            "Not the same classes count in mIoU: until 29 November 2026 also those that are "
            f"predicted but in no label ({old})."
        )
    if len({allowed(one.constraints) for one in found}) > 1:
        shown = ", ".join(
            f"{Path(one.path).name}: {allowed(one.constraints) or 'none'}" for one in found
        )
        said.append(f"Not the same constraints ({shown}).")
    if len({one.epochs for one in found}) > 1:
        said.append("Not the same number of epochs: longer training alone gives higher scores.")
    if any(one.gain is not None and not one.gain_matched for one in found):
        said.append(
            "A gain against a shared control holds the effect of other hyperparameters too."
        )
    if sum(one.latency_ms is not None for one in found) > 1:
        said.append(
            "Latencies compare only between sweeps on like machines with as many trials at a time."
        )
    if any(one.value is not None for one in found):
        said.append(
            "Each best student is the highest of its trials, so more trials alone give higher "
            "scores; kdsweep confirm trains the best again on fresh seeds."
        )
    return said


def _compared(folder: Path, results: Results) -> Compared:
    summary = results.summary
    if summary.state == "empty":
        raise ExperimentError(
            f"{folder}: this experiment has not begun, there is nothing to compare\n"
            "  try:     leave it out, or wait for its first trial"
        )
    best: dict[str, Any] = asdict(summary.best) if summary.best else {}
    data = summary.data
    matched = results.gains.set_index("trial")["matched"]
    return Compared(
        path=str(folder),
        state=summary.state,
        metric=summary.metric,
        metrics=tuple(summary.metrics),
        constraints=summary.constraints,
        trial=best.get("number"),
        student=best.get("student"),
        teacher=best.get("teacher"),
        value=best.get("value"),
        gain=best.get("gain"),
        gain_matched=None if best.get("gain") is None else bool(matched[best["number"]]),
        params_m=best.get("params_m"),
        latency_ms=best.get("latency_ms"),
        best_epoch=best.get("best_epoch"),
        epochs=summary.epochs_per_trial,
        num_ended=sum(summary.states[state] for state in FINAL),
        num_planned=summary.num_planned,
        num_seeds=summary.num_seeds,
        hours=summary.hours,
        gpu_hours=summary.gpu_hours,
        data={
            key: data.get(key)
            for key in ("source", "image_size", "classes", "num_train", "num_val")
        },
        miou_over=summary.miou_over,
        protocol=summary.protocol,
    )


_MUST_AGREE = {
    "the metric differs": lambda one: ", ".join(one.metrics),
    "the data set differs": lambda one: one.data["source"],
    "the image size differs": lambda one: "×".join(map(str, one.data["image_size"] or ["unknown"])),
    "one is scored at the labels' own size, another at its images'": lambda one: one.protocol,
    "the classes differ": lambda one: ", ".join(map(str, one.data["classes"] or ["unknown"])),
}


def _check_same(what: str, values: Sequence[tuple[str, str]]) -> None:
    """Refuse what differs.

    Raises:
        ExperimentError: It does.
    """
    if len({value for _, value in values}) == 1:
        return
    by_value: dict[str, list[str]] = {}
    for name, value in values:
        by_value.setdefault(value, []).append(name)
    lines = [f"  {_cut(value)}: {', '.join(names)}" for value, names in by_value.items()]
    raise ExperimentError(
        f"these experiments cannot be compared: {what}\n"
        + "\n".join(lines)
        + "\n  allowed: experiments with one metric, on one data set with the same classes and "
        "image size\n  try:     compare those of one line"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
