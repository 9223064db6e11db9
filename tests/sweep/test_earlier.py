"""What a sweep takes from earlier ones: settings to try first, and observations."""

import json
import math

import fake_training
import pytest
from plain_events import typed
from simulation import Simulation, essence, make_space

from kdsweep.config.job import data_section
from kdsweep.config.settings import params_of, setting_of
from kdsweep.data.identity import Identity
from kdsweep.errors import ConfigError, ExperimentError
from kdsweep.ledger.events import PriorEvent
from kdsweep.reporting import load
from kdsweep.reporting.caveats import notes
from kdsweep.sweep.earlier import Earlier, kept_observations
from kdsweep.sweep.study import Study
from kdsweep.sweep.sweep_data import SweepData

LR = "train.lr"
COSTLY = ["student/miou", "student/latency_ms"]


def prepared(space, image="a"):
    """What a runner finds of the space's data, whose only frame has this content."""
    identity = Identity("roadscenes", ("road", "car"), {}, {"train": {"0": (image, "b")}})
    section = data_section(space.jobs_to_check()[0].data.model_dump(mode="json"))
    return {**fake_training.DATA, "identities": {section: json.dumps(identity.to_json())}}


def earlier_sweep(tmp_path, **sections):
    space = make_space(**{"sweep": {"trials": 14}, **sections})
    simulation = Simulation(tmp_path / "earlier", space)
    simulation.run(prepared=prepared(space))
    return simulation


def search(simulation):
    return [t for t in simulation.run().sweep.trials.values() if not t.is_control]


def distance(lr):
    return abs(math.log10(lr) + 2.5)


def take(space, *, best_of=(), priors=(), image="a"):
    said = []
    known = Earlier(space, best_of, priors)
    known.decide(SweepData.of(prepared(space, image)), said.append)
    return known, said


def test_the_parameters_of_a_job_are_those_it_was_drawn_with(tmp_path):
    old = earlier_sweep(tmp_path)
    trials = search(old)
    other = make_space(name="other", data={"cache": "/elsewhere"}, train={"seed": 7})
    longer, narrower = make_space(train={"epochs": 10}), make_space(train={"lr": 0.5})
    assert len(trials) == 14
    for trial in trials:
        assert params_of(other, trial.job) == trial.params
        assert params_of(longer, trial.job) is None
        assert params_of(narrower, trial.job) is None
        assert LR not in setting_of(narrower, trial.job)
        assert setting_of(longer, trial.job)[LR] == trial.params[LR]
        taken = setting_of(longer, trial.job)
        assert longer.trying_first([taken]).first == (trial.params,)


def test_the_best_settings_of_an_experiment_come_before_the_spaces_own(tmp_path):
    old = earlier_sweep(tmp_path)
    best = sorted(search(old), key=lambda trial: trial.merit)[:3]
    space = make_space(
        student={"encoder": {"values": ["resnet18", "efficientnet-b0"]}},
        train={"epochs": 4},
        sweep={"trials": 4, "try_first": [{LR: 0.09}]},
    )
    known, said = take(space, best_of=[old.experiment.path])
    assert not known.observations
    assert [f"trial {trial.number:04d} (" in line for trial, line in zip(best, said, strict=True)]
    new = Simulation(tmp_path / "new", known.space)
    trials = search(new)
    assert [t.params[LR] for t in trials] == [*(t.params[LR] for t in best), 0.09]
    for trial, old_trial in zip(trials[:3], best, strict=True):
        if old_trial.student == "resnet18":
            assert trial.student == "resnet18"


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2", "gp", "random", "grid"])
def test_trials_of_the_same_jobs_are_observations_and_no_trials(tmp_path, sampler):
    sections = {"sweep": {"trials": 12, "sampler": sampler}}
    if sampler == "grid":
        sections |= {"distill": {"pixel_kl": {}}, "train": {"lr": {"values": [0.01, 0.02, 0.03]}}}
    old = earlier_sweep(tmp_path, **sections)
    known, said = take(make_space(**sections), priors=[old.experiment.path])
    assert len(known.observations) == 12
    assert said == [f"prior:      the sampler begins with 12 trials of {old.experiment.name}"]
    new = Simulation(tmp_path / "new", known.space)
    driver = new.run(priors=known.observations)
    events = new.events()
    assert [e["event"] for e in events[:14]] == ["sweep", *["prior"] * 12, "trial"]
    assert len(driver.study.trials()) == 12
    assert driver.sweep.num_trials == 14
    points = {number for rung in driver.sweep.rungs.points.values() for number in rung}
    assert points <= set(driver.sweep.trials)
    results = load(new.experiment.path)
    assert results.summary.num_trials == 12
    assert results.summary.to_json()["priors"] == {old.experiment.name: 12}
    assert f"The sampler began with 12 trials of {old.experiment.name}." in notes(results)


def test_the_sampler_learns_from_observations(tmp_path):
    old = earlier_sweep(tmp_path)
    space = make_space()
    known, _ = take(space, priors=[old.experiment.path])
    told = Study(space)
    for event in known.observations:
        told.apply(event)
    learned = [told.ask(number).params[LR] for number in range(20)]
    plain = [Study(space).ask(number).params[LR] for number in range(20)]
    # The made-up trainings are best at 3e-3.
    assert sum(map(distance, learned)) < 0.7 * sum(map(distance, plain))


def test_killed_with_observations_it_goes_on_as_if_it_had_not_been(tmp_path):
    old = earlier_sweep(tmp_path, sweep={"trials": 4})
    space = make_space(sweep={"trials": 4}, train={"epochs": 9})
    known, _ = take(space, priors=[old.experiment.path])
    whole = Simulation(tmp_path / "whole", known.space)
    known.keep(whole.experiment)
    kept = kept_observations(whole.experiment)
    assert kept == known.observations
    whole.run(priors=kept)
    killed = Simulation(tmp_path / "killed", known.space)
    for lines in range(1, len(whole.events())):
        killed.run(max_events=lines, priors=kept)
    killed.run(priors=kept)
    assert essence(killed.events()) == essence(whole.events())
    priors = [e for e in typed(killed.events()) if isinstance(e, PriorEvent)]
    assert [e.number for e in priors] == [e.number for e in known.observations]


@pytest.mark.parametrize(
    ("sections", "image", "why"),
    [
        ({}, "changed", "its data are roadscenes 1+0"),
        ({"train": {"epochs": 4}}, "a", "it trained for 9 epochs, not for 4"),
        ({"sweep": {"metric": COSTLY}}, "a", "it searched by student/miou, not by"),
        ({"train": {"batch_size": 16}}, "a", "this space can draw none of its jobs"),
    ],
)
def test_what_is_not_comparable_is_only_tried_first(tmp_path, sections, image, why):
    old = earlier_sweep(tmp_path)
    known, said = take(make_space(**sections), priors=[old.experiment.path], image=image)
    assert not known.observations
    assert len(known.space.first) == 3
    assert why in said[0]
    assert "settings to try first, and no more" in said[0]


def test_nothing_to_take_is_an_error_before_anything_is_done(tmp_path):
    old = earlier_sweep(tmp_path)
    fixed = {
        "teacher": {"encoder": "resnet34"},
        "student": {"encoder": "resnet34"},
        "distill": {"pixel_kl": {}},
        "train": {"epochs": 4, "lr": {"min": 0.5, "max": 0.6}},
    }
    with pytest.raises(ConfigError, match="no value of its trials lies in a range here"):
        Earlier(make_space(**fixed), [old.experiment.path], [])
    with pytest.raises(ExperimentError):
        Earlier(make_space(), [], [tmp_path / "nowhere"])
    empty = Simulation(tmp_path / "empty", make_space())
    empty.run(max_events=3)
    with pytest.raises(ConfigError, match="no trial has ended"):
        Earlier(make_space(), [], [empty.experiment.path])
