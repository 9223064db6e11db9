"""Controls that train for as long as their pair took. Without Ray."""

import json

import fake_training
import pytest
from plain_events import typed
from simulation import Simulation, ended, essence, make_space
from step_costs import make_cost

from kdsweep.config import JobList
from kdsweep.errors import ConfigError
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.cohort_size import num_heads
from kdsweep.sweep.confirm import jobs_to_confirm
from kdsweep.sweep.equal_time import decide_equal_time, what_to_measure
from kdsweep.sweep.run import read_space

# What a session finds out before: 4 epochs of a control take as long as 2 of a pair.
COST = {"teacher_s": 0.2, "student_s": 0.1, "control_s": 0.1, "batch_s": 0.1}

# What the stand-in's teachers bring: more than seeds differ by.
CLEAR = {"gain": 0.02, "noise": 0.01}


def confirmation(tmp_path, seeds=3, slots=1, self_taught=False, distill=None, **options):
    """A confirmation of two jobs with controls of equal time."""
    further = {"further_controls": ["self"]} if self_taught else {}
    space = make_space(
        teacher={"encoder": {"values": ["resnet34", "resnet50"]}, "options": CLEAR},
        student={"encoder": "resnet18"},
        distill={"pixel_kl": {"weight": 1.0}, **(distill or {})},
        train={"lr": 1e-3, "epochs": 2},
        sweep={"sampler": "grid", "scheduler": "none", "trials": 2, **further},
    )
    first = Simulation(tmp_path / "first", space)
    first.run()
    write_json(first.experiment.spec_json, space.resolved())
    jobs = jobs_to_confirm(first.experiment.path, top=2, seeds=seeds, equal_time=True, **options)
    second = Simulation(tmp_path / "second", jobs, slots=slots)
    write_json(second.experiment.spec_json, jobs.resolved())
    return second


def equal_time(simulation, *costs):
    said = []
    costs = [make_cost(**cost).to_json() for cost in costs or (COST, {**COST, "teacher_s": 0.5})]
    return decide_equal_time(simulation.space, {"costs": costs}, said.append), said


def test_each_seed_has_a_control_of_equal_time_in_a_cohort_of_its_own(tmp_path):
    simulation = confirmation(tmp_path, slots=2)
    found, said = equal_time(simulation)
    one, two = simulation.space.jobs
    assert found[one] == pytest.approx({"epochs": 4, "pair_s": 40, "control_s": 20})
    assert found[two]["epochs"] == 7
    assert said[0].startswith(f"equal time: 4 epochs of {one} without a teacher take as long as 2 ")
    sweep = simulation.run(equal_time=found).sweep
    trials = sweep.trials
    assert len(trials) == sweep.num_trials == 18
    assert sweep.header.num_controls == sweep.num_controls == 12
    assert sweep.header.equal_time == found
    assert ended(simulation.events()) == dict.fromkeys(range(18), 1)
    assert {trial.state for trial in trials.values()} == {State.COMPLETE}
    for trial in trials.values():
        if not trial.is_control:
            paired, alone = trials[trial.control], trials[trial.further["equal_time"]]
            epochs = {one: 4, two: 7}[trial.params["job"]]
            assert (paired.cohort, alone.cohort) == (trial.number, alone.number)
            assert sorted(alone.values) == list(range(1, epochs + 1))
            assert alone.label == f"control resnet18, {epochs} epochs"
            assert paired.epoch == trial.epoch == 2
            wanted = json.loads(json.dumps(paired.job))
            wanted["train"]["epochs"] = epochs
            assert alone.job == wanted


@pytest.mark.parametrize("lines", range(1, 20))
def test_killed_at_any_line_the_same_trials_come_of_it(tmp_path, lines):
    whole = confirmation(tmp_path / "whole", seeds=1, self_taught=True)
    found, _ = equal_time(whole)
    whole.run(equal_time=found)
    simulation = confirmation(tmp_path / "cut", seeds=1, self_taught=True)
    simulation.run(max_events=lines, equal_time=found)
    simulation.space = read_space(simulation.experiment)
    simulation.run()  # by what the ledger says
    assert ended(simulation.events()) == dict.fromkeys(range(8), 1)

    def drawn(events):
        return [event for event in essence(events) if event["event"] in ("sweep", "trial")]

    assert drawn(simulation.events()) == drawn(whole.events())
    kinds = [(e["kind"], e["rides_with"]) for e in drawn(whole.events())[1:5]]
    assert kinds == [("search", None), ("control", 0), ("control", 0), ("control", None)]


def test_settled_jobs_do_without_their_further_controls_as_well(tmp_path):
    simulation = confirmation(tmp_path, seeds=12, until_settled=True)
    sweep = simulation.run(equal_time=equal_time(simulation)[0]).sweep
    assert len(sweep.settled) == 2
    search = [trial for trial in sweep.trials.values() if not trial.is_control]
    assert len(search) < 24
    assert sweep.header.num_controls == sweep.num_controls == 2 * len(search)
    assert len(sweep.trials) == sweep.num_trials == 3 * len(search)
    assert ended(simulation.events()) == dict.fromkeys(range(3 * len(search)), 1)
    assert Sweep(typed(simulation.events())).is_done


@pytest.mark.parametrize(
    ("cost", "head_start", "epochs"),
    [
        ({}, 0, 20),
        ({"head_start_s": 0.3}, 3, 26),  # (10 × 40 + 3 × 40) / 20
        ({"teacher_val_s": 1.0, "num_val": 2}, 0, 21),
        ({"student_s": 0.2}, 0, 25),
        ({"shares_s": 0.1}, 0, 21),  # 20.05, rounded up
        ({"student_val_s": 1.0, "num_val": 20}, 0, 15),  # 10 × 60 / 40
        ({"teacher_s": 0.0}, 0, 10),
    ],
)
def test_epochs_fill_the_time_of_the_pair(cost, head_start, epochs):
    assert make_cost(**{**COST, **cost}).equal_epochs(10, head_start) == epochs


def test_a_head_start_counts(tmp_path):
    simulation = confirmation(tmp_path, distill={"head_start_epochs": 1})
    found, _ = equal_time(simulation, {**COST, "head_start_s": 0.2}, {**COST, "head_start_s": 0.2})
    assert [each["epochs"] for each in found.values()] == [6, 6]  # (2 × 40 + 30) / 20


def test_only_what_rides_along_takes_room_beside_the_teacher(tmp_path):
    jobs = confirmation(tmp_path).space
    assert jobs.sweep.further_controls == ("equal_time",)
    assert (jobs.sweep.num_riding(), jobs.sweep.num_paired) == (1, 2)
    assert num_heads(jobs, 1) == 2
    assert what_to_measure(jobs) == "each"
    again = JobList.from_resolved(json.loads(json.dumps(jobs.resolved())))
    assert again.resolved() == jobs.resolved()


def test_nothing_is_measured_without(tmp_path):
    plain = make_space()
    assert what_to_measure(plain) is None
    assert what_to_measure(make_space(sweep={"students_per_teacher": "auto"})) == "largest"
    assert decide_equal_time(plain, fake_training.measure([], **RESOURCES), print) == {}


RESOURCES = {"device": "cpu", "num_threads": 1, "share": 1.0}


@pytest.mark.parametrize("controls", ["shared", "paired"])
def test_a_search_space_cannot_ask_for_it(controls):
    with pytest.raises(ConfigError, match="as long as their pair, in a search") as caught:
        make_space(sweep={"controls": controls, "further_controls": ["equal_time"]})
    assert caught.value.path == ("sweep", "further_controls")
    assert "kdsweep confirm --equal-time" in str(caught.value)
