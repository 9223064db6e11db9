"""A sweep whose data have changed: what came before is over, and compared with nothing after it."""

import json

import fake_training
import pytest
from simulation import Simulation, ended, make_space

from kdsweep.config.job import data_section
from kdsweep.data.identity import Identity
from kdsweep.ledger import Ledger, iter_ledger
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.confirm import jobs_to_confirm
from kdsweep.sweep.run import extend
from kdsweep.sweep.sweep_data import SweepData
from kdsweep.sweep.tracked import TrackerListener
from kdsweep.tracking import DATA_FINGERPRINT


def prepared(space, content):
    """What a runner finds: made-up frames, each of this content."""
    splits = {
        split: {f"{split}{i}": (content, content) for i in range(4)} for split in ("train", "val")
    }
    identity = Identity("roadscenes", ("road", "car"), {}, splits)
    sections = {data_section(j.data.model_dump(mode="json")) for j in space.jobs_to_check()}
    known = {section: json.dumps(identity.to_json()) for section in sections}
    return {**fake_training.DATA, "identities": known}


def fingerprint(space, content):
    (name,) = SweepData.of(prepared(space, content)).names
    return name["fingerprint"]


@pytest.mark.parametrize("controls", ["shared", "paired"])
def test_a_new_part_begins_afresh(tmp_path, controls):
    space = make_space(sweep={"controls": controls})
    simulation = Simulation(tmp_path, space, slots=2)
    simulation.run(max_events=60, prepared=prepared(space, "aa"))
    before = Sweep(iter_ledger(simulation.experiment.ledger))
    unended = [t for t in before.trials.values() if not t.state.is_final]
    done = sum(t.state.is_final and not t.is_control for t in before.trials.values())
    assert unended
    assert done
    driver = simulation.run(prepared=prepared(space, "bb"), differences=["train: 2 masks changed"])
    sweep, events = driver.sweep, simulation.events()
    old = {number: trial for number, trial in sweep.trials.items() if number in before.trials}
    new = {number: trial for number, trial in sweep.trials.items() if number not in before.trials}
    assert not sweep.has_work
    assert all(trial.is_outdated for trial in old.values())
    assert not any(trial.is_outdated for trial in new.values())
    # What had not ended has now, without another epoch; the asked for number is trained anew.
    assert {sweep.trials[t.number].stop for t in unended} == {"data"}
    assert all(sweep.trials[t.number].values == t.values for t in unended)
    assert sum(not t.is_control for t in new.values()) == 14 - done
    assert ended(events).keys() == sweep.trials.keys() - {t.number for t in unended}
    # Nothing is ranked across the change.
    assert {t.number for t in sweep.candidates()} <= new.keys()
    assert all(points.keys() <= new.keys() for points in sweep.rungs.points.values())
    assert driver.study.trials().keys() == {t.number for t in new.values() if not t.is_control}
    for trial in new.values():
        if not trial.is_control:
            assert trial.control in new
            assert sweep.partner(trial.number) is not None
    part = next(event for event in events if event["event"] == "part")
    assert part["differences"] == ["train: 2 masks changed"]
    assert part["before"] != part["now"]
    # Each trial can be traced to its data.
    starts = {e["trial"]: e["data"] for e in events if e["event"] == "start"}
    assert {starts[number] for number in old if number in starts} == {fingerprint(space, "aa")}
    assert {starts[number] for number in new} == {fingerprint(space, "bb")}
    sessions = [e["data"][0]["fingerprint"] for e in events if e["event"] == "session"]
    assert sessions == [fingerprint(space, "aa"), fingerprint(space, "bb")]


def test_points_of_before_are_drawn_again(tmp_path):
    space = make_space(
        distill={"pixel_kl": {"weight": 1.0}},
        train={"lr": 1e-3},
        sweep={"trials": 4, "sampler": "grid", "controls": "none"},
    )
    simulation = Simulation(tmp_path, space)
    simulation.run(max_events=20, prepared=prepared(space, "aa"))
    driver = simulation.run(prepared=prepared(space, "bb"), differences=["x"])
    new = [t for t in driver.sweep.trials.values() if not t.is_outdated]
    old = [t for t in driver.sweep.trials.values() if t.is_outdated]
    assert {str(t.params) for t in new} & {str(t.params) for t in old}
    assert len({str(t.params) for t in new}) == len(new)
    with Ledger.open(simulation.experiment.ledger) as ledger:
        more = 4 - len(new)
        assert extend(space, ledger, more).trials == driver.sweep.header.trials + more


def test_a_resumed_sweep_knows_its_parts(tmp_path):
    space = make_space(sweep={"trials": 6})
    whole, torn = (Simulation(tmp_path / name, space) for name in ("whole", "torn"))
    for simulation in (whole, torn):
        simulation.run(max_events=30, prepared=prepared(space, "aa"))
    whole.run(prepared=prepared(space, "bb"), differences=["x"])
    torn.run(max_events=45, prepared=prepared(space, "bb"), differences=["x"])
    torn.run(prepared=prepared(space, "bb"))
    found = [Sweep(iter_ledger(s.experiment.ledger)).trials.values() for s in (whole, torn)]
    params, states = (
        [[getattr(t, name) for t in f] for f in found] for name in ("params", "state")
    )
    assert params[0] == params[1]
    assert states[0] == states[1]
    assert State.STOPPED in states[0]


def test_only_the_newest_part_is_confirmed(tmp_path):
    space = make_space(sweep={"trials": 4})
    simulation = Simulation(tmp_path, space)
    write_json(simulation.experiment.spec_json, space.resolved())
    simulation.run(prepared=prepared(space, "aa"))
    with Ledger.open(simulation.experiment.ledger) as ledger:
        ledger.append(extend(space, ledger, 2))
    driver = simulation.run(prepared=prepared(space, "bb"), differences=["x"])
    new = [t.number for t in driver.sweep.trials.values() if not (t.is_outdated or t.is_control)]
    jobs = jobs_to_confirm(simulation.experiment.path, top=9, seeds=1)
    assert len(new) == 2
    assert {int(name.split()[1]) for name in jobs.jobs} == set(new)


def test_data_that_lie_elsewhere_are_the_same(tmp_path):
    space = make_space()
    simulation = Simulation(tmp_path, space)
    found = SweepData.of(prepared(space, "aa"))
    found.keep(simulation.experiment)
    (section,) = found.identities
    moved = [{**name, "section": section.replace('"source"', '"path": "/b", "source"')}
             for name in found.names]  # fmt: skip
    assert found.differences(moved, simulation.experiment) == []
    changed = SweepData.of(prepared(space, "bb"))
    words = changed.differences(moved, simulation.experiment)
    assert words == [
        f"{split}: 4 {what} changed ({split}0, {split}1, {split}2, …)"
        for split in ("train", "val")
        for what in ("images", "masks")
    ]


class Hearer:
    """A tracker that remembers the parameters of each trial."""

    is_active = True

    def __init__(self):
        self.params = {}

    def trial(self, number, label, job, kind, params=None):
        self.params[number] = params

    def epoch(self, number, epoch, metrics):
        pass

    def alert(self, number, text):
        pass

    def trial_end(self, number, state, summary=None, details=None):
        pass


def test_trackers_are_told_which_data_a_trial_has(tmp_path):
    space = make_space(sweep={"trials": 2})
    simulation = Simulation(tmp_path, space)
    driver, tracker = simulation.driver(), Hearer()
    driver.listeners.append(TrackerListener(tracker, simulation.experiment))
    driver.begin("test", prepared(space, "aa"))
    attempt = driver.next_attempt()
    driver.started(attempt)
    driver.ledger.close()
    (params,) = tracker.params.values()
    assert params[DATA_FINGERPRINT] == fingerprint(space, "aa")
