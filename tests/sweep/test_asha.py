"""Halving: its rule worked by hand, and against Ray Tune's own scheduler."""

import random
from types import SimpleNamespace

import pytest

from kdsweep.ledger.rungs import Rungs
from kdsweep.sweep.asha import Asha


def test_rungs_are_powers_of_the_reduction_factor():
    assert [epoch for epoch in range(1, 28) if Rungs(1, 3).is_rung(epoch)] == [1, 3, 9, 27]
    assert [epoch for epoch in range(1, 33) if Rungs(2, 4).is_rung(epoch)] == [2, 8, 32]


def test_a_trial_goes_on_if_it_is_in_the_best_third_so_far():
    rungs = Rungs(1, 3)
    asha = Asha(rungs)
    assert not asha.should_stop(0, 1, 0.1), "nobody to compare with"
    for trial, value in enumerate([0.1, 0.2, 0.3, 0.4]):
        rungs.record(trial, 1, (value,))
    # The two-thirds quantile of 0.1 … 0.4 is 0.3.
    assert asha.should_stop(4, 1, 0.299)
    assert not asha.should_stop(4, 1, 0.301)
    assert not asha.should_stop(4, 2, 0.0), "epoch 2 is no rung"
    assert not asha.should_stop(4, 3, 0.0), "nobody has reached the second rung"


def test_a_trial_is_not_compared_with_its_own_record():
    rungs = Rungs(1, 2)
    asha = Asha(rungs)
    rungs.record(0, 1, (0.2,))
    first = asha.should_stop(1, 1, 0.1)
    rungs.record(1, 1, (0.1,))
    assert asha.should_stop(1, 1, 0.1) == first


@pytest.mark.parametrize(
    ("grace_period", "reduction_factor", "epochs"), [(1, 3, 27), (1, 2, 16), (2, 4, 40), (3, 3, 10)]
)
def test_decisions_are_those_of_ray(grace_period, reduction_factor, epochs):
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    num_decisions = num_stops = 0
    for seed in range(12):
        random_ = random.Random(seed)
        theirs = ASHAScheduler(
            time_attr="epoch",
            metric="value",
            mode="max",
            max_t=epochs,
            grace_period=grace_period,
            reduction_factor=reduction_factor,
        )
        rungs = Rungs(grace_period, reduction_factor)
        ours = Asha(rungs)
        trials = {n: SimpleNamespace(trial_id=str(n), run_metadata=None) for n in range(40)}
        for trial in trials.values():
            theirs.on_trial_add(None, trial)
        level = {n: random_.gauss(0, 1) for n in trials}
        epoch = dict.fromkeys(trials, 0)
        alive = list(trials)
        while alive:
            number = random_.choice(alive)
            epoch[number] += 1
            # Rounded, so that equal values occur.
            value = round(level[number] + 0.1 * epoch[number] + random_.gauss(0, 0.5), 1)
            result = {"epoch": epoch[number], "value": value}
            decision = theirs.on_trial_result(None, trials[number], result)
            stop = epoch[number] >= epochs or ours.should_stop(number, epoch[number], value)
            rungs.record(number, epoch[number], (value,))
            assert (decision == TrialScheduler.STOP) == stop, (seed, number, epoch[number])
            num_decisions += 1
            num_stops += stop
            if stop:
                alive.remove(number)
        assert num_stops > 0
    assert num_decisions > 1000
