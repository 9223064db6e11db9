"""Confirmations that end when the gain is settled. Without Ray."""

import random

import pytest
from plain_events import typed
from simulation import Simulation, ended, essence, make_space

from kdsweep.config import JobList
from kdsweep.errors import ConfigError
from kdsweep.ledger.anytime import Verdict, settle
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.confirmed import pairs_in_order
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.confirm import jobs_to_confirm
from kdsweep.sweep.outcome import make_outcome
from kdsweep.sweep.run import read_space

# The first teacher helps, with little difference between seeds; what the second does, seeds hide.
CLEAR, HIDDEN = {"gain": 0.02, "noise": 0.01}, {"gain": -0.01, "noise": 0.2}


def confirmation(tmp_path, teachers=(CLEAR, HIDDEN), seeds=12, slots=1, until_settled=True):
    """A confirmation of one job with each teacher, as it is before its first session."""
    space = make_space(
        teacher={"encoder": "resnet34", "options": {"values": list(teachers)}},
        student={"encoder": "resnet18"},
        distill={"pixel_kl": {"weight": 1.0}},
        train={"lr": 1e-3, "epochs": 2},
        sweep={"sampler": "grid", "scheduler": "none", "trials": len(teachers)},
    )
    first = Simulation(tmp_path / "first", space)
    first.run()
    write_json(first.experiment.spec_json, space.resolved())
    jobs = jobs_to_confirm(
        first.experiment.path, top=len(teachers), seeds=seeds, until_settled=until_settled
    )
    second = Simulation(tmp_path / "second", jobs, slots=slots)
    write_json(second.experiment.spec_json, jobs.resolved())
    return second


def seeds_of(sweep):
    """How many seeds each job got, by its teacher's gain."""
    counts = {}
    for trial in sweep.trials.values():
        if not trial.is_control:
            gain = trial.job["teacher"]["options"]["gain"]
            counts[gain] = counts.get(gain, 0) + 1
    return counts


def differences(sweep, job):
    return [trial.best - control.best for trial, control in pairs_in_order(sweep, job)]


def settled(simulation):
    return [event for event in simulation.events() if event["event"] == "settled"]


def test_a_settled_job_gets_no_further_seed_and_the_others_go_on(tmp_path):
    simulation = confirmation(tmp_path)
    sweep = simulation.run().sweep
    (event,) = settled(simulation)
    counts = seeds_of(sweep)
    assert counts == {CLEAR["gain"]: event["seeds"], HIDDEN["gain"]: 12}
    assert event["verdict"] == "gain"
    found = differences(sweep, event["job"])
    look = settle(found)
    assert (look.num_seeds, look.low, look.high) == (len(found), event["low"], event["high"])
    assert not any(settle(found[:num]).is_settled for num in range(3, len(found)))
    outcome = make_outcome(sweep, simulation.experiment)
    assert (outcome.reason, outcome.exit_code, outcome.num_left) == ("done", 0, 0)
    assert sweep.header.trials == sweep.header.num_controls == sum(counts.values())
    assert simulation.events()[-1]["event"] == "done"
    again = Sweep(typed(simulation.events()))
    assert again.header == sweep.header
    assert list(again.settled) == [event["job"]]
    assert not again.has_work


def test_all_settled_is_done(tmp_path):
    simulation = confirmation(tmp_path, teachers=[CLEAR, {"gain": -0.2, "noise": 0.02}])
    sweep = simulation.run().sweep
    assert sorted(event["verdict"] for event in settled(simulation)) == ["gain", "loss"]
    assert sweep.is_done
    assert max(seeds_of(sweep).values()) < 12


def test_without_it_a_confirmation_has_the_seeds_that_were_asked_for(tmp_path):
    simulation = confirmation(tmp_path, until_settled=False)
    assert seeds_of(simulation.run().sweep) == {CLEAR["gain"]: 12, HIDDEN["gain"]: 12}
    assert settled(simulation) == []
    assert "until_settled" not in simulation.events()[0]
    assert "until_settled" not in simulation.space.resolved()


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_it_decides_alike(tmp_path, seed):
    whole = confirmation(tmp_path / "whole")
    whole.run()
    killed = confirmation(tmp_path / "killed")
    assert killed.space.resolved()["jobs"] == whole.space.resolved()["jobs"]
    order, lines = random.Random(seed), 0
    while True:
        lines += order.randint(1, 9)
        again = read_space(killed.experiment)
        assert isinstance(again, JobList)
        assert again.until_settled
        killed.space = again
        if killed.run(seed=order.random(), max_events=lines).sweep.is_done:
            break
    assert [e for e in essence(killed.events()) if e["event"] == "trial"] == [
        e for e in essence(whole.events()) if e["event"] == "trial"
    ]
    keys = ("job", "verdict", "seeds", "low", "high", "trials")
    assert [[e[k] for k in keys] for e in settled(killed)] == [
        [e[k] for k in keys] for e in settled(whole)
    ]
    assert set(ended(killed.events()).values()) == {1}


@pytest.mark.parametrize("seed", range(3))
def test_seeds_that_run_when_it_is_settled_are_trained_to_the_end(tmp_path, seed):
    simulation = confirmation(tmp_path, teachers=[CLEAR], slots=4)
    sweep = simulation.run(seed=seed).sweep
    (event,) = settled(simulation)
    assert event["seeds"] < seeds_of(sweep)[CLEAR["gain"]]
    assert not [e for e in simulation.events() if e["event"] == "trial" and e["seq"] > event["seq"]]
    assert {trial.state for trial in sweep.trials.values()} == {State.COMPLETE}
    assert sweep.is_done


def test_a_seed_that_still_trains_holds_up_those_behind_it_and_a_failed_one_does_not(tmp_path):
    simulation = confirmation(tmp_path, teachers=[CLEAR])
    sweep = simulation.run().sweep
    (job,) = simulation.space.jobs
    numbers = [trial.number for trial, _ in pairs_in_order(sweep, job)]
    sweep.trials[numbers[2] + 1].state = State.RUNNING  # a control
    assert [trial.number for trial, _ in pairs_in_order(sweep, job)] == numbers[:2]
    sweep.trials[numbers[2] + 1].state = State.FAILED
    assert [trial.number for trial, _ in pairs_in_order(sweep, job)] == numbers[:2] + numbers[3:]


def test_equal_differences_settle_nothing(tmp_path):
    simulation = confirmation(tmp_path, teachers=[{"gain": 0.2, "noise": 0.0}])
    sweep = simulation.run().sweep
    assert settled(simulation) == []
    assert seeds_of(sweep) == {0.2: 12}
    assert sweep.is_done


def test_on_other_data_it_begins_anew(tmp_path):
    simulation = confirmation(tmp_path, seeds=20)
    simulation.run()
    (event,) = settled(simulation)
    killed = confirmation(tmp_path / "killed", seeds=20)
    assert list(killed.run(max_events=event["seq"] + 1).sweep.settled) == [event["job"]]
    sweep = killed.run(differences=["other labels"]).sweep
    before, again = settled(killed)
    assert before["job"] == again["job"] == event["job"]
    assert len(pairs_in_order(sweep, event["job"])) == again["seeds"] == event["seeds"]
    assert sweep.is_done


def test_so_few_seeds_that_nothing_could_be_settled_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="so few seeds can settle nothing"):
        confirmation(tmp_path, seeds=4)


def test_a_difference_that_does_not_matter_ends_it_too(tmp_path):
    # What the stand-in's teachers bring by themselves after two epochs, taken back.
    simulation = confirmation(tmp_path, teachers=[{"gain": -0.02433, "noise": 0.001}])
    simulation.run()
    (event,) = settled(simulation)
    assert event["verdict"] == Verdict.NEITHER
    assert -0.005 <= event["low"] < 0 < event["high"] <= 0.005


def test_a_trial_can_be_named(tmp_path):
    second = confirmation(tmp_path, seeds=5)
    first = read_space(second.experiment).origin["experiment"]
    best, other = (int(name.split()[1]) for name in jobs_to_confirm(first, top=2, seeds=5).jobs)
    assert list(jobs_to_confirm(first, top=1, seeds=5).jobs) == [f"trial {best:04d}"]
    named = jobs_to_confirm(first, top=1, seeds=5, trials=[other])
    assert list(named.jobs) == [f"trial {other:04d}"]
    with pytest.raises(ConfigError, match="trial 99 is not one that can be confirmed") as caught:
        jobs_to_confirm(first, top=1, seeds=5, trials=[99])
    assert f"{best}" in str(caught.value)
