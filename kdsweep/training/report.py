"""The report of one epoch: what the engine yields and everything above it consumes. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

# Below the one a distillation term hardly moves the student; above the other the labels hardly do.
NEGLIGIBLE_SHARE = 0.01
DOMINANT_SHARE = 0.95
# How the names of terms on frames without labels begin.
UNLABELLED = "unlabelled/"


@dataclass(frozen=True)
class EpochReport:
    """What one epoch of training gave.

    Attributes:
        epoch: Number of finished epochs, from 1.
        metrics: Flat numbers by key, for example ``student/miou``.
        classes: IoU of each class by network (``student``, ``teacher``); ``None`` where a class did
            not count.
        seconds: Wall-clock time of the epoch, validation included.
    """

    epoch: int
    metrics: dict[str, float]
    classes: dict[str, list[float | None]] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; numbers that are not finite become ``None``."""
        return {
            "epoch": self.epoch,
            "metrics": {key: _finite(value) for key, value in self.metrics.items()},
            "classes": {
                name: [None if value is None else _finite(value) for value in values]
                for name, values in self.classes.items()
            },
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EpochReport:
        """The report that :meth:`to_json` wrote; a metric that was not finite comes back as NaN."""
        return cls(
            epoch=value["epoch"],
            metrics={k: math.nan if v is None else float(v) for k, v in value["metrics"].items()},
            classes={name: list(values) for name, values in value["classes"].items()},
            seconds=value["seconds"],
        )


def term_title(name: str, unlabelled: str = ", unlabelled") -> str:
    """Return a distillation term's name for people: ``pixel_kl, unlabelled``.

    Args:
        name: As in the metrics of an epoch.
        unlabelled: What to say behind that of a term on frames without labels.
    """
    bare = name.removeprefix(UNLABELLED)
    return name if bare == name else f"{bare}{unlabelled}"


def judge_share(share: float, ramp: float = 1.0) -> str | None:
    """``negligible`` or ``dominant``, where a term's share of the gradient's norm is that lopsided.

    Args:
        share: Between 0 and 1.
        ramp: Ramp times gate when it was measured; while it is below 1, a small share is no fault.
    """
    if share > DOMINANT_SHARE:
        return "dominant"
    return "negligible" if share < NEGLIGIBLE_SHARE and ramp >= 1.0 else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
