"""How numbers, names and times are written in a report; a dash stands for what is not there."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep import labels
from kdsweep.config import metrics
from kdsweep.plain_text import counted as counted

MISSING = "–"
NO_TEACHER = "none"
STATE_STYLES = {
    "done": "green",
    "running": "cyan",
    "starting": "cyan",
    "paused": "yellow",
    "died": "red",
    "damaged": "red",
}

_PAUSE_REASONS = {
    "sigint": "interrupted",
    "sigterm": "interrupted",
    "sighup": "interrupted: its terminal was closed",
    "max_hours": "budget of hours used up",
    "max_gpu_hours": "budget of GPU-hours used up",
    "storage": "another driver has taken over its copy",
}


def scored_at(protocol: str) -> str:
    """The size at which a sweep's trials are scored, after the size of its images."""
    return "the labels' own size" if protocol == metrics.NATIVE else "this size"


def of_protocol(protocol: str | None) -> str:
    """Return what to say beside scores at the labels' own size; nothing of the others."""
    return f", scored at {scored_at(metrics.NATIVE)}" if protocol == metrics.NATIVE else ""


def score(value: Any) -> str:
    """Return an mIoU or IoU: ``0.623``."""
    return number(value, ".3f")


def gain(value: Any) -> str:
    """Return a difference of two: ``+0.012``."""
    return number(value, "+z.3f")


def percent(value: Any) -> str:
    """Return a share in per cent, small ones with more digits: ``43``, ``2.1``, ``<0.01``."""
    if value is None or pd.isna(value):
        return MISSING
    hundredths = 100 * float(value)
    if 0 < hundredths < 0.01:
        return "<0.01"
    return f"{hundredths:.0f}" if hundredths >= 9.95 else f"{hundredths:.2g}"


def number(value: Any, form: str) -> str:
    """Return a number in a format of Python's."""
    return MISSING if value is None or pd.isna(value) else format(value, form)


def form_of(values: Iterable[Any]) -> str:
    """Return the format that gives the largest of some amounts three digits or so: ``.1f``."""
    return metrics.form_of([v for v in values if v is not None and not pd.isna(v)])


def amount(value: Any) -> str:
    """Return a measured amount with three digits or so: ``55.1``, ``0.645``."""
    return number(value, form_of([value]))


def setting(value: Any) -> str:
    """Return a drawn parameter of any kind."""
    if isinstance(value, float) and not math.isnan(value):
        return f"{value:.3g}"
    return number(value, "") if value is None or pd.isna(value) else str(value)


def names(values: Iterable[Any], missing: str = MISSING) -> list[str]:
    """Return names of a table's column."""
    return [missing if pd.isna(value) else str(value) for value in values]


def trained(epochs: Any, planned: Any) -> str:
    """Return how long a trial was trained: ``12``, or ``3 of 12`` where that is not all."""
    is_short = not pd.isna(planned) and epochs < planned
    return f"{epochs} of {planned}" if is_short else number(epochs, "d")


def after(epochs: Any, planned: Any) -> str:
    """Return what has to stand beside a number of a trial that was not trained to its end."""
    is_short = not (pd.isna(epochs) or pd.isna(planned)) and epochs < planned
    return f"after {epochs} of {planned} epochs" if is_short else ""


def few(values: Sequence[Any]) -> str:
    """Return the first of many: ``3, 7, 12, 15, …``."""
    return ", ".join([*map(str, values[:4]), *(["…"] if len(values) > 4 else [])])


def duration(hours: float) -> str:
    """Return a time in the unit that suits it: ``1.5 h``, ``2.5 min``, ``40 s``."""
    unit, factor, form = time_unit(hours)
    return f"{hours * factor:{form}} {unit}"


def time_unit(longest_hours: float) -> tuple[str, float, str]:
    """Return the unit that suits a column of times, its number in an hour, and the format."""
    if math.isnan(longest_hours) or longest_hours >= 1:
        return "h", 1.0, ".1f"
    if longest_hours >= 1 / 30:
        return "min", 60.0, ".1f"
    return "s", 3600.0, ".0f"


def shortest_names(paths: Sequence[str]) -> dict[str, str]:
    """Return each dotted path's shortest ending that no other shares: ``train.lr`` is ``lr``."""
    short = {}
    for path in paths:
        parts = path.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [f".{other}" for other in paths if other != path]
        unique = (e for e in endings if not any(o.endswith(f".{e}") for o in others))
        short[path] = next(unique, path)
    return short


def short_path(path: Path) -> str:
    """Return a path as it is best typed: relative where that is below the working folder."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def pause_reason(reason: str) -> str:
    """Return the reason of a ledger's pause, in words."""
    return _PAUSE_REASONS.get(reason, reason)


def spread(mean: float | None, sd: float | None, form: str = ".3f") -> str:
    """Return a mean with its standard deviation, if there is one: ``0.440 ± 0.010``."""
    return number(mean, form) + ("" if sd is None or pd.isna(sd) else f" ± {number(sd, form)}")


def interval(low: float | None, high: float | None, form: str = "+z.3f") -> str:
    """Return the ends of an interval: ``-0.005 to +0.045``."""
    return MISSING if low is None or pd.isna(low) else f"{low:{form}} to {high:{form}}"


def training_frames(data: Mapping[str, Any]) -> str:
    """Return the frames trained on: ``163 labelled and 204 unlabelled training``."""
    return labels.training_frames(data["num_train"], data.get("num_unlabelled"))


def frame_size(size: Sequence[int]) -> str:
    """Return height and width of frames: ``96×128 pixels``."""
    return "{}×{} pixels".format(*size)
