"""The metrics of epoch reports that people read of: names, units and directions, said only here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

MIOU: Final = "student/miou"
TEACHER_MIOU: Final = "teacher/miou"
TEST_MIOU: Final = "test/miou"

MiouOver = Literal["labelled", "seen"]
"""The classes that mIoU is the mean over."""
LABELLED: Final = "labelled"
"""Those with a labelled pixel in the split, so the same ones for every network that is scored."""
SEEN: Final = "seen"
"""Those in labels or predictions, as ours were until 29 November 2026."""

Protocol = Literal["resized", "native"]
"""The size at which predictions are compared with labels."""
RESIZED: Final = "resized"
"""That of ``data.image_size``, to which labels are resized like images."""
NATIVE: Final = "native"
"""That of the label files, to which logits are enlarged; it is what papers print."""

Select = Literal["best", "last"]
"""Which epoch's student is kept, and is the one that a trial's value is about."""
BEST: Final = "best"
"""The one with the best value; the earliest if several have it."""
LAST: Final = "last"
"""The last one, whatever others have reached: nothing is chosen on validation frames."""

Direction = Literal["maximize", "minimize"]

# Measured beside other trainings: the same network measured twice differs by some percent.
_NOISE = 0.05
# Last parts of the keys of scores from 0 to 1, which papers give in per cent.
_SHARES = ("miou", "iou", "pixel_accuracy")


def chosen_epoch(values: Mapping[int, float], select: str) -> int | None:
    """Return the epoch that counts among some, by their values; ``None`` where none has one."""
    known = {epoch: value for epoch, value in values.items() if not math.isnan(value)}
    if select == LAST:
        return max(known, default=None)
    return max(known, key=lambda epoch: (known[epoch], -epoch), default=None)


@dataclass(frozen=True)
class Metric:
    """How a metric is written and compared.

    Attributes:
        key: Key of an epoch report.
        name: Its name in headings and sentences.
        unit: Its unit in headings; empty for a score.
        after: What follows a value in a sentence; empty for a score, whose name stands before it.
        is_cost: Whether less is better.
        noise: Relative difference below which two values count as equal.
    """

    key: str
    name: str
    unit: str = ""
    after: str = ""
    is_cost: bool = False
    noise: float = 0.0

    @property
    def short(self) -> str:
        """The name without whose it is."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def is_share(self) -> bool:
        """Whether it goes from 0 to 1 and is given in per cent in papers."""
        return self.key.rsplit("/", 1)[-1] in _SHARES

    @property
    def points(self) -> str:
        """The unit of a hundredth of it: what gains are told in."""
        return "mIoU points" if self.key.endswith("miou") else "points"

    @property
    def direction(self) -> Direction:
        """``maximize`` or ``minimize``, as Optuna and W&B call it."""
        return "minimize" if self.is_cost else "maximize"


def counts(labelled: Any, predicted: Any, over: MiouOver) -> Any:
    """Which classes count in mIoU; the only place that decides it.

    Args:
        labelled: Pixels with each class as their label, a NumPy array or a tensor.
        predicted: Those among the labelled pixels that are predicted as it, likewise.
        over: The definition.

    Returns:
        Booleans of the same kind and shape.
    """
    return labelled > 0 if over == LABELLED else labelled + predicted > 0


def _cost(key: str, name: str, unit: str, after: str, noise: float = _NOISE) -> Metric:
    return Metric(f"student/{key}", name, unit, after, is_cost=True, noise=noise)


_NAMED = {
    named.key: named
    for named in (
        Metric(MIOU, "mIoU"),
        # Known from the network's architecture alone, before anything is trained.
        _cost("params_m", "parameters", "M", "M parameters", noise=0.0),
        _cost("macs_g", "MACs", "G", "G MACs", noise=0.0),
        _cost("latency_ms", "latency", "ms", "ms"),
        _cost("latency_p95_ms", "latency, 95 %", "ms", "ms at the 95th percentile"),
        _cost("inference_mb", "memory", "MB", "MB of memory"),
    )
}


def metric_of(key: str) -> Metric:
    """Return what is known of a report's metric; one not known goes by its own key, as a score."""
    return _NAMED.get(key) or Metric(key, key)


def written(key: str, value: float) -> str:
    """A value with its name or unit: ``mIoU 0.612``, ``41.2 ms``, ``11.2 M parameters``."""
    known = metric_of(key)
    if not known.after:
        return f"{known.name} {value:.3f}"
    return f"{value:{form_of([value])}} {known.after}"


def form_of(values: list[float]) -> str:
    """The format that gives the largest of some amounts three digits or so: ``.1f`` for 55.1."""
    largest = max(map(abs, values), default=0.0)
    limits = ((99.95, ".0f"), (9.995, ".1f"), (1, ".2f"))
    return next((form for limit, form in limits if largest >= limit), ".3f")
