"""The always-valid test: its formula, its edges, and how often it is wrong on simulated seeds."""

import math

import numpy as np
import pytest

from kdsweep.ledger.anytime import (
    CLAIM_AT,
    FEWEST_TO_SETTLE,
    LEAST_THAT_MATTERS,
    Verdict,
    evidence,
    look_at,
    reach,
    settle,
)

MOST_SEEDS = 20
NUM_PATHS = 20_000
GAIN = [0.02, 0.025, 0.018, 0.022, 0.021, 0.024]


def test_evidence_is_the_mixture_of_t_densities_over_that_of_no_gain():
    """Against the integral it is short for: noncentral t over central t, the prior on the gain."""
    from scipy import integrate, stats

    mean, sd, num = 0.8, 1.1, 6
    t = mean / (sd / math.sqrt(num))

    def weighed(gain):
        return stats.nct.pdf(t, num - 1, gain * math.sqrt(num)) * stats.norm.pdf(gain)

    mixture = integrate.quad(weighed, -8, 8)[0]
    assert evidence(mean, sd, num) == pytest.approx(mixture / stats.t.pdf(t, num - 1), rel=1e-6)


@pytest.mark.parametrize("num", [5, 8, 20])
def test_at_the_ends_of_the_interval_the_evidence_is_20(num):
    assert evidence(reach(num) * 0.3, 0.3, num) == pytest.approx(CLAIM_AT)


def test_four_seeds_settle_nothing_whatever_they_say():
    assert [math.isinf(reach(num)) for num in (3, 4, 5)] == [True, True, False]
    assert FEWEST_TO_SETTLE == 5
    assert settle([1.0, 1.01, 1.02, 1.01]).verdict is Verdict.OPEN


def test_a_look_is_the_formula_on_its_seeds():
    look = look_at(GAIN)
    mean, sd = np.mean(GAIN), np.std(GAIN, ddof=1)
    assert look.evidence == pytest.approx(evidence(mean, sd, 6))
    assert (look.low, look.high) == pytest.approx((mean - reach(6) * sd, mean + reach(6) * sd))


def test_the_first_look_that_settles_counts():
    look = settle([*GAIN, -1.0, -2.0])
    assert (look.verdict, look.num_seeds) == (Verdict.GAIN, 5)
    assert look == look_at(GAIN[:5])
    assert look.evidence >= CLAIM_AT
    assert look.low > 0
    assert settle([-value for value in GAIN]).verdict is Verdict.LOSS
    assert settle([0.02, -0.02, 0.03, -0.01, 0.01, 0.02]).verdict is Verdict.OPEN


def test_a_difference_too_small_to_matter_is_settled_too():
    tiny = [0.0002, -0.0001, 0.0003, -0.0002, 0.0001]
    look = settle(tiny)
    assert look.verdict is Verdict.NEITHER
    assert -LEAST_THAT_MATTERS <= look.low < 0 < look.high <= LEAST_THAT_MATTERS
    assert settle([10 * value for value in tiny]).verdict is Verdict.OPEN


@pytest.mark.parametrize("none", [[], [0.1], [0.1, 0.2], [0.02] * 9, [math.nan] * 9])
def test_few_or_equal_seeds_say_nothing(none):
    assert look_at(none) is None
    assert settle(none) is None


def test_what_is_not_finite_is_left_out():
    assert settle([math.nan, *GAIN[:2], math.inf, *GAIN[2:]]) == settle(GAIN)


# -- simulated seeds ----------------------------------------------------------------------------


def looks(differences):
    """Mean and standard deviation after each seed from the third; two arrays (paths, looks)."""
    num = np.arange(1, MOST_SEEDS + 1)
    mean = differences.cumsum(axis=1) / num
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = ((differences**2).cumsum(axis=1) - num * mean**2) / (num - 1)
    return mean[:, 2:], np.sqrt(variance[:, 2:])


REACH = np.array([reach(num) for num in range(3, MOST_SEEDS + 1)])


def draws(name):
    """Centred differences, (paths, seeds)."""
    random, size = np.random.default_rng(7), (NUM_PATHS, MOST_SEEDS)
    match name:
        case "normal":
            return random.standard_normal(size)
        case "t3":
            return random.standard_t(3, size)
        case "gamma 4":
            return random.gamma(4, 1, size) - 4
    return random.lognormal(0, 1, size) - math.exp(0.5)


@pytest.mark.parametrize(
    ("name", "wrong"), [("normal", 0.018), ("t3", 0.011), ("gamma 4", 0.036), ("lognormal", 0.19)]
)
def test_how_often_it_claims_what_is_not_there(name, wrong):
    """At any of 18 looks; 5 of 100 are allowed. Strong skew is what it does not bear."""
    mean, sd = looks(draws(name))
    claims = (np.abs(mean) > REACH * sd).any(axis=1).mean()
    assert claims == pytest.approx(wrong, abs=4 * math.sqrt(wrong / NUM_PATHS) + 0.001)


def test_student_t_after_each_seed_claims_what_is_not_there_far_more_often():
    from scipy import stats

    mean, sd = looks(draws("normal"))
    num = np.arange(3, MOST_SEEDS + 1)
    student = stats.t.ppf(0.975, num - 1) / np.sqrt(num)
    assert (np.abs(mean) > student * sd).any(axis=1).mean() == pytest.approx(0.23, abs=0.015)


@pytest.mark.parametrize(("gain", "share", "seeds"), [(1, 0.87, 12.7), (2, 1.0, 6.9)])
def test_what_it_finds_and_after_how_many_seeds(gain, share, seeds):
    mean, sd = looks(draws("normal") + gain)
    claimed = mean > REACH * sd
    found = claimed.any(axis=1)
    used = np.where(found, claimed.argmax(axis=1) + 3, MOST_SEEDS)
    assert found.mean() == pytest.approx(share, abs=0.01)
    assert used.mean() == pytest.approx(seeds, abs=0.15)


def test_the_interval_holds_the_truth_at_all_looks_together():
    """Also after as many seeds as it took to settle; at 95 of 100 it would be just good enough."""
    mean, sd = looks(draws("normal") + 0.5)
    covered = np.abs(mean - 0.5) <= REACH * sd
    assert covered.all(axis=1).mean() >= 0.975
    claimed = np.abs(mean) > REACH * sd
    last = np.where(claimed.any(axis=1), claimed.argmax(axis=1), len(REACH) - 1)
    assert covered[np.arange(NUM_PATHS), last].mean() >= 0.975
