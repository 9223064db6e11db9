"""The cutoff of a rung, which nobody has to sort for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.ledger.rungs import Rungs

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60)


@given(SCORES, st.integers(2, 5), st.integers(0, 80))
def test_it_is_numpys_percentile_of_the_others_to_the_last_bit(scores, factor, asks):
    rungs = Rungs(1, factor)
    for trial, score in enumerate(scores):
        rungs.record(trial, 1, [score])
    others = [score for trial, score in enumerate(scores) if trial != asks]
    wanted = np.percentile(others, (1 - 1 / factor) * 100) if others else None
    assert rungs.cutoff(asks, 1) == wanted


@given(SCORES, st.floats(0, 1))
def test_a_trial_that_is_tried_again_has_its_new_score_alone(scores, again):
    rungs, fresh = Rungs(1, 3), Rungs(1, 3)
    for trial, score in enumerate(scores):
        rungs.record(trial, 1, [score])
        fresh.record(trial, 1, [again if trial == 0 else score])
    rungs.record(0, 1, [again])
    assert rungs.cutoff(99, 1) == fresh.cutoff(99, 1)
    assert rungs.points == fresh.points
