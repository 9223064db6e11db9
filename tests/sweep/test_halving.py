"""The first rung that a space says, or that follows from its epochs and warm-ups."""

import pytest
from simulation import make_space

from kdsweep.config.halving import grace_period


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (4, 1), (9, 1), (27, 3), (40, 4), (100, 11)])
def test_it_is_a_ninth_of_the_epochs(epochs, first):
    assert grace_period(make_space(train={"epochs": epochs})) == first


def test_the_longest_job_decides():
    assert grace_period(make_space(train={"epochs": {"values": [9, 45]}})) == 5


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"epochs": 18, "warmup_epochs": 4.5}},
        {"train": {"epochs": 18, "student": {"warmup_epochs": 4.5}}},
        {"train": {"epochs": 18}, "distill": {"warmup_epochs": 4.5}},
        {"train": {"epochs": 18}, "distill": {"attention": {"weight": 1, "warmup_epochs": 4.5}}},
    ],
)
def test_no_trial_is_judged_while_something_warms_up(sections):
    assert grace_period(make_space(**sections)) == 5


def test_a_constant_weight_has_no_warm_up():
    distill = {"warmup_epochs": 4.5, "ramp": "constant"}
    assert grace_period(make_space(train={"epochs": 18}, distill=distill)) == 2


def test_a_number_is_kept():
    space = make_space(train={"epochs": 27}, sweep={"grace_period": 1})
    assert grace_period(space) == 1
