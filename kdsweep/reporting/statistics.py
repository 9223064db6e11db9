"""What repeated seeds say about a gain: intervals, a rank test, and the words that may be claimed.

Pure functions of numbers; no table and no file. Each seed gives one pair: a student and its exact
control, trained on the same batches from the same initial weights. Only their differences count.

Of the two intervals Student's t is the one to quote: for normal differences it covers the truth in
95 of 100 cases at any number of seeds. The bootstrap is given beside it because it assumes no
distribution, but with few seeds it is too narrow: simulated on normal differences, its nominal 95 %
interval covers the truth in about 74 of 100 cases at 3 seeds, 84 at 5 and 91 at 10.

Both hold at a number of seeds fixed beforehand. Who looks after every seed quotes the always-valid
interval of :mod:`kdsweep.ledger.anytime`, which is wider for it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kdsweep.config.metrics import MIOU, metric_of
from kdsweep.ledger.anytime import FEWEST_TO_SETTLE, LEAST_THAT_MATTERS, Look, Verdict
from kdsweep.plain_text import counted

LEVEL = 0.95
_POINTS = metric_of(MIOU).points
# Below it even equal signs throughout have a two-sided p above 5 %: 2 / 2**5 is 6.25 %.
LEAST_FOR_RANK_TEST = 6
LEAST_FOR_SKEWNESS = 8
# What a confirmation that stops when it is settled is measured against.
FIXED_SEEDS = 10

_RESAMPLES = 9999
_MAX_ENUMERATED = 16  # 2**16 assignments of signs


@dataclass(frozen=True)
class Interval:
    """An interval of confidence.

    Attributes:
        low, high: Its ends.
        method: ``t``, ``BCa`` or ``percentile``.
    """

    low: float
    high: float
    method: str

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends have the same sign."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class PairedGain:
    """A gain over repeated seeds, in the metric's own unit (mIoU from 0 to 1).

    Attributes:
        differences: Student minus control, for each seed that has both.
        num_dropped: Seeds left out because one of the two is missing or not a number.
        mean: Mean difference; NaN without any.
        sd: Standard deviation between seeds (``n - 1`` in the denominator); NaN below two.
        interval: 95 % by Student's t; ``None`` below two seeds or where all are identical.
        bootstrap: 95 % by the bootstrap, likewise; BCa, or percentiles where BCa is undefined.
        rank_p: Two-sided p of Wilcoxon's signed-rank test, exact up to 16 seeds; ``None`` below
            two seeds and where every difference is zero.
        rank_note: Why the rank test shows nothing, or ``None``.
    """

    differences: tuple[float, ...]
    num_dropped: int
    mean: float
    sd: float
    interval: Interval | None
    bootstrap: Interval | None
    rank_p: float | None
    rank_note: str | None

    @property
    def num_seeds(self) -> int:
        """Seeds that count."""
        return len(self.differences)


def paired_gain(students: Sequence[float | None], controls: Sequence[float | None]) -> PairedGain:
    """Return the gain of students over their controls, seed by seed.

    Args:
        students: One value a seed; ``None`` or NaN where it is missing.
        controls: Those of their controls, in the same order.

    Raises:
        ValueError: There are not equally many.
    """
    if len(students) != len(controls):
        raise ValueError(f"{len(students)} students but {len(controls)} controls")
    given = _numbers(students) - _numbers(controls)
    differences = given[np.isfinite(given)]
    num = len(differences)
    varies = num >= 2 and not _identical(differences)
    # Of a single seed the test gives p = 1 whatever the difference, which would read as a finding.
    rank_p = signed_rank_p(differences) if num >= 2 else None
    return PairedGain(
        differences=tuple(differences.tolist()),
        num_dropped=len(given) - num,
        mean=float(differences.mean()) if num else math.nan,
        sd=_sd(differences),
        interval=t_interval(differences) if varies else None,
        bootstrap=bootstrap_interval(differences) if varies else None,
        rank_p=rank_p,
        rank_note=_rank_note(differences, rank_p),
    )


def t_interval(differences: np.ndarray, level: float = LEVEL) -> Interval:
    """Return Student's t interval for the mean of two or more differences."""
    num = len(differences)
    assert num >= 2, num
    half = stats.t.ppf((1 + level) / 2, num - 1) * np.std(differences, ddof=1) / math.sqrt(num)
    mean = float(np.mean(differences))
    return Interval(mean - float(half), mean + float(half), "t")


def bootstrap_interval(
    differences: np.ndarray, level: float = LEVEL, num_resamples: int = _RESAMPLES
) -> Interval:
    """Return the bootstrap's interval for the mean of two or more differences.

    Always drawn with the same seed, so that one ledger gives one report. BCa corrects for bias and
    skewness; with two differences, and where it is undefined, plain percentiles take its place.
    """
    assert len(differences) >= 2, len(differences)
    for method in ("BCa", "percentile") if len(differences) > 2 else ("percentile",):
        with warnings.catch_warnings():
            # scipy warns of degenerate data where BCa gives NaN; that is what percentiles are for.
            warnings.simplefilter("ignore")
            found = stats.bootstrap(
                (differences,),
                np.mean,
                n_resamples=num_resamples,
                confidence_level=level,
                method=method,
                random_state=np.random.default_rng(0),
            ).confidence_interval
        if np.isfinite([found.low, found.high]).all():
            break
    return Interval(float(found.low), float(found.high), method)


def signed_rank_p(differences: np.ndarray) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test; zeros are left out.

    Up to 16 differences all assignments of signs are counted, which is exact with equal
    differences too; beyond, scipy decides (exact to 50 unless differences are equal).
    """
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return None
    if len(nonzero) > _MAX_ENUMERATED:
        return float(stats.wilcoxon(nonzero).pvalue)
    ranks = stats.rankdata(np.abs(nonzero))
    signs = np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero)) & 1
    distance = np.abs(signs @ ranks - ranks.sum() / 2)
    seen = abs(ranks[nonzero > 0].sum() - ranks.sum() / 2)
    return float(np.mean(distance >= seen - 1e-9))


def claim(gain: PairedGain, unit: str = _POINTS) -> str:
    """Say what may be claimed of a gain: ``+1.2 mIoU points, 95 % interval 0.3 to 2.1, 5 seeds``.

    Args:
        gain: The gain.
        unit: Name of a hundredth of the metric's unit: 100 mIoU points are an mIoU of 1.
    """
    num = gain.num_seeds
    dropped = f" ({gain.num_dropped} left out: no value)" if gain.num_dropped else ""
    if num == 0:
        return f"no seed has both a student and its control: nothing can be said{dropped}"
    mean = 100 * gain.mean
    if num == 1:
        return f"{mean:+z.1f} {unit}, one seed only: nothing can be said about chance{dropped}"
    if gain.interval is None:
        return (
            f"{mean:+z.1f} {unit} with each of {num} seeds: where seeds change nothing, nothing "
            f"can be said about chance{dropped}"
        )
    low, high = 100 * gain.interval.low, 100 * gain.interval.high
    digits = _digits(low, high)
    said = (
        f"{mean:+z.{digits}f} {unit}, {100 * LEVEL:.0f} % interval "
        f"{low:z.{digits}f} to {high:z.{digits}f}, {num} seeds{dropped}"
    )
    if not gain.interval.excludes_zero:
        return f"no gain shown ({said})"
    return said if mean > 0 else f"a loss: {said}"


def settled_claim(look: Look, num_trained: int, unit: str = _POINTS) -> str:
    """Say what may be claimed of a gain that was looked at after every seed.

    Args:
        look: The look that settled it, or the last one.
        num_trained: Seeds that were trained, those that were running when it was settled too.
        unit: As for :func:`claim`.
    """
    seeds, spared = f"{look.num_seeds} seeds", FIXED_SEEDS - num_trained
    if not math.isfinite(look.low):
        return f"not settled after {seeds}: it takes at least {FEWEST_TO_SETTLE}"
    low, high = 100 * look.low, 100 * look.high
    digits = _digits(low, high)
    said = (
        f"{seeds}: {(low + high) / 2:+z.{digits}f} {unit}, always-valid {100 * LEVEL:.0f} % "
        f"interval {low:z.{digits}f} to {high:z.{digits}f}"
    )
    against = f"{abs(spared)} {'fewer' if spared > 0 else 'more'} than" if spared else "as many as"
    used = f"; {num_trained} seeds trained, {against} a fixed {FIXED_SEEDS}"
    if look.verdict is Verdict.OPEN:
        return f"not settled after {said}{used if spared < 0 else ''}"
    if look.verdict is Verdict.NEITHER:
        matters = f"{100 * LEAST_THAT_MATTERS:g} {unit} or more"
        return f"no difference that matters ({matters}), settled after {said}{used}"
    return f"a {look.verdict}, settled after {said}{used}"


def skew_note(differences: Sequence[float]) -> str | None:
    """Name strong skew, which the always-valid test does not bear; ``None`` where none is seen.

    Seen is what D'Agostino's test of skewness, which takes 8 seeds, finds at 5 %. It misses much:
    with lognormal differences it names about a third of the false claims made after 8 or more.
    """
    found = np.array([value for value in differences if math.isfinite(value)])
    if len(found) < LEAST_FOR_SKEWNESS or _identical(found):
        return None
    p = float(stats.skewtest(found).pvalue)
    if p >= 1 - LEVEL:
        return None
    signs = stats.binomtest(int((found > 0).sum()), int(np.count_nonzero(found))).pvalue
    return (
        f"the differences are lopsided (skewness {stats.skew(found):+.1f}, D'Agostino's test p "
        f"{p:.2g}), where Student's t and the always-valid test claim too easily; the sign test, "
        f"which does not mind, has p {signs:.2g}"
    )


def _digits(low: float, high: float) -> int:
    """Return the digits with which an end that is not zero does not look like it."""
    for digits in (1, 2, 3):
        if all(round(abs(end), digits) > 0 for end in (low, high)):
            return digits
    return 4


def _rank_note(differences: np.ndarray, rank_p: float | None) -> str | None:
    if not len(differences):
        return None
    if len(differences) == 1:
        return "nothing can be tested with one seed"
    if rank_p is None:
        return "no difference between student and control"
    num = int(np.count_nonzero(differences))
    if num < LEAST_FOR_RANK_TEST:
        return (
            f"with {counted(num, 'seed')} that differ the signed-rank test cannot reach 5 % (the "
            f"least p is {2 / 2**num:.3g}); it takes {LEAST_FOR_RANK_TEST}"
        )
    return None


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else float(value) for value in values])


def _identical(differences: np.ndarray) -> bool:
    """Return whether all are equal but for the rounding of a subtraction."""
    return bool(np.ptp(differences) <= 1e-12)


def _sd(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return math.nan
    return 0.0 if _identical(differences) else float(np.std(differences, ddof=1))
