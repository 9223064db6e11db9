"""Drawing the many single numbers that a scene is made of.

Python's generator rather than numpy's: for one number at a time it is ten times as fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from random import Random
from typing import TypeVar

import numpy as np

from kdsweep.data.scenes.textures import NOISE_SIZE

K = TypeVar("K")


class Dice(Random):
    """A random generator for one scene: a stream, and a number in it, both from 0."""

    def __new__(cls, seed: int, index: int) -> Dice:  # noqa: D102
        return super().__new__(cls)  # Random's own takes one argument

    def __init__(self, seed: int, index: int) -> None:
        super().__init__(f"scene {seed}/{index}")

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.random() < probability

    def weighted(self, weights: Mapping[K, float]) -> K:
        """One of the keys, each as often as its weight says."""
        return self.choices(list(weights), list(weights.values()))[0]

    def poisson(self, mean: float) -> int:
        """How often something happens that happens ``mean`` times on average."""
        limit, product, count = exp(-mean), self.random(), 0
        while product > limit:
            product *= self.random()
            count += 1
        return count

    def spot(self) -> tuple[int, int]:
        """Where a noise texture is cut out."""
        return self.randrange(NOISE_SIZE), self.randrange(NOISE_SIZE)

    def triple(self, low: float, high: float) -> np.ndarray:
        """Three numbers between two bounds, for example a colour."""
        return np.array([self.uniform(low, high) for _ in range(3)])
