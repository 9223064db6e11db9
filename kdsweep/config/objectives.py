"""What a sweep looks for, and within which bounds: metrics of students, and their directions.

Scores are maximised and costs minimised. Nobody has to say which, and nobody can get it wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from kdsweep.config.base import broken_rule
from kdsweep.config.metrics import Metric
from kdsweep.errors import did_you_mean

# Only what a control has as well: a gain compares the two.
ScoreName = Literal["student/miou", "student/pixel_accuracy", "student/seed_compat_iou"]
# What one frame costs a student at inference.
CostName = Literal[
    "student/params_m",
    "student/macs_g",
    "student/latency_ms",
    "student/latency_p95_ms",
    "student/inference_mb",
]
MetricName = Literal[ScoreName, CostName]
SCORES: tuple[str, ...] = get_args(ScoreName)
COSTS: tuple[str, ...] = get_args(CostName)
# Known from the network's architecture alone, before anything is trained.
STATIC_COSTS = ("student/params_m", "student/macs_g")

_BOUND = re.compile(r"\s*<=\s*([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*")


def most_allowed(bound: str) -> float:
    """The number in ``<= 8``.

    Raises:
        ValueError: It is written otherwise.
    """
    found = _BOUND.fullmatch(bound)
    if found is None:
        raise ValueError(bound)
    return float(found[1])


def _checked_objectives(metrics: tuple[str, ...]) -> tuple[str, ...]:
    for place, metric in enumerate(metrics):
        if metric in metrics[:place]:
            raise broken_rule("named twice", at=(place,), hint="take one of the two out")
    if metrics[0] not in SCORES:
        raise broken_rule(
            "the first metric is the one that ASHA stops trials by, and a cost is known from the "
            "start",
            at=(0,),
            allowed=f"one of {', '.join(SCORES)}",
            hint=f"begin with a score: [student/miou, {metrics[0]}]",
        )
    return metrics


def _checked_bounds(bounds: dict[str, Any]) -> dict[str, str]:
    for metric, bound in bounds.items():
        if metric not in COSTS:
            raise broken_rule(
                f"{metric} cannot be bounded",
                at=(metric,),
                allowed=f"bounds on {', '.join(COSTS)}",
                hint=did_you_mean(metric, COSTS),
            )
        try:
            is_positive = most_allowed(bound) > 0
        except (TypeError, ValueError):
            is_positive = False
        if not is_positive:
            raise broken_rule(
                "not an upper bound",
                at=(metric,),
                allowed="`<=` and a number above 0, in quotes",
                hint=f'{metric}: "<= 8"',
            )
    return bounds


Objectives = Annotated[
    tuple[MetricName, ...],
    Field(strict=False, min_length=1),
    AfterValidator(_checked_objectives),
]
Bounds = Annotated[dict[str, Any], AfterValidator(_checked_bounds)]


def excess(costs: Mapping[str, float], bounds: Mapping[str, float]) -> dict[str, float]:
    """By how much costs exceed their bounds, relative to them; negative where they keep to them.

    Args:
        costs: Costs by metric; those without a bound do not matter.
        bounds: Most that is allowed, by metric; those without a cost are left out.
    """
    return {m: costs[m] / most - 1.0 for m, most in bounds.items() if m in costs}


def front(points: Mapping[int, Sequence[float]], objectives: Sequence[Metric]) -> list[int]:
    """Whom nobody beats: as good in everything and better in something.

    Values that differ by less than an objective's noise count as equal there. One may then beat
    another, that one a third, and the first not the third. So the front holds points of which none
    beats another, while each that is not on it is beaten by one that is. What is beaten by those
    alone that are beaten themselves stays: a row of students, each a little slower and a little
    better, would otherwise come down to the slowest.

    Args:
        points: By key, a value for each objective; the first objective is a score.
        objectives: The objectives.

    Returns:
        Keys of those on the front, best score first.
    """
    found: list[int] = []
    # Any difference of a score counts: nobody beats a higher one.
    for key in sorted(points, key=lambda key: (-points[key][0], *points[key][1:], key)):
        own = points[key]
        if any(dominates(points[other], own, objectives) for other in found):
            continue
        # Of those with the same score, a later one may still beat an earlier one.
        found = [other for other in found if not dominates(own, points[other], objectives)]
        found.append(key)
    return found


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[Metric]) -> bool:
    """Return whether one point is as good as another in all objectives and better in some."""
    better = False
    for a, b, objective in zip(one, other, objectives, strict=True):
        ahead = (b - a) if objective.is_cost else (a - b)
        margin = objective.noise * max(abs(a), abs(b))
        if ahead < -margin:
            return False
        better |= ahead > margin
    return better
