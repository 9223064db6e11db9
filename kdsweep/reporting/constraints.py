"""What a sweep's bounds have kept out of it, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdsweep.config.metrics import metric_of, written
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import formats
from kdsweep.reporting.record import Record

_MOST_NAMED = 4


@dataclass(frozen=True)
class Rejected(Record):
    """A student whose draws were never trained.

    Attributes:
        student: Its name.
        times: How often it was drawn.
        costs: Each cost that exceeds its bound, by metric.
    """

    student: str
    times: int
    costs: dict[str, float]


def rejected_students(sweep: Sweep) -> list[Rejected]:
    """Return the students whose draws were never trained, the commonest first."""
    times: dict[str, int] = {}
    costs: dict[str, dict[str, float]] = {}
    bounds = sweep.header.constraints
    for event in sweep.rejected:
        student = event.student or event.label
        times[student] = times.get(student, 0) + 1
        costs.setdefault(student, {}).update(
            {
                metric: bounds[metric] * (1.0 + by)
                for metric, by in event.excess.items()
                if by > 0 and metric in bounds
            }
        )
    found = [Rejected(student, num, costs[student]) for student, num in times.items()]
    return sorted(found, key=lambda row: -row.times)


def bound_sentences(
    bounds: Mapping[str, float], num_too_costly: int, rejected: Sequence[Rejected]
) -> list[str]:
    """Say what was left out because it costs more than allowed; often nothing.

    Args:
        bounds: Most that is allowed, by metric.
        num_too_costly: Trials that cost more.
        rejected: What :func:`rejected_students` returned.
    """
    found = []
    if num_too_costly == 1:
        found.append(
            f"1 trial costs more than allowed ({allowed(bounds)}): it ended with the epoch that "
            "showed it, and is not in the comparison."
        )
    elif num_too_costly:
        found.append(
            f"{num_too_costly} trials cost more than allowed ({allowed(bounds)}): each ended with "
            "the epoch that showed it, and they are not in the comparison."
        )
    if rejected:
        times = sum(row.times for row in rejected)
        were = "was" if times == 1 else "were"
        broken = {metric for row in rejected for metric in row.costs}
        most = allowed({metric: value for metric, value in bounds.items() if metric in broken})
        named = [
            f"{row.student} ({joined(written(*cost) for cost in row.costs.items())})"
            for row in rejected[:_MOST_NAMED]
        ]
        rest = len(rejected) - len(named)
        if rest:
            named.append(f"and {rest} more")
        found.append(
            f"{formats.counted(times, 'draw')} {were} never trained, as {most} are allowed: "
            f"{', '.join(named)}."
        )
    return found


def nothing_within(bounds: Mapping[str, float]) -> str:
    """Say why there is no best student, where every trial with a value costs too much."""
    return (
        f"Every trial that has finished an epoch costs more than allowed ({allowed(bounds)}), so "
        "there is no best student."
    )


def allowed(bounds: Mapping[str, float]) -> str:
    """Return the bounds of a sweep: ``at most 8 M parameters and 30 ms``; empty without any."""
    every = [f"{most:g} {metric_of(metric).after}" for metric, most in bounds.items()]
    return f"at most {joined(every)}" if every else ""


def joined(texts: Iterable[str], word: str = "and") -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    every = list(texts)
    return f" {word} ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)
