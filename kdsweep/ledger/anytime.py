"""An always-valid test of a mean difference: it may be looked at after every seed.

Student's t holds at a number of seeds that was fixed beforehand. Who looks after each seed, and
stops when it shows something, is wrong in far more than 5 of 100 cases. An e-process may be looked
at as often as one likes: without a gain it ever reaches 20 in at most 5 of 100 cases (Ville).

The one used here compares, on the t statistic of the differences, "no gain" with "a gain of z
standard deviations, z normal around 0 with scale τ", under the right Haar prior on the standard
deviation. All gains that it does not speak against are the interval that belongs to it.

References: Grünwald, de Heide & Koolen, *Safe testing*, arXiv:1906.07801; Pérez-Ortiz, Lardy, de
Heide & Grünwald, *E-statistics, group invariance and anytime valid testing*, arXiv:2208.07610;
Wang & Ramdas, *Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
variance*, arXiv:2310.03722.

It assumes normal differences. Heavy tails do it no harm, strong skew does: simulated without a
gain, looked at after each of 20 seeds, it is wrong in 1.9 of 100 cases (normal), 1.1 (t of 3
degrees of freedom), 3.7 (gamma of shape 4) and 18 (lognormal); Student's t in 23 (normal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

TAU = 1.0
CLAIM_AT = 20.0
# Half a point of mIoU: of two students this close nobody would choose by the score.
LEAST_THAT_MATTERS = 0.005
FEWEST_SEEDS = 3
# With fewer no difference, however large, is spoken against.
FEWEST_TO_SETTLE = 5


class Verdict(StrEnum):
    """What the seeds so far say of a gain."""

    GAIN = "gain"
    LOSS = "loss"
    NEITHER = "no difference that matters"
    OPEN = "not settled"


@dataclass(frozen=True)
class Look:
    """What one look at the first seeds finds, in the unit of the differences.

    Attributes:
        num_seeds: How many seeds were looked at.
        evidence: The e-value against "no gain".
        low, high: The always-valid 95 % interval; infinite below 5 seeds.
        verdict: What that settles.
    """

    num_seeds: int
    evidence: float
    low: float
    high: float
    verdict: Verdict

    @property
    def is_settled(self) -> bool:
        """Whether further seeds are not needed."""
        return self.verdict is not Verdict.OPEN


def evidence(mean: float, sd: float, num: int) -> float:
    """Return the e-value of ``num`` differences against a mean of zero.

    Args:
        mean: Their mean.
        sd: Their standard deviation (``num - 1`` in the denominator), above zero.
        num: How many, 3 or more.
    """
    prior = 1 + num * TAU**2
    ratio = num * (mean / sd) ** 2 / (num - 1)
    log = num / 2 * (math.log1p(ratio) - math.log1p(ratio / prior)) - math.log(prior) / 2
    return math.exp(log)


def reach(num: int) -> float:
    """Return how many standard deviations the interval reaches to each side of the mean.

    There :func:`evidence` is 20. Infinite where it stays below 20 whatever the mean.
    """
    prior = 1 + num * TAU**2
    least = (CLAIM_AT**2 * prior) ** (1 / num)
    if least >= prior:
        return math.inf
    return math.sqrt((num - 1) / num * (least - 1) / (1 - least / prior))


def look_at(differences: Sequence[float]) -> Look | None:
    """Return what all of some differences say; ``None`` of fewer than 3, or of equal ones."""
    found = np.array(differences, dtype="float64")
    found = found[np.isfinite(found)]
    num = len(found)
    # But for the rounding of a subtraction.
    if num < FEWEST_SEEDS or np.ptp(found) <= 1e-12:
        return None
    mean, sd = float(found.mean()), float(found.std(ddof=1))
    half = reach(num) * sd
    low, high = mean - half, mean + half
    return Look(num, evidence(mean, sd, num), low, high, _verdict(low, high))


def settle(differences: Sequence[float]) -> Look | None:
    """Return the first look that settles a gain, the last one if none does.

    What is settled stays so: seeds that were running when it was settled change nothing.

    Args:
        differences: Student minus control, in the order of seeds; what is not finite is left out.
    """
    found = [value for value in differences if math.isfinite(value)]
    look = None
    for num in range(FEWEST_SEEDS, len(found) + 1):
        look = look_at(found[:num])
        if look is not None and look.is_settled:
            break
    return look


def _verdict(low: float, high: float) -> Verdict:
    if low > 0:
        return Verdict.GAIN
    if high < 0:
        return Verdict.LOSS
    if low >= -LEAST_THAT_MATTERS and high <= LEAST_THAT_MATTERS:
        return Verdict.NEITHER
    return Verdict.OPEN
