"""The ranges of a space in words, a row each, as a plan shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.config.ranges import Choice, Interval, Range, Scalar
from kdsweep.config.template import Branch, Leaf


@dataclass(frozen=True)
class RangeRow:
    """One range of a space.

    Attributes:
        values: What it draws from, in words.
        num_values: How many values that are; ``None`` if infinitely many.
        shared: Whether all students of a cohort have it in common.
    """

    name: str
    values: str
    num_values: int | None
    shared: bool


def range_row(range_: Range, shared: bool) -> RangeRow:
    """A range in words, and whether all students of a cohort have it in common."""
    return RangeRow(range_.name, _values(range_), range_.num_options(), shared)


def _values(range_: Range) -> str:
    if isinstance(range_, Choice):
        choices = zip(range_.labels, range_.nodes, strict=True)
        return ", ".join(_choice(label, node, range_.nodes) for label, node in choices)
    assert isinstance(range_, Interval)
    text = f"{range_.low:g} to {range_.high:g}"
    if range_.log:
        text += ", logarithmic"
    if range_.step is not None and range_.step != 1:
        text += f", steps of {range_.step:g}"
    return text


def _choice(label: Scalar, node: object, every: Sequence[object]) -> str:
    if not isinstance(node, Branch):
        return "null" if label is None else str(label)
    # Of a section what it does not share with all others; what is drawn in it has its own row.
    others = [other.children for other in every if isinstance(other, Branch)]
    told = []
    for key, child in node.children.items():
        if isinstance(child, Leaf):
            values = [getattr(other.get(key), "value", None) for other in others]
            if child.value is not None and any(value != child.value for value in values):
                told.append(f"{key}: {child.value}")
        elif not (isinstance(child, Branch) and not child.children):
            told.append(key)
    return " + ".join(told) or str(label)
