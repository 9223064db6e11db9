"""What repeated seeds show: numbers against independent sources, coverage by simulation, words."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from kdsweep.reporting.statistics import (
    LEAST_FOR_RANK_TEST,
    bootstrap_interval,
    claim,
    paired_gain,
    signed_rank_p,
    t_interval,
)

CONTROLS = [0.600, 0.610, 0.590, 0.605, 0.595]


def gain_of(*points):
    """A gain whose differences are so many mIoU points."""
    return paired_gain([c + p / 100 for c, p in zip(itertools.cycle(CONTROLS), points)],
                       [c for c, _ in zip(itertools.cycle(CONTROLS), points)])  # fmt: skip


def test_numbers_of_a_gain_by_hand():
    gain = gain_of(1.0, 2.0, 3.0)
    assert gain.mean == pytest.approx(0.02)
    assert gain.sd == pytest.approx(0.01)
    # 4.3027 is the table's 97.5 % quantile of t with two degrees of freedom.
    assert gain.interval.low == pytest.approx(0.02 - 4.3027 * 0.01 / math.sqrt(3), abs=1e-6)
    assert gain.interval.high == pytest.approx(0.02 + 4.3027 * 0.01 / math.sqrt(3), abs=1e-6)
    assert (gain.interval.method, gain.bootstrap.method) == ("t", "BCa")
    assert gain.num_seeds == 3


def test_the_t_interval_covers_what_it_promises():
    generator = np.random.default_rng(1)
    for num in (3, 5, 10):
        samples = generator.normal(0.012, 0.02, (8000, num))
        covered = np.mean([i.low <= 0.012 <= i.high for i in map(t_interval, samples)])
        assert covered == pytest.approx(0.95, abs=0.01), num


def test_the_bootstrap_is_too_narrow_with_few_seeds():
    generator = np.random.default_rng(2)
    measured = {}
    for num in (3, 5, 10):
        samples = generator.normal(0.012, 0.02, (1000, num))
        found = [bootstrap_interval(sample, num_resamples=999) for sample in samples]
        measured[num] = np.mean([i.low <= 0.012 <= i.high for i in found])
    # What the module's docstring says, each within three standard errors of the simulation.
    assert measured == {
        3: pytest.approx(0.74, abs=0.042),
        5: pytest.approx(0.84, abs=0.035),
        10: pytest.approx(0.91, abs=0.027),
    }


@pytest.mark.parametrize("num", [1, 2, 5, 8, 12])
def test_the_rank_test_is_exact(num):
    differences = np.random.default_rng(num).normal(0.3, 1, num)
    assert signed_rank_p(differences) == pytest.approx(
        stats.wilcoxon(differences, method="exact").pvalue
    )


def test_the_rank_test_counts_all_signs_where_differences_are_equal():
    differences = np.array([1.0, 1.0, 1.0, -1.0, 2.0, 2.0, 0.0])
    ranks = [2.5, 2.5, 2.5, 2.5, 5.5, 5.5]
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=6)]
    seen = 21 - 2.5
    expected = sum(s >= seen or s <= 21 - seen for s in sums) / 64
    assert signed_rank_p(differences) == expected
    assert signed_rank_p(np.linspace(0.1, 1, 30)) == pytest.approx(2 / 2**30)


def test_five_seeds_cannot_reach_five_percent_by_ranks_and_six_can():
    five, six = gain_of(1, 1.1, 1.2, 1.3, 1.4), gain_of(1, 1.1, 1.2, 1.3, 1.4, 1.5)
    assert five.rank_p == 0.0625
    assert "cannot reach 5 % (the least p is 0.0625); it takes 6" in five.rank_note
    assert (six.rank_p, six.rank_note) == (0.03125, None)
    assert 2 / 2**LEAST_FOR_RANK_TEST < 0.05 < 2 / 2 ** (LEAST_FOR_RANK_TEST - 1)


def test_a_gain_that_chance_does_not_explain_is_claimed():
    gain = gain_of(0.6, 1.0, 1.2, 1.4, 1.8)
    assert claim(gain) == "+1.2 mIoU points, 95 % interval 0.6 to 1.8, 5 seeds"


def test_a_gain_within_chance_is_not():
    assert claim(gain_of(-1.0, 2.0, 0.5)) == (
        "no gain shown (+0.5 mIoU points, 95 % interval -3.2 to 4.2, 3 seeds)"
    )


def test_nothing_is_not_a_loss():
    words = "no gain shown (+0.0 mIoU points, 95 % interval -5.2 to 5.1, 2 seeds)"
    assert claim(gain_of(-0.41, 0.40)) == words


def test_a_loss_is_called_one():
    assert claim(gain_of(-1.0, -1.2, -1.4)) == (
        "a loss: -1.2 mIoU points, 95 % interval -1.7 to -0.7, 3 seeds"
    )


def test_an_end_near_zero_does_not_look_like_zero():
    gain = gain_of(0.922, 1.078)  # half of the interval is 12.706 times 0.078
    assert "95 % interval 0.01 to 1.99, 2 seeds" in claim(gain)


def test_one_seed_says_nothing_about_chance():
    gain = gain_of(1.2)
    assert (gain.interval, gain.bootstrap, gain.rank_p) == (None, None, None)
    assert gain.rank_note == "nothing can be tested with one seed"
    assert math.isnan(gain.sd)
    assert claim(gain) == ("+1.2 mIoU points, one seed only: nothing can be said about chance")


def test_two_seeds_have_a_wide_interval():
    gain = gain_of(1.0, 2.0)
    assert gain.sd == pytest.approx(0.01 / math.sqrt(2))
    # One degree of freedom: 12.706 standard errors.
    assert claim(gain) == "no gain shown (+1.5 mIoU points, 95 % interval -4.9 to 7.9, 2 seeds)"
    assert gain.bootstrap.method == "percentile"
    assert gain.bootstrap.low == pytest.approx(0.01)
    assert gain.bootstrap.high == pytest.approx(0.02)


def test_seeds_that_change_nothing_show_nothing():
    gain = gain_of(1.2, 1.2, 1.2)
    assert gain.sd == 0
    assert (gain.interval, gain.bootstrap) == (None, None)
    assert claim(gain).startswith("+1.2 mIoU points with each of 3 seeds: where seeds change")
    none = gain_of(0.0, 0.0)
    assert none.rank_p is None
    assert none.rank_note == "no difference between student and control"


def test_missing_values_are_left_out_and_counted():
    gain = paired_gain([0.62, None, math.nan, 0.64, 0.63], [0.6, 0.6, 0.6, math.inf, 0.6])
    assert gain.num_seeds == 2
    assert gain.num_dropped == 3
    assert claim(gain).endswith("2 seeds (3 left out: no value))")
    nothing = paired_gain([None], [0.6])
    assert math.isnan(nothing.mean)
    assert claim(nothing) == (
        "no seed has both a student and its control: nothing can be said (1 left out: no value)"
    )
    assert claim(paired_gain([], [])).startswith("no seed has both")


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="2 students but 1 controls"):
        paired_gain([0.1, 0.2], [0.1])


def test_the_bootstrap_gives_the_same_interval_every_time():
    assert gain_of(0.6, 1.0, 1.2, 1.4).bootstrap == gain_of(0.6, 1.0, 1.2, 1.4).bootstrap


def test_other_metrics_have_their_own_unit():
    gain = paired_gain([0.91, 0.93, 0.95], [0.90, 0.90, 0.90])
    said = claim(gain, unit="percentage points of pixel accuracy")
    assert "+3.0 percentage points of pixel accuracy" in said
