"""Sweeps that end in so many hours, in virtual time, with epochs that take other than forecast."""

from __future__ import annotations

import heapq
import io
import random
import re
import time

import pytest
from plain_events import typed
from rich.console import Console
from simulation import Simulation, ended, make_space
from step_costs import make_cost

from kdsweep.config.halving import grace_period
from kdsweep.ledger import Ledger
from kdsweep.ledger.events import Stop
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.reporting import read_status, render_status
from kdsweep.sweep.deadline import Hours
from kdsweep.sweep.forecast import Workload, needed_hours
from kdsweep.sweep.outcome import exit_code, make_outcome, outcome_lines
from kdsweep.sweep.run import extend

# An epoch: 36 s of the teacher, 18 s of a student, 9 s of a control.
COST = make_cost(num_batches=10, teacher_s=3.6, student_s=1.8, control_s=0.9, start_s=10.0)
SECONDS = {
    "start_s": 10.0,
    "head_start_s": 0.0,
    "teacher_s": 36.0,
    "student_s": 18.0,
    "control_s": 9.0,
    "alone_s": 9.0,
}
ASKED = 2.0
SLOTS = 2


class Timed(Simulation):
    """A simulation whose epochs take time, in the order in which they end."""

    def __init__(self, path, space, monkeypatch, *, pace=1.0, noise=0.0, hang=None):
        super().__init__(path, space, slots=SLOTS)
        self.pace, self.noise, self.hang = pace, noise, hang
        monkeypatch.setattr(time, "time", lambda: self.now)

    def session(self, asked=ASKED, **options):
        hours = Hours(asked, self.now - 60.0, SECONDS) if asked else None
        students = self.space.sweep.students_per_teacher
        return self.run(
            hours=hours, students_per_teacher=students, clock=lambda: self.now, **options
        )

    def _work(self, driver, order):
        queue, noise = [], random.Random(7)
        while True:
            while (attempt := driver.next_attempt()) is not None:
                driver.started(attempt)
                reports = self._reports(driver, attempt)
                seconds = 10.0 + self._seconds(driver, attempt, noise)
                heapq.heappush(queue, (self.now + seconds, attempt.cohort, attempt, reports))
            if not queue:
                assert driver.is_finished
                return
            then, _, attempt, reports = heapq.heappop(queue)
            while self.now < then:
                self.now = min(then, self.now + 5.0)
                driver.check_budgets()
                if driver.pausing is not None:  # a session waits no longer
                    return
            if not driver.reported(attempt, next(reports)):
                then += self._seconds(driver, attempt, noise)
                heapq.heappush(queue, (then, attempt.cohort, attempt, reports))

    def _seconds(self, driver, attempt, noise):
        trials = driver.remaining(attempt)
        pairs = sum(not trial.is_control for trial in trials)
        seconds = 36.0 + 18.0 * pairs if pairs else 9.0
        if self.hang is not None and self.now > self.hang:
            seconds *= 100
        return seconds * self.pace * noise.lognormvariate(0.0, self.noise)


def planned(students):
    """A space with as many trials as are forecast to fit."""
    sweep = {"sampler": "random", "students_per_teacher": students}
    first_rung = grace_period(make_space(sweep=sweep))
    trials = 10
    while True:
        work = Workload(
            num_trials=trials + 1,
            epochs=9,
            head_start_epochs=0,
            num_controls=2,
            slots=SLOTS,
            grace_period=first_rung,
            reduction_factor=3,
        )
        if needed_hours(work, COST, students=students, asha=True) > ASKED - 60 / 3600:
            return make_space(sweep={**sweep, "trials": trials})
        trials += 1


def share_used(driver):
    return (driver.sweep.hours() + 60 / 3600) / ASKED


@pytest.mark.parametrize("noise", [0.0, 0.15])
@pytest.mark.parametrize("students", [1, 3])
@pytest.mark.parametrize("pace", [0.5, 1.0, 2.0])
def test_it_ends_on_time_with_its_last_rungs_finished(tmp_path, monkeypatch, pace, students, noise):
    space = planned(students)
    simulation = Timed(tmp_path, space, monkeypatch, pace=pace, noise=noise)
    driver = simulation.session()
    sweep = driver.sweep
    assert exit_code(sweep) == 0
    assert sweep.is_done
    assert not sweep.has_work
    assert share_used(driver) <= 1.05
    stops = [trial.stop for trial in sweep.trials.values()]
    cut = stops.count(Stop.HOURS)
    if pace <= 1.0:
        assert cut == 0
    else:
        assert cut <= SLOTS * students
    tidy = [t for t in sweep.trials.values() if t.stop != Stop.HOURS]
    assert {t.epoch for t in tidy} <= {1, 3, 9}
    assert all(trial.epoch for trial in sweep.trials.values())
    if pace >= 1.0:
        assert share_used(driver) > 0.75
    if pace == 0.5:
        assert sweep.header.trials == space.sweep.trials
    if pace == 2.0:
        assert sweep.header.trials < space.sweep.trials
    assert ended(simulation.events()) == dict.fromkeys(sweep.trials, 1)
    # The ledger tells the same.
    folded = Sweep(typed(simulation.events()))
    assert folded.trials == sweep.trials
    assert (folded.ending, folded.has_work) == ("done", False)


def test_as_many_trials_are_trained_as_were_forecast(tmp_path, monkeypatch):
    space = planned(1)
    sweep = Timed(tmp_path, space, monkeypatch, noise=0.1).session().sweep
    assert sweep.header.trials >= 0.8 * space.sweep.trials


def test_an_epoch_that_hangs_does_not_hold_the_sweep(tmp_path, monkeypatch):
    simulation = Timed(tmp_path, planned(1), monkeypatch, hang=1_000_000 + 3600)
    driver = simulation.session()
    assert driver.pausing == "hours"
    assert exit_code(driver.sweep) == 0
    assert share_used(driver) == pytest.approx(1.05, abs=0.01)
    cut = [t for t in driver.sweep.trials.values() if t.stop == Stop.HOURS]
    assert len(cut) == SLOTS
    assert {t.state for t in cut} == {State.STOPPED}
    for trial in cut:
        assert not simulation.experiment.trial(trial.number).checkpoint.exists()
    states = {t.state.name for t in driver.study.trials().values()}
    assert "RUNNING" not in states


def test_a_killed_sweep_goes_on_with_the_hours_left(tmp_path, monkeypatch):
    simulation = Timed(tmp_path, planned(1), monkeypatch, pace=1.5)
    for lines in (40, 80):
        simulation.session(max_events=lines)
        simulation.now += 7200.0  # nobody was there
    driver = simulation.session(asked=None)
    assert exit_code(driver.sweep) == 0
    assert len(driver.sweep.sessions) == 3
    assert 0.75 < share_used(driver) <= 1.05
    assert ended(simulation.events()) == dict.fromkeys(driver.sweep.trials, 1)


def test_what_is_interrupted_ends_where_no_time_is_left_for_its_next_rung(tmp_path, monkeypatch):
    simulation = Timed(tmp_path, planned(1), monkeypatch)
    killed = simulation.session(max_events=30)
    running = {trial.number for trial in killed.sweep.running()}
    with Ledger.open(simulation.experiment.ledger) as ledger:
        simulation.now += 2.05 * 3600  # it hung before it was killed
        ledger.append(typed(simulation.events())[-1])
    sweep = simulation.session(asked=None).sweep
    assert running
    assert {sweep.trials[n].stop for n in running} == {Stop.HOURS}
    assert exit_code(sweep) == 0
    assert sweep.header.trials == sum(not t.is_control for t in sweep.trials.values())


def test_extending_asks_for_trials_whatever_hours_they_take(tmp_path, monkeypatch):
    simulation = Timed(tmp_path, planned(1), monkeypatch, pace=2.0)
    before = simulation.session().sweep.header.trials
    with Ledger.open(simulation.experiment.ledger) as ledger:
        ledger.append(extend(simulation.space, ledger, 5))
    sweep = simulation.session(asked=None).sweep
    assert sweep.header.trials == before + 5
    assert exit_code(sweep) == 0
    assert sweep.asked_hours is None
    assert sum(not t.is_control for t in sweep.trials.values()) == before + 5


def test_how_it_ended_is_said_with_its_hours(tmp_path, monkeypatch):
    simulation = Timed(tmp_path, planned(1), monkeypatch, pace=2.0)
    sweep = simulation.session().sweep
    (line,) = outcome_lines(make_outcome(sweep, simulation.experiment))
    assert line.startswith("done: ")
    assert " min of 2.0 h)" in line or " h of 2.0 h)" in line
    assert "left" not in line


def test_before_a_pause_no_trial_begins_that_would_not_be_judged(tmp_path, monkeypatch):
    space = make_space(sweep={"trials": 40, "grace_period": 3, "controls": "none"})
    simulation = Timed(tmp_path, space, monkeypatch)
    driver = simulation.session(asked=None, max_hours=0.5)
    sweep = driver.sweep
    assert driver.pausing == "max_hours"
    assert exit_code(sweep) == 4
    # Three epochs of 54 s come first, so none of the last two minutes.
    starts = [e["time"] for e in simulation.events() if e["event"] == "start"]
    assert max(starts) <= 1_000_000 + 1800 - 3 * 54
    assert not any(t.stop == Stop.HOURS for t in sweep.trials.values())
    # The next session goes on with what is left, and its first trial needs not fit.
    sweep = simulation.session(asked=None, max_hours=0.55).sweep
    assert len(sweep.trials) >= 1
    assert sweep.paused == "max_hours"


def test_each_session_begins_something_however_short_it_is(tmp_path, monkeypatch):
    space = make_space(sweep={"trials": 4, "scheduler": "none", "controls": "none"})
    simulation = Timed(tmp_path, space, monkeypatch)
    epochs = []
    for session in range(1, 5):
        sweep = simulation.session(asked=None, max_hours=session * 0.1).sweep
        epochs.append(sum(trial.epoch for trial in sweep.trials.values()))
    assert sorted(set(epochs)) == epochs


def test_the_first_trials_begin_where_steps_were_measured_too_slow(tmp_path, monkeypatch):
    space = make_space(sweep={"trials": 4, "controls": "none"}, train={"epochs": 9})
    simulation = Timed(tmp_path, space, monkeypatch, pace=0.2)
    # By what was measured a trial would take 9 × 54 s, and there are 6 minutes.
    sweep = simulation.session(asked=0.1).sweep
    assert any(trial.state == State.COMPLETE for trial in sweep.trials.values())


def test_status_tells_how_many_trials_it_trained_in_how_much_of_its_hours(tmp_path, monkeypatch):
    simulation = Timed(tmp_path, planned(1), monkeypatch, pace=2.0)
    number = simulation.session().sweep.header.trials
    seen = read_status(simulation.experiment.path)
    assert seen.state == "done"
    assert (seen.num_ended, seen.num_planned, seen.asked_hours) == (number, number, ASKED)
    out = io.StringIO()
    render_status(seen, Console(file=out, width=200))
    assert re.search(rf"used: {number} trials in .* of 2.0 h", out.getvalue())
