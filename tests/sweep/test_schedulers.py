"""Halving: its rule worked by hand, and against Ray Tune's own scheduler."""

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulation import SPACE, Simulation, make_space

from kdsweep.config.halving import num_spared
from kdsweep.config.metrics import metric_of
from kdsweep.errors import ConfigError
from kdsweep.ledger.rungs import Rungs
from kdsweep.sweep.schedulers import make_scheduler
from kdsweep.sweep.schedulers.asha import Asha


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


PLUGIN = """
from kdsweep.sweep.schedulers import Scheduler


class OneEpoch(Scheduler):
    def should_stop(self, trial, epoch, value, further=()):
        return True
"""
USE = """
from pathlib import Path
import sys

from simulation import Simulation, make_space

for name in ("one_epoch", "none"):
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    simulation = Simulation(folder, make_space(sweep={"scheduler": name, "trials": 2}))
    trials = simulation.run().sweep.trials.values()
    print("result", sorted((len(t.values), str(t.stop)) for t in trials if not t.is_control))
"""


def test_a_scheduler_of_another_package_decides(tmp_path):
    site = tmp_path / "site"
    facts = site / "extra-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "extra.py").write_text(PLUGIN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[kdsweep.schedulers]\none_epoch = extra:OneEpoch\n")
    here = Path(__file__).parent
    paths = [str(site), str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 0, done.stderr
    epochs = SPACE["train"]["epochs"]
    expected = [[(1, "asha")] * 2, [(epochs, "complete")] * 2]
    lines = [line for line in done.stdout.splitlines() if line.startswith("result")]
    assert lines == [f"result {trials}" for trials in expected]


def test_a_name_gives_its_scheduler():
    rungs, objectives = Rungs(1, 3), [metric_of("student/miou")]
    rungs.record(0, 1, (0.5,))
    made = {name: make_scheduler(name, rungs, objectives) for name in ("asha", "none")}
    assert {name: found.should_stop(1, 1, 0.1) for name, found in made.items()} == {
        "asha": True,
        "none": False,
    }


def test_an_unknown_scheduler_is_a_slip_of_one_that_is_there():
    with pytest.raises(ConfigError) as raised:
        make_space(sweep={"scheduler": "ashas"})
    assert raised.value.path == ("sweep", "scheduler")
    assert "allowed: asha, asha_per_student, none" in str(raised.value)
    assert "did you mean `asha`?" in str(raised.value)
    assert make_space(sweep={"scheduler": "none"}).sweep.stops_early is False


def test_with_two_metrics_a_trial_that_no_other_beats_in_both_goes_on():
    objectives = [metric_of("student/miou"), metric_of("student/params_m")]
    rungs = Rungs(1, 3)
    for trial, point in enumerate([(0.5, 20.0), (0.4, 10.0), (0.3, 30.0)]):
        rungs.record(trial, 1, point)
    both, score_alone = Asha(rungs, objectives), Asha(rungs, objectives[:1])
    assert not both.should_stop(9, 1, 0.2, [5.0])  # the smallest
    assert both.should_stop(9, 1, 0.2, [25.0])
    assert score_alone.should_stop(9, 1, 0.2, [5.0])


def per_student(students):
    """ASHA per student at rungs 1 and 3; ``students`` by trial."""
    rungs = Rungs(1, 3)
    return rungs, make_scheduler("asha_per_student", rungs, student_of=students.__getitem__)


def test_the_best_of_each_student_goes_on_whatever_its_rank():
    rungs, rule = per_student({0: "a", 1: "a", 2: "b", 3: "b", 4: "b", 5: "a"})
    stops = []
    for trial, value in enumerate([0.5, 0.4, 0.1, 0.05, 0.2, 0.3]):
        stops.append(rule.should_stop(trial, 1, value))
        # Asking again gives the same answer, before and after it was recorded.
        assert rule.should_stop(trial, 1, value) is stops[-1]
        rungs.record(trial, 1, (value,))
        assert rule.should_stop(trial, 1, value) is stops[-1]
    assert stops == [False, True, False, True, False, True]


def test_between_rungs_nobody_is_looked_at():
    _, rule = per_student({0: "a", 1: "a"})
    assert not rule.should_stop(1, 2, 0.0)


def test_without_students_it_is_asha():
    plain, own = Rungs(1, 3), Rungs(1, 3)
    asha, rule = make_scheduler("asha", plain), make_scheduler("asha_per_student", own)
    draw = random.Random(0)
    for trial in range(300):
        value = draw.random()
        assert rule.should_stop(trial, 1, value) == asha.should_stop(trial, 1, value)
        plain.record(trial, 1, (value,))
        own.record(trial, 1, (value,))


@pytest.mark.parametrize(("trials", "spares"), [(15, 0), (16, 2), (40, 2)])
def test_few_trials_for_each_student_are_compared_with_all(tmp_path, trials, spares):
    space = make_space(
        teacher={"encoder": "resnet34"},
        sweep={"trials": trials, "controls": "none"},
        train={"epochs": 9},
    )
    assert space.num_students() == 2
    assert num_spared(space, trials) == spares
    state = Simulation(tmp_path, space, slots=1).run().sweep
    firsts = {}
    for trial in state.trials.values():
        firsts.setdefault(trial.student, trial)
    is_complete = [trial.state == "complete" for trial in firsts.values()]
    assert all(is_complete) or not spares


def test_old_files_keep_their_rule():
    assert num_spared(make_space(sweep={"scheduler": "asha", "trials": 99}), 99) == 0
    endless = {"encoder": "resnet18", "options": {"decoder_use_batchnorm": True}}
    assert num_spared(make_space(student=endless, sweep={"trials": 9}), 9) == 1
