"""Controls that ride with their trials, and confirming a sweep's best jobs. Without Ray."""

import random

import pytest
from plain_events import typed
from simulation import Simulation, ended, make_space

from kdsweep.config import JobList
from kdsweep.errors import ConfigError
from kdsweep.ledger import Ledger
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.confirm import jobs_to_confirm
from kdsweep.sweep.run import extend, read_space

PAIRED = {"controls": "paired", "trials": 6}


def test_each_trial_has_its_exact_control_which_ends_with_it(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep=PAIRED), slots=2)
    trials = simulation.run().sweep.trials
    events = simulation.events()
    assert len(trials) == 12
    assert ended(events) == dict.fromkeys(range(12), 1)
    assert events[-1]["event"] == "done"
    for number, trial in trials.items():
        assert trial.is_control == bool(number % 2)
        if trial.is_control:
            partner = trials[trial.rides_with]
            assert partner.control == number
            assert trial.job["teacher"] is None
            for key in ("data", "student", "train"):
                assert trial.job[key] == partner.job[key]
            assert (trial.state, trial.epoch) == (partner.state, partner.epoch)
            assert list(trial.values) == list(partner.values)
    assert {t.state for t in trials.values()} == {State.COMPLETE, State.STOPPED}


def test_riders_take_no_slot_and_no_time(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep=PAIRED), slots=2)
    driver = simulation.driver()
    driver.begin("test", {})
    attempts = [driver.next_attempt(), driver.next_attempt()]
    assert [[task.trial for task in attempt.tasks] for attempt in attempts] == [[0, 1], [2, 3]]
    assert driver.next_attempt() is None
    for attempt in attempts:
        driver.started(attempt)
    assert len(driver.sweep.running()) == 4
    now = driver.sweep.sessions[-1].end + 3600
    assert driver.sweep.slot_hours(now) == pytest.approx(2, rel=1e-3)
    driver.ledger.close()


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_every_pair_ends_once_with_all_its_epochs(tmp_path, seed):
    space = make_space(sweep={**PAIRED, "scheduler": "none"}, train={"epochs": 3})
    simulation = Simulation(tmp_path, space, slots=2)
    order = random.Random(seed)
    lines = 0
    while True:
        lines += order.randint(1, 7)
        driver = simulation.run(seed=order.random(), max_events=lines)
        if not driver.sweep.has_work:
            break
    simulation.run()
    trials = Sweep(typed(simulation.events())).trials
    assert ended(simulation.events()) == dict.fromkeys(range(12), 1)
    assert all(sorted(t.values) == [1, 2, 3] for t in trials.values())
    # A cohort's checkpoint is its trial's; what the stand-in keeps for a rider may go before.
    assert all(simulation.trained(number) == [1, 2, 3] for number in range(0, 12, 2))


def test_a_cohort_fails_as_a_whole_and_is_retried_as_a_whole(tmp_path):
    space = make_space(
        teacher={"encoder": "resnet34", "options": {"behave": "oom", "times": 1}},
        sweep={**PAIRED, "trials": 1},
    )
    simulation = Simulation(tmp_path, space)
    trials = simulation.run().sweep.trials
    fails = [e for e in simulation.events() if e["event"] == "fail"]
    assert [(e["trial"], e["class"], e["retry"]) for e in fails] == [
        (0, "oom", True),
        (1, "oom", True),
    ]
    assert {t.state for t in trials.values()} == {State.COMPLETE}
    assert trials[0].changes == trials[1].changes != {}


# -- confirm ------------------------------------------------------------------------------------


def finished(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 8}), slots=2)
    simulation.run()
    write_json(simulation.experiment.spec_json, simulation.space.resolved())
    return simulation


def test_the_best_jobs_are_confirmed_on_fresh_seeds(tmp_path):
    simulation = finished(tmp_path / "first")
    trials = Sweep(typed(simulation.events())).trials
    jobs = jobs_to_confirm(simulation.experiment.path, top=2, seeds=3)
    best = sorted((t for t in trials.values() if not t.is_control), key=lambda t: -t.best)[:2]
    assert list(jobs.jobs) == [f"trial {t.number:04d}" for t in best]
    assert jobs.seeds == (1, 2, 3)  # the sweep used 0
    confirmation = Simulation(tmp_path / "second", jobs, slots=2)
    driver = confirmation.run()
    assert ended(confirmation.events()) == dict.fromkeys(range(12), 1)
    assert {t.state for t in driver.sweep.trials.values()} == {State.COMPLETE}
    drawn = [t for t in driver.sweep.trials.values() if not t.is_control]
    assert [t.params["train.seed"] for t in drawn] == [1, 1, 2, 2, 3, 3]
    for trial in drawn:
        source = next(t for t in best if trial.params["job"] == f"trial {t.number:04d}")
        assert trial.job["teacher"] == source.job["teacher"]
        assert trial.job["train"]["lr"] == source.job["train"]["lr"]
        assert trial.job["train"]["seed"] == trial.params["train.seed"]


def test_trials_of_one_job_are_confirmed_once_the_smaller_student_first(tmp_path):
    """All four trials score alike: two students, each on two seeds."""
    space = make_space(
        student={"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
        distill={"pixel_kl": {"weight": 1.0}},
        train={"lr": 1e-3, "seed": {"values": [3, 4]}},
        sweep={"sampler": "grid", "scheduler": "none", "trials": 4},
    )
    simulation = Simulation(tmp_path, space)
    simulation.run()
    write_json(simulation.experiment.spec_json, space.resolved())
    drawn = [t for t in Sweep(typed(simulation.events())).trials.values() if not t.is_control]
    assert len(drawn) == 4
    assert len({trial.best for trial in drawn}) == 1
    jobs = jobs_to_confirm(simulation.experiment.path, top=3, seeds=2)
    encoders = [job.student.encoder for job in jobs.jobs.values()]
    assert encoders == ["mobilenet_v2", "resnet18"]
    assert jobs.seeds == (1, 2)
    assert jobs.sweep.trials == 4


def test_a_confirmation_is_read_again_as_it_was(tmp_path):
    simulation = finished(tmp_path / "first")
    jobs = jobs_to_confirm(simulation.experiment.path, top=2, seeds=3)
    confirmation = Simulation(tmp_path / "second", jobs)
    write_json(confirmation.experiment.spec_json, jobs.resolved())
    again = read_space(confirmation.experiment)
    assert isinstance(again, JobList)
    assert again.resolved() == jobs.resolved()
    confirmation.run(max_events=9)
    confirmation.space = again
    confirmation.run()
    assert ended(confirmation.events()) == dict.fromkeys(range(12), 1)


def test_a_confirmation_is_neither_confirmed_nor_extended(tmp_path):
    source = finished(tmp_path / "first").experiment.path
    jobs = jobs_to_confirm(source, top=1, seeds=2)
    confirmation = Simulation(tmp_path / "second", jobs)
    write_json(confirmation.experiment.spec_json, jobs.resolved())
    confirmation.run()
    with pytest.raises(ConfigError, match="is a confirmation itself") as caught:
        jobs_to_confirm(confirmation.experiment.path, top=1, seeds=2)
    assert f"kdsweep confirm {source} --seeds" in str(caught.value)
    with (
        Ledger.open(confirmation.experiment.ledger) as ledger,
        pytest.raises(ConfigError, match="its jobs and seeds are fixed") as caught,
    ):
        extend(jobs, ledger, 1)
    assert f"kdsweep confirm {source} --seeds" in str(caught.value)


def test_nothing_to_confirm_is_said(tmp_path):
    simulation = Simulation(tmp_path, make_space())
    write_json(simulation.experiment.spec_json, simulation.space.resolved())
    simulation.run(max_events=5)
    with pytest.raises(ConfigError, match="nothing to confirm"):
        jobs_to_confirm(simulation.experiment.path, top=1, seeds=1)


def test_a_job_that_costs_too_much_is_not_confirmed(tmp_path):
    students = {"encoder": {"values": ["resnet34", "resnet18"]}}
    space = make_space(
        student=students, sweep={"trials": 8, "constraints": {"student/latency_ms": "<= 30"}}
    )
    simulation = Simulation(tmp_path / "some", space)
    simulation.run()
    write_json(simulation.experiment.spec_json, space.resolved())
    trials = Sweep(typed(simulation.events())).trials
    assert any(trial.breaks_bound for trial in trials.values())
    jobs = jobs_to_confirm(simulation.experiment.path, top=8, seeds=1)
    assert {job.student.encoder for job in jobs.jobs.values()} == {"resnet18"}
    space = make_space(sweep={"trials": 2, "constraints": {"student/latency_ms": "<= 1"}})
    simulation = Simulation(tmp_path / "none", space)
    simulation.run()
    write_json(simulation.experiment.spec_json, space.resolved())
    with pytest.raises(ConfigError, match="within the sweep's constraints"):
        jobs_to_confirm(simulation.experiment.path, top=1, seeds=1)


def test_each_trial_has_its_further_control_as_well(tmp_path):
    sweep = {**PAIRED, "trials": 3, "further_controls": ["self"], "scheduler": "none"}
    simulation = Simulation(tmp_path, make_space(sweep=sweep), slots=2)
    state = simulation.run().sweep
    trials = state.trials
    assert len(trials) == state.num_trials == 9
    assert state.header.num_controls == state.num_controls == 6
    for trial in trials.values():
        if not trial.is_control:
            own = trials[trial.further["self"]]
            assert own.is_control
            assert own.rides_with == trial.number
            assert own.job["teacher"] is None
            assert own.job["distill"]["teacher"] == "self"
            assert own.job["distill"]["pixel_kl"] == trial.job["distill"]["pixel_kl"]
            assert own.job["student"] == trial.job["student"]
            assert own.label.startswith("self-taught ")
            assert trials[trial.control].label.startswith("control ")


@pytest.mark.parametrize("lines", range(1, 14))
def test_killed_while_controls_are_drawn_they_are_drawn_later(tmp_path, lines):
    sweep = {**PAIRED, "trials": 2, "further_controls": ["self"], "scheduler": "none"}
    space = make_space(sweep=sweep, train={"epochs": 1})
    simulation = Simulation(tmp_path, space, slots=1)
    simulation.run(max_events=lines)
    trials = simulation.run().sweep.trials
    kinds = [(t.is_control, t.job["distill"]["teacher"]) for t in trials.values()]
    assert kinds == [(False, "online"), (True, "online"), (True, "self")] * 2
    assert ended(simulation.events()) == dict.fromkeys(range(6), 1)


LABELS_LEFT_OUT = {"scenes": 8, "unlabelled_scenes": 8}


@pytest.mark.parametrize("controls", ["paired", "shared"])
def test_one_control_with_all_labels_stands_for_all_trials_of_a_student(tmp_path, controls):
    space = make_space(
        data=LABELS_LEFT_OUT,
        student={"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
        train={"lr": 0.001},
        sweep={"controls": controls, "further_controls": ["all_labels"], "trials": 6},
    )
    state = Simulation(tmp_path, space, slots=2).run().sweep
    with_all = {n: t for n, t in state.trials.items() if t.job["data"]["all_labels"]}
    assert sorted(t.student for t in with_all.values()) == ["mobilenet_v2", "resnet18"]
    assert all(t.is_control and t.rides_with is None for t in with_all.values())
    assert all(t.label == f"control {t.student} with all labels" for t in with_all.values())
    for trial in state.trials.values():
        if not trial.is_control:
            assert with_all[trial.further["all_labels"]].student == trial.student
            assert not state.trials[trial.control].job["data"]["all_labels"]


def test_no_control_with_all_labels_where_none_are_left_out():
    with pytest.raises(ConfigError, match="no labels are left out") as caught:
        make_space(sweep={"further_controls": ["all_labels"]})
    assert caught.value.path == ("sweep", "further_controls")


def test_shared_controls_have_self_taught_ones_beside_them(tmp_path):
    student = {"encoder": {"values": ["resnet18", "mobilenet_v2"]}}
    sweep = {"controls": "shared", "further_controls": ["self"], "trials": 4}
    simulation = Simulation(tmp_path, make_space(sweep=sweep, student=student), slots=2)
    state = simulation.run().sweep
    controls = [t for t in state.trials.values() if t.is_control]
    assert [t.job["distill"]["teacher"] for t in controls] == ["online"] * 2 + ["self"] * 2
    assert state.header.num_controls == 4
    for trial in state.trials.values():
        if not trial.is_control:
            for number in (trial.control, trial.further["self"]):
                assert state.trials[number].student == trial.student


@pytest.mark.parametrize(
    ("data", "distill", "further"),
    [
        ({}, {"pixel_kl": {}}, ()),
        ({"num_labelled": 8}, {"pixel_kl": {}}, ("self",)),
        ({"num_labelled": 8}, {"pixel_kl": {}, "unlabelled_weight": 0}, ()),
        ({"num_labelled": 8}, {"dkd": {}, "pixel_kl": None}, ()),
    ],
)
def test_who_learns_without_labels_is_confirmed_beside_who_teaches_itself(
    tmp_path, data, distill, further
):
    simulation = Simulation(tmp_path, make_space(data=data, distill=distill, sweep={"trials": 2}))
    simulation.run()
    write_json(simulation.experiment.spec_json, simulation.space.resolved())
    jobs = jobs_to_confirm(simulation.experiment.path, top=1, seeds=2)
    assert jobs.sweep.further_controls == further
