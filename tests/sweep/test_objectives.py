"""Sweeps with several metrics, and with bounds on what a student may cost."""

import itertools
import json
import random
import statistics

import fake_training
import optuna
import pytest
from simulation import Simulation, ended, essence, make_space

from kdsweep.config import Job, load_space
from kdsweep.config.architectures import architecture_key
from kdsweep.config.metrics import metric_of
from kdsweep.config.objectives import COSTS, SCORES, dominates, excess, front
from kdsweep.errors import ConfigError
from kdsweep.ledger import Ledger
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.rungs import Rungs
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.confirm import jobs_to_confirm
from kdsweep.sweep.feasibility import Feasibility
from kdsweep.sweep.run import extend
from kdsweep.sweep.schedulers.asha import Asha
from kdsweep.sweep.study import Study

FRONT = ["student/miou", "student/latency_ms"]
SMALL = {"student/params_m": "<= 20"}
STUDENTS = {"encoder": {"values": ["resnet34", "resnet18", "mobilenet_v2"]}}


def searching(**sweep):
    return make_space(student=STUDENTS, sweep={"trials": 25, **sweep})


def encoders(driver):
    return {t.job["student"]["encoder"] for t in driver.sweep.trials.values()}


# -- what may be written ---------------------------------------------------------------------------


def test_scores_are_maximised_and_costs_minimised():
    sweep = searching(metric=FRONT, constraints={"student/macs_g": "<= 1.5e1"}).sweep
    assert [o.direction for o in sweep.objectives] == ["maximize", "minimize"]
    assert sweep.score == "student/miou"
    assert sweep.bounds == sweep.static_bounds == {"student/macs_g": 15.0}
    assert make_space().sweep.objectives == (metric_of("student/miou"),)


@pytest.mark.parametrize(
    ("sweep", "path", "text"),
    [
        ({"metric": ["student/latency_ms"]}, ("metric", 0), "begin with a score"),
        ({"metric": ["student/miou"] * 2}, ("metric", 1), "named twice"),
        ({"metric": []}, ("metric",), "too few"),
        ({"metric": "student/latency_ms"}, ("metric",), "student/miou"),
        ({"metric": ["student/miou", "student/latency"]}, ("metric", 1), "student/latency_ms"),
        ({"metric": FRONT, "sampler": "cmaes"}, ("sampler",), "one objective only"),
        ({"constraints": {"student/miou": "<= 1"}}, ("constraints", "student/miou"), "bounded"),
        ({"constraints": {"student/param_m": "<= 1"}}, ("constraints", "student/param_m"), "mean"),
        ({"constraints": {"student/macs_g": 8}}, ("constraints", "student/macs_g"), '"<= 8"'),
        ({"constraints": {"student/macs_g": "<= 0"}}, ("constraints", "student/macs_g"), "above 0"),
        ({"constraints": {"student/macs_g": ">= 8"}}, ("constraints", "student/macs_g"), "upper"),
    ],
)
def test_what_cannot_be_searched_for_is_one_error(sweep, path, text):
    with pytest.raises(ConfigError) as raised:
        make_space(sweep=sweep)
    assert raised.value.path == ("sweep", *path)
    assert text in str(raised.value)


def test_bounds_on_the_architecture_need_finitely_many():
    options = {"decoder_channels": {"min": 0.1, "max": 0.9}}
    with pytest.raises(ConfigError, match="infinitely many student architectures"):
        make_space(student={"options": options}, sweep={"constraints": SMALL, "controls": "none"})


def test_architectures_are_those_of_student_and_image_size_and_nothing_else():
    sizes = {
        "image_size": {"values": [[32, 32], [64, 64]]},
        "augment": {"values": ["none", "light"]},
    }
    found = make_space(student=STUDENTS, data=sizes).architectures()
    assert len(found) == len({a.key for a in found}) == 6
    assert all(set(a.params) == {"student.encoder", "data.image_size"} for a in found)
    assert {architecture_key(a.job) for a in found} == {a.key for a in found}
    whole = {
        "values": [
            {"source": "roadscenes", "image_size": [32, 32], "scenes": 8},
            {"source": "roadscenes", "image_size": [64, 64], "scenes": 8},
        ]
    }
    tree = {
        "name": "x",
        "data": whole,
        "teacher": {"encoder": "resnet18"},
        "student": STUDENTS,
        "distill": {"pixel_kl": {"weight": 1}},
        "train": {"epochs": 1},
    }
    assert len({a.key for a in load_space(tree).architectures()}) == 6


# -- bounds on the architecture --------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
@pytest.mark.parametrize("students", [1, 3])
def test_what_breaks_a_static_bound_is_never_trained(tmp_path, sampler, students):
    space = searching(constraints=SMALL, sampler=sampler, students_per_teacher=students)
    simulation = Simulation(tmp_path, space, slots=2)
    driver = simulation.run(students_per_teacher=students)
    events = simulation.events()
    assert encoders(driver) == {"resnet18", "mobilenet_v2"}  # controls too
    trials = driver.sweep.trials
    assert sum(not t.is_control for t in trials.values()) == 25
    assert ended(events) == dict.fromkeys(trials, 1)
    rejected = [e for e in events if e["event"] == "rejected"]
    assert rejected
    for event in rejected:
        assert event["excess"] == {"student/params_m": pytest.approx(0.2)}
        assert "resnet34" in event["label"]
    assert events[0]["num_controls"] == 2


def test_the_sampler_learns_from_what_was_rejected(tmp_path):
    num_rejected = {}
    for sampler in ("random", "tpe"):
        space = searching(constraints=SMALL, trials=40, sampler=sampler)
        simulation = Simulation(tmp_path / sampler, space)
        driver = simulation.run()
        rejected = [e for e in simulation.events() if e["event"] == "rejected"]
        num_rejected[sampler] = sum(e["number"] >= 10 for e in rejected)
        trials = driver.study._study.trials
        told = [t for t in trials if t.constraints.get("student/params_m", 0) > 0]
        assert len(told) == len(rejected)
        assert {t.state for t in told} == {optuna.trial.TrialState.PRUNED}
    # Of random draws one of three is too large: half a draw is lost for each trial.
    assert num_rejected["random"] > 10
    assert num_rejected["tpe"] < 0.7 * num_rejected["random"]


def test_a_finite_space_has_as_many_trials_as_keep_to_the_bounds(tmp_path):
    tree = {
        "student": STUDENTS,
        "distill": {"pixel_kl": {"weight": 1.0}},
        "train": {"epochs": 2, "lr": {"values": [1e-3, 1e-2]}},
    }
    for sampler in ("grid", "tpe"):
        space = make_space(**tree, sweep={"constraints": SMALL, "sampler": sampler})
        simulation = Simulation(tmp_path / sampler, space)
        driver = simulation.run()
        events = simulation.events()
        assert events[0]["trials"] == 8  # two teachers, two students, two learning rates
        drawn = [json.dumps(t.params) for t in driver.sweep.trials.values() if not t.is_control]
        assert len(drawn) == len(set(drawn)) == 8
        assert events[-1]["event"] == "done"
        with (
            Ledger.open(simulation.experiment.ledger) as ledger,
            pytest.raises(ConfigError, match="8 different jobs within its constraints"),
        ):
            extend(space, ledger, 1)


def test_a_sampler_that_insists_is_told_what_may_be_drawn(tmp_path):
    # One of 21 students is small enough; the learning rate makes the space infinite.
    large = [{"encoder": "resnet34", "options": {"width": n}} for n in range(20)]
    space = make_space(
        sweep={"trials": 6, "constraints": SMALL, "sampler": "random", "controls": "none"}
    )
    tree = {key: value for key, value in space.resolved().items() if key != "labels"}
    space = load_space({**tree, "student": {"values": [{"encoder": "mobilenet_v2"}, *large]}})
    simulation = Simulation(tmp_path, space)
    driver = simulation.run()
    assert encoders(driver) == {"mobilenet_v2"}
    counts = [
        sum(1 for _ in group)
        for rejected, group in itertools.groupby(
            e["event"] == "rejected"
            for e in simulation.events()
            if e["event"] in ("rejected", "trial")
        )
        if rejected
    ]
    assert max(counts) == 10


def test_a_bound_that_no_student_keeps_to_is_an_error():
    space = searching(constraints={"student/params_m": "<= 5"})
    costs = {
        a.key: {"student/params_m": 6.0 if "mobilenet" in a.key else 14.0}
        for a in space.architectures()
    }
    with pytest.raises(ConfigError, match=r"no student .* mobilenet_v2 at 32×32, has 6") as raised:
        Feasibility(space, costs)
    assert raised.value.path == ("sweep", "constraints", "student/params_m")


# -- bounds on what is measured --------------------------------------------------------------------


def test_what_is_too_slow_ends_with_its_first_epoch_and_is_never_the_best(tmp_path):
    space = searching(constraints={"student/latency_ms": "<= 30"}, controls="paired")
    simulation = Simulation(tmp_path, space)
    driver = simulation.run()
    slow = [t for t in driver.sweep.trials.values() if t.breaks_bound]
    assert slow
    for trial in driver.sweep.trials.values():
        is_slow = trial.job["student"]["encoder"] == "resnet34"
        assert trial.breaks_bound is is_slow
        if is_slow and not trial.is_control:
            assert (trial.state, trial.epoch) == (State.STOPPED, 1)
            optuna_trial = driver.study.trial(trial.number)
            assert optuna_trial.constraints == {"student/latency_ms": pytest.approx(0.6)}
            assert optuna_trial.state is optuna.trial.TrialState.PRUNED
            control = driver.sweep.trials[trial.control]
            assert control.epoch <= 2  # its partner is gone
    # By score alone a slow one would be ahead.
    assert max(slow, key=lambda t: t.best).best > 0
    assert not driver.sweep.best().breaks_bound
    compared = {number for rung in driver.sweep.rungs.points.values() for number in rung}
    assert not compared & {t.number for t in slow}


def test_a_report_without_a_bounded_cost_fails_its_trial(tmp_path):
    space = searching(constraints={"student/inference_mb": "<= 30"}, trials=2, controls="none")
    driver = Simulation(tmp_path, space).run()
    assert {t.state for t in driver.sweep.trials.values()} == {State.FAILED}
    assert "no metric 'student/inference_mb'" in driver.sweep.trials[0].failure.message


# -- several metrics -------------------------------------------------------------------------------


def test_one_dominates_another_by_being_better_in_something_and_worse_in_nothing():
    score, exact, noisy = map(metric_of, ("student/miou", "student/params_m", "student/latency_ms"))
    assert dominates((0.5, 7.9), (0.5, 8.0), (score, exact))
    assert not dominates((0.5, 8.0), (0.5, 8.0), (score, exact))
    assert not dominates((0.6, 8.1), (0.5, 8.0), (score, exact))
    assert dominates((0.6, 8.1), (0.5, 8.0), (score, noisy))  # as fast, but for noise
    assert not dominates((0.6, 9.0), (0.5, 8.0), (score, noisy))


def test_a_row_of_students_within_the_noise_of_each_other_keeps_its_ends():
    objectives = [metric_of("student/miou"), metric_of("student/latency_ms")]
    # Each is beaten by the next: 4 % slower, and better.
    points = {number: (0.1 + 0.01 * number, 10 * 1.04**number) for number in range(8)}
    kept = front(points, objectives)
    assert kept == [7, 5, 3, 1]
    for number in set(points) - set(kept):
        assert any(dominates(points[k], points[number], objectives) for k in kept)
    assert front({}, objectives) == []


def test_halving_spares_whom_no_other_beats_in_all_objectives():
    objectives = [metric_of("student/miou"), metric_of("student/params_m")]
    rungs = Rungs(1, 2)
    asha, plain = Asha(rungs, objectives), Asha(rungs)
    for number, point in enumerate([(0.6, 20.0), (0.5, 14.0), (0.4, 14.0)]):
        rungs.record(number, 1, point)
    assert plain.should_stop(3, 1, 0.3)
    assert not asha.should_stop(3, 1, 0.3, (6.0,))  # the smallest so far
    assert asha.should_stop(3, 1, 0.3, (14.0,))
    assert not asha.should_stop(3, 1, 0.7, (30.0,))  # above the cutoff
    # With one objective the rule is as it was.
    assert Asha(rungs, objectives[:1]).should_stop(3, 1, 0.3)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_trials_are_told_with_all_their_values(tmp_path, sampler):
    # After ten random draws a Gaussian process takes a second a draw.
    trials = 14 if sampler == "gp" else 25
    space = searching(metric=FRONT, sampler=sampler, trials=trials)
    driver = Simulation(tmp_path, space, slots=2).run()
    stopped = 0
    for number, trial in driver.study.trials().items():
        known = driver.sweep.trials[number]
        best = max(known.values, key=known.values.get)
        assert trial.state is optuna.trial.TrialState.COMPLETE
        latency = {"resnet34": 48.0, "resnet18": 28.0, "mobilenet_v2": 12.0}
        assert trial.values == [known.values[best], latency[known.job["student"]["encoder"]]]
        stopped += known.state is State.STOPPED
    assert stopped
    # The cheapest student is on the front, so its best training was not stopped.
    cheap = [t for t in driver.sweep.trials.values() if "mobilenet" in t.label and not t.is_control]
    assert any(t.state is State.COMPLETE for t in cheap)


def test_trials_of_one_network_share_what_they_have_measured(tmp_path, monkeypatch):
    exact = fake_training.costs_of
    noise = random.Random(1)

    def measured(job):
        own = random.Random(job.train.lr).uniform(0.6, 1.9)
        return {**exact(job), "student/latency_ms": exact(job)["student/latency_ms"] * own}

    monkeypatch.setattr(fake_training, "costs_of", measured)
    simulation = Simulation(tmp_path, searching(metric=FRONT, scheduler="none"), slots=2)
    driver = simulation.run(seed=noise.randrange(9))
    by_encoder = {}
    for event in simulation.events():
        if event["event"] == "epoch":
            encoder = driver.sweep.trials[event["trial"]].job["student"]["encoder"]
            known = by_encoder.setdefault(encoder, {})
            known[event["trial"]] = event["measured"]["student/latency_ms"]
            assert event["metrics"]["student/latency_ms"] == known[event["trial"]]
            assert event["costs"] == {"student/latency_ms": statistics.median(known.values())}
    trials = driver.sweep.trials.values()
    for encoder, known in by_encoder.items():
        alike = [t for t in trials if t.job["student"]["encoder"] == encoder]
        assert len(set(known.values())) > 1
        assert {t.costs["student/latency_ms"] for t in alike} == {statistics.median(known.values())}
    # One student of each network at most.
    found = [t.student for t in driver.sweep.front()]
    assert 1 < len(found) == len(set(found))


@pytest.mark.parametrize("seed", [3, 7])
def test_a_bound_that_is_broken_at_a_later_epoch_is_told_as_broken(tmp_path, monkeypatch, seed):
    rng, exact = random.Random(seed), fake_training.costs_of

    def noisy(job):
        costs = exact(job)
        return {**costs, "student/latency_ms": costs["student/latency_ms"] * rng.uniform(0.7, 1.4)}

    monkeypatch.setattr(fake_training, "costs_of", noisy)
    constraints = {"student/latency_ms": "<= 26"}
    sweep = {"trials": 30, "metric": FRONT, "constraints": constraints, "seed": seed}
    driver = Simulation(tmp_path, make_space(sweep=sweep)).run(seed)
    broken = {t.number: t for t in driver.sweep.trials.values() if t.breaks_bound}
    assert broken
    for number, told in driver.study.trials().items():
        assert (told.constraints["student/latency_ms"] > 0) == (number in broken)


def test_the_front_is_what_is_confirmed(tmp_path):
    simulation = Simulation(tmp_path, searching(metric=FRONT, scheduler="none"))
    trials = simulation.run().sweep.trials
    write_json(simulation.experiment.spec_json, simulation.space.resolved())
    jobs = jobs_to_confirm(simulation.experiment.path, top=20, seeds=1)
    numbers = [int(name.removeprefix("trial ")) for name in jobs.jobs]
    # One of each encoder, the best of all that have it.
    by_encoder = {}
    for trial in trials.values():
        if not trial.is_control:
            by_encoder.setdefault(trial.job["student"]["encoder"], []).append(trial)
    best = [max(group, key=lambda t: t.best) for group in by_encoder.values()]
    assert set(numbers) <= {trial.number for trial in best}
    assert len(numbers) > 1
    scores = [trials[number].best for number in numbers]
    assert scores == sorted(scores, reverse=True)
    latencies = [trials[number].costs[FRONT[1]] for number in numbers]
    assert latencies == sorted(latencies, reverse=True)
    assert jobs.sweep.metric == "student/miou"


def test_nsga2_breeds_generations(tmp_path):
    simulation = Simulation(tmp_path, searching(metric=FRONT, sampler="nsga2", scheduler="none"))
    driver = simulation.run()
    key = "NSGAIISampler:generation"
    generations = [t.system_attrs[key] for t in driver.study.trials().values()]
    assert generations == sorted(generations)
    assert max(generations) == 3  # of eight trials each
    drawn = [json.dumps(t.params) for t in driver.study.trials().values()]
    assert len(set(drawn)) == len(drawn)


# -- killed and resumed ----------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
@pytest.mark.parametrize("students", [1, 3])
def test_killed_anywhere_and_resumed_is_the_uninterrupted_sweep(tmp_path, sampler, students):
    space = searching(
        metric=FRONT,
        sampler=sampler,
        trials=14,
        students_per_teacher=students,
        constraints={"student/params_m": "<= 20", "student/latency_ms": "<= 1000"},
    )
    options = {"students_per_teacher": students}
    whole = Simulation(tmp_path / "whole", space)
    whole.run(**options)
    expected = whole.events()
    assert any(e["event"] == "rejected" for e in expected)
    chosen = random.Random(0).sample(range(1, len(expected)), 5)
    chosen += [n + 1 for n, e in enumerate(expected) if e["event"] == "rejected"][:2]
    for lines in chosen:
        killed = Simulation(tmp_path / f"killed{lines}", space)
        killed.run(max_events=lines, **options)
        killed.run(**options)
        assert essence(killed.events()) == essence(expected), lines
        assert rejections(killed.events()) == rejections(expected), lines


def rejections(events):
    return [(e["number"], e["params"]) for e in events if e["event"] == "rejected"]


def test_a_ledger_read_in_short_gives_the_same_state(tmp_path):
    space = searching(metric=FRONT, constraints=SMALL)
    simulation = Simulation(tmp_path, space)
    driver = simulation.run()
    with Ledger.open(simulation.experiment.ledger) as ledger:
        sweep, study = Sweep(ledger.replay()), Study(space)
        for event in ledger.replay():
            study.apply(event)
    assert sweep.rungs.points == driver.sweep.rungs.points
    values = {number: trial.values for number, trial in study.trials().items()}
    assert values == {number: trial.values for number, trial in driver.study.trials().items()}
    assert sweep.best().number == driver.sweep.best().number


def test_excess_is_relative_and_knows_only_what_has_a_bound():
    assert excess({"a": 12.0, "b": 1.0}, {"a": 8.0, "c": 1.0}) == {"a": 0.5}


def test_the_job_of_an_architecture_is_a_job():
    for architecture in searching().architectures():
        assert Job.model_validate_json(architecture.job.model_dump_json()) == architecture.job


def test_what_costs_is_named_with_its_unit_and_scores_are_not():
    known = {metric: metric_of(metric) for metric in (*SCORES, *COSTS)}
    assert [metric for metric, named in known.items() if named.is_cost] == list(COSTS)
    assert [metric for metric, named in known.items() if named.unit and named.after] == list(COSTS)
