"""Experiments side by side: the best student of each, what it gains, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from kdsweep.config.metrics import SEEN, metric_of
from kdsweep.errors import ExperimentError
from kdsweep.ledger import Experiment
from kdsweep.ledger.trials import FINAL
from kdsweep.reporting import formats
from kdsweep.reporting.columns import declared, print_bullet, print_table
from kdsweep.reporting.constraints import allowed
from kdsweep.reporting.record import Record
from kdsweep.reporting.results import Results, load
from kdsweep.reporting.views import COMPARED, rows_of, without_none


@dataclass(frozen=True)
class ComparedData(Record):
    """The data of an experiment, as far as its ledger says."""

    source: str | None
    image_size: list[int] | None
    classes: list[str] | None
    num_train: int | None
    num_val: int | None
    fingerprints: list[str] | None = None
    num_unlabelled: int = 0

    left_out_if_empty = frozenset({"fingerprints", "num_unlabelled"})


@dataclass(frozen=True)
class Compared(Record):
    """One experiment of a comparison.

    Attributes:
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
        best_epochs, planned_epochs: Epochs that the best trial has finished, and was to finish.
        num_ended, num_planned: Trials that have ended, and those asked for, without controls.
        num_seeds: Different seeds among the trials.
        hours, gpu_hours: Used so far.
        data: Source, image size, classes, numbers of frames, and ``fingerprints`` (not in
            old ledgers).
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
    best_epochs: int | None
    planned_epochs: int | None
    epochs: int | None
    num_ended: int
    num_planned: int | None
    num_seeds: int
    hours: float
    gpu_hours: float
    data: ComparedData
    miou_over: str
    protocol: str


def compare(paths: Sequence[Path | str]) -> list[Compared]:
    """Return the experiments, the best student's first; as given where their data differ.

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
    if len(_states_of_data(found)) > 1:
        return found
    return sorted(found, key=lambda one: (one.value is None, -(one.value or 0.0)))


def render_comparison(found: Sequence[Compared], console: Console) -> None:
    """Print a comparison."""
    rows = [
        {
            **vars(one),
            "teacher": formats.NO_TEACHER if one.student and not one.teacher else one.teacher,
            "trained": _trained(one),
            "experiment": Path(one.path).name,
            "ended": f"{one.num_ended}/{formats.number(one.num_planned, 'd')}",
        }
        for one in found
    ]
    shown = rows_of(COMPARED, rows)
    metric = metric_of(found[0].metric).name
    columns = declared(COMPARED, shown, metric, without=without_none(shown, "gpu_hours"))
    data = found[0].data
    size = "×".join(map(str, data.image_size)) if data.image_size else "unknown"
    state = "different states of " if len(_states_of_data(found)) > 1 else ""
    title = (
        f"{formats.counted(len(found), 'experiment')} on {state}{data.source}, {size} pixels, "
        f"scored at {formats.scored_at(found[0].protocol)}"
    )
    print_table(console, title, columns)
    for remark in remarks(found):
        print_bullet(console, remark)


def _trained(one: Compared) -> str | None:
    """Return how long the best trial was trained, where that is not all."""
    have, planned = one.best_epochs, one.planned_epochs
    return formats.trained(have, planned) if formats.after(have, planned) else None


def remarks(found: Sequence[Compared]) -> list[str]:
    """Say what has to be kept in mind about a comparison."""
    said = _of_data(found)
    counts = (("num_train", "training"), ("num_val", "validation"))
    for key, what in (*counts, ("num_unlabelled", "unlabelled")):
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


def _states_of_data(found: Sequence[Compared]) -> dict[frozenset[str], list[Compared]]:
    """Return those whose data are known, by what these are."""
    states: dict[frozenset[str], list[Compared]] = {}
    for one in found:
        if one.data.fingerprints:
            states.setdefault(frozenset(one.data.fingerprints), []).append(one)
    return states


def _of_data(found: Sequence[Compared]) -> list[str]:
    """Say what differs between the data of the first experiment and those of the others."""
    from kdsweep.data.identity import Identity, differences

    said = []
    unknown = [Path(one.path).name for one in found if not one.data.fingerprints]
    if unknown:
        said.append(
            f"Which data {', '.join(unknown)} {'was' if len(unknown) == 1 else 'were'} trained on "
            "was not written down: whether all have the same cannot be told."
        )
    states = _states_of_data(found)
    if len(states) > 1:
        said.append("They were trained on different data, so their scores are not ranked.")
    keys = list(states)
    for key in keys[1:]:
        pair = [states[keys[0]], states[key]]
        names = [", ".join(Path(one.path).name for one in each) for each in pair]
        words = ["which files is not known"]
        if len(keys[0]) == len(key) == 1:
            first, other = (
                Identity.read(Experiment(Path(each[0].path)).data(*known))
                for each, known in zip(pair, (keys[0], key), strict=True)
            )
            if first is not None and other is not None:
                words = differences(first, other)
        said.append(f"From {names[0]} to {names[1]}: {'; '.join(words)}.")
    return said


_OF_BEST = (
    "student", "teacher", "value", "gain", "params_m", "latency_ms", "best_epoch",
    "planned_epochs",
)  # fmt: skip


def _compared(folder: Path, results: Results) -> Compared:
    summary = results.summary
    if summary.state == "empty":
        raise ExperimentError(
            f"{folder}: this experiment has not begun, there is nothing to compare\n"
            "  try:     leave it out, or wait for its first trial"
        )
    best = summary.best
    data = summary.data
    matched = results.gains.set_index("trial")["matched"]
    return Compared(
        path=str(folder),
        state=summary.state,
        metric=summary.metric,
        metrics=tuple(summary.metrics),
        constraints=summary.constraints,
        trial=None if best is None else best.number,
        gain_matched=None if best is None or best.gain is None else bool(matched[best.number]),
        **{name: None if best is None else best[name] for name in _OF_BEST},
        best_epochs=None if best is None else best.epochs,
        epochs=summary.epochs_per_trial,
        num_ended=sum(summary.states[state] for state in FINAL),
        num_planned=summary.num_planned,
        num_seeds=summary.num_seeds,
        hours=summary.hours,
        gpu_hours=summary.gpu_hours,
        data=_data(data),
        miou_over=summary.miou_over,
        protocol=summary.protocol,
    )


def _data(data: Mapping[str, Any]) -> ComparedData:
    told: dict[str, Any] = {each.name: data.get(each.name) for each in fields(ComparedData)}
    told["num_unlabelled"] = data.get("num_unlabelled", 0)
    return ComparedData(**told)


_MUST_AGREE = {
    "the metric differs": lambda one: ", ".join(one.metrics),
    "the data set differs": lambda one: one.data.source,
    "the image size differs": lambda one: "×".join(map(str, one.data.image_size or ["unknown"])),
    "one is scored at the labels' own size, another at its images'": lambda one: one.protocol,
    "the classes differ": lambda one: ", ".join(map(str, one.data.classes or ["unknown"])),
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
