"""The sampler's history is a function of the ledger: live and replayed studies are equal."""

import optuna
import pytest
from plain_events import typed
from simulation import Simulation, essence, make_space

from kdsweep.errors import ConfigError
from kdsweep.ledger.events import TrialEvent
from kdsweep.ledger.state import Sweep
from kdsweep.sweep import history, samplers
from kdsweep.sweep.display import event_line
from kdsweep.sweep.samplers import check_sampler
from kdsweep.sweep.study import Study

FINITE = {
    "distill": {"pixel_kl": {"weight": 1.0, "temperature": {"values": [1.0, 2.0]}}},
    "train": {"epochs": 3, "lr": {"values": [1.0e-3, 1.0e-2]}},
}


def facts(study):
    return {
        number: (t.state, t.params, t.distributions, t.values, t.intermediate_values)
        for number, t in study.trials().items()
    }


@pytest.mark.parametrize("limit", [None, 30])
@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_a_replayed_study_equals_the_live_one_and_draws_the_same(
    tmp_path, sampler, limit, monkeypatch
):
    if limit is not None:
        few(monkeypatch, limit)
    # Enough trials for the sampler to leave its random start, some of them failed.
    teacher = {"encoder": {"values": ["resnet34", "resnet50"]}}
    teacher["options"] = {"values": [{}, {"behave": "nan", "at": 4}]}
    space = make_space(sweep={"sampler": sampler, "trials": 40}, teacher=teacher)
    simulation = Simulation(tmp_path, space, slots=3)
    live = simulation.run(seed=1, max_events=110)
    assert live.sweep.running(), "the run is dropped while trials are running"
    states = {t.state.name for t in live.study.trials().values()}
    assert {"COMPLETE", "PRUNED", "RUNNING"} <= states

    replayed = Study(space)
    for event in typed(simulation.events()):
        replayed.apply(event)
    assert facts(replayed) == facts(live.study)
    number = len(live.sweep.trials)
    for ahead in range(3):
        ours, theirs = live.study.ask(number + ahead), replayed.ask(number + ahead)
        assert ours == theirs
        named = {"kind": "search", "label": "x", "student": "x"}
        event = TrialEvent(trial=number + ahead, params=ours.params, **named)
        for one in (live.study, replayed):
            one.apply(event)


def few(monkeypatch, limit):
    for name, number in {"LIMIT": limit, "NUM_BEST": 6, "NUM_NEWEST": 8}.items():
        monkeypatch.setattr(history, name, number)


def test_a_long_sweep_shows_its_sampler_the_best_and_the_newest(tmp_path, monkeypatch):
    shown = []
    original = optuna.samplers.TPESampler.sample_relative

    def looking(self, study, trial, search_space):
        shown.append([t for t in study.get_trials() if t.state.is_finished()])
        return original(self, study, trial, search_space)

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", looking)
    few(monkeypatch, 40)
    driver = Simulation(tmp_path, make_space(sweep={"trials": 60}), slots=2).run()
    assert max(map(len, shown)) <= 40
    known = driver.study.trials()
    assert sorted(known) == [n for n, t in driver.sweep.trials.items() if not t.is_control]
    complete = [t for t in known.values() if t.state.name == "COMPLETE" and t.number < 30]
    best = max(complete, key=lambda trial: trial.value)
    assert best.params in [trial.params for trial in shown[-1]]


def test_gp_leaves_its_random_start_in_a_sweep_that_halves(tmp_path, monkeypatch):
    fits = []
    original = optuna.samplers.GPSampler.sample_relative

    def counting(self, study, trial, search_space):
        found = original(self, study, trial, search_space)
        fits.extend([trial.number] if found else [])
        return found

    monkeypatch.setattr(optuna.samplers.GPSampler, "sample_relative", counting)
    space = make_space(sweep={"sampler": "gp", "trials": 30}, distill={"pixel_kl": {"weight": 1.0}})
    driver = Simulation(tmp_path, space, slots=2).run()
    states = [trial.state.name for trial in driver.study.trials().values()]
    assert len(states) == 30
    assert states.count("PRUNED") > states.count("COMPLETE")
    assert len(fits) >= 15  # all but the first ten, and what runs beside the tenth


def test_states_and_values_are_those_of_the_ledger(tmp_path):
    teacher = {"options": {"values": [{}, {"behave": "error"}]}}
    simulation = Simulation(tmp_path, make_space(teacher=teacher), slots=2)
    driver = simulation.run()
    names = {"complete": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    seen = set()
    for number, trial in driver.study.trials().items():
        known = driver.sweep.trials[number]
        assert trial.state.name == names[known.state]
        assert trial.intermediate_values == known.values
        if known.state == "complete":
            assert trial.value == known.best
        if known.state == "stopped":
            assert trial.value == known.last
        seen.add(known.state)
    assert seen == set(names)
    assert not any(
        t.is_control for n, t in driver.sweep.trials.items() if n in driver.study.trials()
    )


def test_the_seed_decides_what_is_drawn(tmp_path):
    drawn = []
    for index, seed in enumerate((5, 5, 6)):
        space = make_space(sweep={"seed": seed, "trials": 12})
        driver = Simulation(tmp_path / str(index), space).run()
        drawn.append([t.params for t in driver.sweep.trials.values()])
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_a_grid_is_walked_in_order_and_to_its_end(tmp_path):
    space = make_space(sweep={"sampler": "grid", "trials": 100}, **FINITE)
    driver = Simulation(tmp_path, space, slots=2).run()
    drawn = [t.params for t in driver.sweep.trials.values() if not t.is_control]
    assert drawn == list(space.grid())
    assert len(drawn) == 16


def test_a_grid_with_fewer_trials_is_cut_off(tmp_path):
    space = make_space(sweep={"sampler": "grid", "trials": 5}, **FINITE)
    driver = Simulation(tmp_path, space).run()
    drawn = [t.params for t in driver.sweep.trials.values() if not t.is_control]
    assert drawn == list(space.grid())[:5]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_finite_space_is_trained_point_by_point_without_repeats(tmp_path, sampler):
    space = make_space(sweep={"sampler": sampler, "trials": 100}, **FINITE)
    driver = Simulation(tmp_path, space, slots=2).run()
    drawn = [tuple(t.params.items()) for t in driver.sweep.trials.values() if not t.is_control]
    assert len(drawn) == len(set(drawn)) == space.num_points() == 16


def test_what_a_sampler_cannot_learn_is_in_the_ledger_and_said_once(tmp_path):
    space = make_space(sweep={"sampler": "cmaes"})
    simulation, whole = Simulation(tmp_path / "a", space), Simulation(tmp_path / "b", space)
    whole.run()
    simulation.run(max_events=60)
    simulation.run()
    assert essence(simulation.events()) == essence(whole.events())
    sweep, said = Sweep(), []
    for event in typed(simulation.events()):
        sweep.apply(event)
        if isinstance(event, TrialEvent):
            said.append(event_line(sweep, event))
    first, *others = [t for t in sweep.trials.values() if not t.is_control]
    assert first.at_random == []
    for trial in others:
        # A weight that only some have is learned until the first trial without it has ended.
        assert {"teacher.encoder", "student.encoder"} <= set(trial.at_random)
        assert set(trial.at_random) <= set(trial.params) - {"train.lr"}
    assert any("distill.pixel_kl[1].weight" in trial.at_random for trial in others)
    lines = [line for line in said if line is not None]
    for name in {name for trial in others for name in trial.at_random}:
        found = [line for line in lines if f" {name}," in line or f" {name};" in line]
        assert len(found) == 1
        assert "sampler cmaes draws these at random, because it learns numbers" in found[0]


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    check_sampler("cmaes")
    monkeypatch.setattr(samplers.importlib.util, "find_spec", lambda name: None)
    check_sampler("tpe")
    with pytest.raises(ConfigError, match=r"kdsweep\[samplers\]"):
        check_sampler("cmaes")
