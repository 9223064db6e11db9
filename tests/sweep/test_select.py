"""Sweeps of which each trial's last epoch counts, not its best. Without Ray."""

from plain_events import typed
from simulation import Simulation, make_space

from kdsweep.ledger.state import Sweep

OPTIONS = {"train": {"epochs": 9}, "teacher": {"encoder": "resnet34", "options": {"drop": 0.2}}}
OPTIONS |= {"sweep": {"trials": 6, "scheduler": "none"}}


def run(tmp_path, select=None, **changes):
    options = {**OPTIONS, **changes}
    train = {**options["train"], **({} if select is None else {"select": select})}
    simulation = Simulation(tmp_path, make_space(**{**options, "train": train}))
    return simulation, simulation.run()


def test_the_last_value_is_the_trials_for_sampler_ranking_and_gain(tmp_path):
    simulation, driver = run(tmp_path, "last")
    best = run(tmp_path / "best")[1].sweep
    sweep = driver.sweep
    assert sweep.select == Sweep(typed(simulation.events())).select == "last"
    assert simulation.events()[0]["select"] == "last"
    search = [trial for trial in sweep.trials.values() if not trial.is_control]
    for trial in search:
        assert (trial.best_epoch, trial.best) == (9, trial.values[9])
        assert driver.study.trial(trial.number).value == trial.values[9]
        assert sweep.partner(trial.number)[1] == 9
    assert sweep.best().best == max(trial.last for trial in sweep.trials.values())
    assert all(trial.best_epoch < 9 for trial in best.trials.values() if not trial.is_control)


def test_of_a_stopped_trial_it_is_the_last_one_it_had_and_halving_compares_as_ever(tmp_path):
    sweep = run(tmp_path, "last", sweep={"trials": 14, "sampler": "random"})[1].sweep
    best = run(tmp_path / "best", sweep={"trials": 14, "sampler": "random"})[1].sweep
    stopped = [trial for trial in sweep.trials.values() if trial.stop == "asha"]
    assert stopped
    for trial in stopped:
        assert trial.best == trial.values[trial.epoch]
    assert {t.number: t.values for t in sweep.trials.values()} == {
        t.number: t.values for t in best.trials.values()
    }


def test_by_default_the_best_counts_and_the_first_line_is_as_it_was(tmp_path):
    simulation, driver = run(tmp_path)
    assert driver.sweep.select == "best"
    assert "select" not in simulation.events()[0]
