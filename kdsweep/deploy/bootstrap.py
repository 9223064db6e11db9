"""Intervals over frames: what other frames of the same kind might have given.

Scores of a split come from counts summed over frames, so a resample of the frames is a vector of
weights: how often each was drawn. Two predictions of the same frames are compared on the same
resamples, which leaves out what makes some frames harder than others.

Frames of one recording resemble each other; intervals that take them as independent are narrower
than what another drive would show.

Shape legend: R resamples, N frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
NUM_RESAMPLES = 2000
SEED = 0
LEAST_FRAMES = 2


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: Over all frames; NaN where it is not defined.
        low, high: Ends of the percentile interval, at :data:`LEVEL`; NaN with fewer than
            :data:`LEAST_FRAMES` frames.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """As plain JSON; what is not defined is ``null``."""
        found = {"value": self.value, "low": self.low, "high": self.high}
        return {name: v if math.isfinite(v) else None for name, v in found.items()}


def resample(num_frames: int, num_resamples: int = NUM_RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each frame is drawn, in each resample of as many frames with replacement.

    Always the same for the same arguments. The first row is the frames themselves, each once.

    Returns:
        float64 of (R + 1, N).
    """
    generator = np.random.default_rng(seed)
    share_N = np.full(num_frames, 1.0 / num_frames)
    drawn_RN = generator.multinomial(num_frames, share_N, size=num_resamples)
    return np.concatenate([np.ones((1, num_frames)), drawn_RN])


def estimate(values_R: np.ndarray, num_frames: int) -> Estimate:
    """A value and its percentile interval.

    Args:
        values_R: The value on each row of :func:`resample`. Resamples in which it is not defined,
            since no frame drawn has the class, are left out.
        num_frames: N.
    """
    value, drawn_R = float(values_R[0]), values_R[1:]
    drawn_R = drawn_R[np.isfinite(drawn_R)]
    if num_frames < LEAST_FRAMES or not len(drawn_R) or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn_R, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))
