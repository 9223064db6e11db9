"""What reports say of controls that train for as long as their pair took."""

import pytest
from experiments_on_disk import results_of, shown

from kdsweep.reporting import render
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.confirmation import claims_in


@pytest.fixture
def results(story):
    """Six seeds: above the control of as many epochs, below the one of as much time."""
    story.sweep(trials=6, num_controls=12, epochs=1, controls="paired",
                further_controls=["equal_time"]).session(slots=9)  # fmt: skip
    for seed in range(6):
        number = 3 * seed
        drawn = {"job": "trial 0007", "train.seed": seed}
        story.trial(number, control=number + 1, params=drawn, further={"equal_time": number + 2})
        story.trial(number + 1, teacher=None, rides_with=number)
        story.trial(number + 2, teacher=None)
        luck = 1e-4 * (-1) ** seed
        story.run(number, [0.45 + luck], test=0.35)
        story.run(number + 1, [0.40], test=0.30)
        story.run(number + 2, [0.41, 0.47], test=0.37)
    return results_of(story.events)


def test_a_row_for_each_control(results):
    claims = claims_in(results.confirmation)
    assert [(one.split, one.against, one.gain) for one in claims] == [
        ("validation", "no teacher", pytest.approx(0.05)),
        ("validation", "equal time", pytest.approx(-0.02)),
        ("test", "no teacher", pytest.approx(0.05)),
        ("test", "equal time", pytest.approx(-0.02)),
    ]
    assert claims[1].claim.startswith(
        "against the same student trained without a teacher for as long as the pair, a loss: "
    )
    (note,) = [note for note in notes(results) if note.startswith("against ")]
    assert note.startswith("against equal time: the same student without a teacher for more epochs")
    assert "for as long as the pair" in " ".join(shown(render, results, width=200).split())


def test_nothing_is_said_of_self_taught_ones(results):
    assert not {"self_control", "self_gain"} & {*results.gains, *results.trials}
    assert "its own average" not in shown(render, results, width=200)
