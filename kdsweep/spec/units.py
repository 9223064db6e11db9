"""Names and units of the metrics that a sweep may search by or bound, for people to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How a metric is written.

    Attributes:
        name: Its name in headings and sentences.
        unit: Its unit in headings; empty for a score.
        after: What follows a value in a sentence; empty for a score, whose name stands before it.
    """

    name: str
    unit: str = ""
    after: str = ""


_COSTS = {
    "student/params_m": Unit("parameters", "M", "M parameters"),
    "student/macs_g": Unit("MACs", "G", "G MACs"),
    "student/latency_ms": Unit("latency", "ms", "ms"),
    "student/latency_p95_ms": Unit("latency, 95 %", "ms", "ms at the 95th percentile"),
    "student/inference_mb": Unit("memory", "MB", "MB of memory"),
}


def unit(metric: str) -> Unit:
    """How a metric is written; of one that is not known its own name is used.

    Args:
        metric: Key of an epoch report.
    """
    if metric in _COSTS:
        return _COSTS[metric]
    return Unit("mIoU" if metric == "student/miou" else metric)


def written(metric: str, value: float) -> str:
    """A value with its name or unit: ``mIoU 0.612``, ``41.2 ms``, ``11.2 M parameters``."""
    known = unit(metric)
    return f"{_digits(value)} {known.after}" if known.after else f"{known.name} {value:.3f}"


def _digits(value: float) -> str:
    """Three digits or so."""
    for limit, form in ((99.95, ".0f"), (9.995, ".1f"), (1.0, ".2f")):
        if abs(value) >= limit:
            return format(value, form)
    return format(value, ".3f")
