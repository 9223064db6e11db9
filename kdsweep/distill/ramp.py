"""The course of a term's weight over time."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """A factor between 0 and 1 as a function of time alone, so that resuming needs no state.

    Attributes:
        course: ``linear`` or ``cosine`` from 0 to 1 over ``warmup_epochs``, or ``constant`` 1.
        warmup_epochs: Length of the way up.
        until_epoch: The factor is 0 from here on; ``None`` never.
    """

    course: str = "linear"
    warmup_epochs: float = 0.0
    until_epoch: float | None = None

    def at(self, epoch: float) -> float:
        """The factor at a point of time.

        Args:
            epoch: Epochs since the student began, with the fraction of the current one.
        """
        if self.until_epoch is not None and epoch >= self.until_epoch:
            return 0.0
        if self.course == "constant" or epoch >= self.warmup_epochs:
            return 1.0
        share = epoch / self.warmup_epochs
        return share if self.course == "linear" else 0.5 - 0.5 * math.cos(math.pi * share)
