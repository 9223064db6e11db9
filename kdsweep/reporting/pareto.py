"""The front of a sweep with several metrics: trials that no other beats in everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdsweep.config.metrics import metric_of, written
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import formats
from kdsweep.reporting.constraints import joined
from kdsweep.reporting.tables import COSTS

_COLUMNS = ("trial", "label", "student", "teacher")


def front_table(sweep: Sweep, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials on the front, best score first.

    Returns:
        Columns ``trial, label, student, teacher``, one for each metric of the sweep by its name
        (the score at the trial's best epoch; what is measured is the median over all trials of
        the same network), ``gain, best_epoch, epochs, planned_epochs, state``. Without rows for
        a sweep with a single metric.
    """
    found = sweep.front()
    metrics = sweep.metrics
    rows = trials.set_index("number").loc[[trial.number for trial in found]]
    rows = rows.rename_axis("trial").reset_index()
    points = [trial.point(metrics) for trial in found]
    values = {
        metric: pd.Series([point[metric] for point in points], dtype="float64")
        for metric in metrics
    }
    rest = rows[["gain", "best_epoch", "epochs", "planned_epochs", "state"]]
    return pd.concat([rows[list(_COLUMNS)], pd.DataFrame(values), rest], axis=1)


def front_sentence(points: Sequence[Mapping[Any, float]]) -> str:
    """Say between what one may choose, in a sentence.

    Args:
        points: The values of each trial on the front by metric, best score first; at least one.
    """
    metrics = list(points[0])
    best, last = points[0], points[-1]
    if len(points) == 1:
        return f"One student is ahead in everything: {_at(best)}."
    lead = f"{len(points)} students are compromises:"
    if len(metrics) == 2 and metric_of(metrics[1]).after:
        value = formats.score(last[metrics[0]])
        return f"{lead} from {_at(best)} to {value} at {written(metrics[1], last[metrics[1]])}."
    return f"{lead} {', '.join(_range(metric, [p[metric] for p in points]) for metric in metrics)}."


def front_title(metrics: Sequence[str]) -> str:
    """Return what the front is, as a heading."""
    every = "both" if len(metrics) == 2 else "all of"
    return f"Students that no other beats in {every} {names_of(metrics)}"


def further_costs(
    trials: pd.DataFrame, metrics: Sequence[str], shown: pd.DataFrame
) -> dict[str, pd.Series]:
    """Return what rows of the front cost besides what the sweep searches by, where it is known."""
    rows = trials.set_index("number").loc[shown["trial"]]
    every = {f"student/{name}": rows[name].reset_index(drop=True) for name in COSTS}
    return {m: own for m, own in every.items() if m not in metrics and own.notna().any()}


def names_of(metrics: Sequence[str], word: str = "and") -> str:
    """Return what a sweep searches by, with a word before the last: ``mIoU and latency``."""
    return joined((metric_of(metric).name for metric in metrics), word)


def _at(point: Mapping[Any, float]) -> str:
    score, *costs = (written(metric, value) for metric, value in point.items())
    return f"{score} at {joined(costs)}"


def _range(metric: str, values: Sequence[float]) -> str:
    """Return ``mIoU 0.48 to 0.62``, ``9.1 to 41.2 ms``."""
    low, high = written(metric, min(values)), written(metric, max(values))
    after = metric_of(metric).after
    if after:
        return f"{low.removesuffix(after).rstrip()} to {high}"
    return f"{low} to {high.removeprefix(metric_of(metric).name).lstrip()}"
