"""Every state that ``kdsweep status`` can name has a command that leaves it.

The command is read off what ``status`` prints and given to the command line. Only training is made
up: where Ray would be started, the simulation trains.
"""

import io
import re
import shlex

import pytest
from rich.console import Console
from simulation import Simulation, ended, make_space, results
from typer.testing import CliRunner

from kdsweep.cli import app
from kdsweep.errors import LedgerError
from kdsweep.ledger import Ledger
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.events import HoursEvent
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.reporting.next_steps import next_commands
from kdsweep.reporting.overview import render_status
from kdsweep.reporting.results import load
from kdsweep.reporting.status import read_status
from kdsweep.sweep.outcome import make_outcome, outcome_lines
from kdsweep.sweep.session import SweepSession
from kdsweep.training.report import EpochReport

NUM_EPOCHS = 3


class Place:
    """An experiment, and the command line that goes on with it without Ray.

    Attributes:
        starts: How often Ray would have been started.
    """

    def __init__(self, path, **sections):
        sweep = {"trials": 2, "controls": "none", **sections.pop("sweep", {})}
        space = make_space(train={"epochs": NUM_EPOCHS}, sweep=sweep, **sections)
        self.simulation = Simulation(path, space)
        self.experiment = self.simulation.experiment
        write_json(self.experiment.spec_json, space.resolved())
        self.starts = 0

    def train(self, session, open_experiment, ledger, asked=None):
        """Stand in for :meth:`SweepSession.run`."""
        self.starts += 1
        if asked is not None:
            ledger.append(asked)
        driver = self.simulation.run(ledger=ledger)
        return make_outcome(driver.sweep, open_experiment())

    def status(self):
        seen = read_status(self.experiment.path)
        file = io.StringIO()
        render_status(seen, Console(file=file, width=300))
        return seen.state, file.getvalue()

    def follow(self, text, *more):
        """Give the command that a text names to the command line; ``N`` becomes 1000."""
        found = re.findall(r"kdsweep (resume .*)$", text, re.MULTILINE)
        arguments = [a if a != "N" else "1000" for a in shlex.split(found[-1])]
        return CliRunner().invoke(app, [*arguments, *more])

    def sweep(self):
        with Ledger.open(self.experiment.ledger) as ledger:
            return Sweep(ledger.replay())


@pytest.fixture
def make_place(tmp_path, monkeypatch):
    def make(**sections):
        place = Place(tmp_path, **sections)
        monkeypatch.setattr(SweepSession, "run", lambda *args: place.train(*args))
        return place

    return make


def paused(place, reason, **options):
    driver = place.simulation.driver(**options)
    driver.begin("test", {})
    state, text = place.status()
    assert (state, "Ctrl-C there pauses it" in text) == ("running", True)
    driver.pause(reason)
    driver.end()
    driver.ledger.close()


def killed_at_the_end(place):
    """Run to the end, but for the last line."""
    place.simulation.run()
    path = place.experiment.ledger
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def elsewhere(place):
    place.simulation.run(max_events=6)
    with Ledger.open(place.experiment.ledger) as ledger:
        last = Sweep(ledger.replay()).sessions[-1].event
        ledger.append(type(last)(session=2, pid=1, host="node-that-is-gone", slots=1))


LEAVES = {
    "empty": ("empty", lambda place: Ledger.open(place.experiment.ledger).close()),
    "not started": ("not started", lambda place: place.simulation.run(max_events=1)),
    "died": ("died", lambda place: place.simulation.run(max_events=6)),
    "elsewhere": ("running", elsewhere),
    **{
        reason: ("paused", lambda place, reason=reason: paused(place, reason))
        for reason in ("sigint", "sigterm", "sighup", "max_hours", "max_gpu_hours")
    },
}


@pytest.mark.parametrize("case", LEAVES)
def test_what_has_work_goes_on_to_its_end(make_place, case):
    state, bring_about = LEAVES[case]
    place = make_place()
    bring_about(place)
    found, text = place.status()
    assert found == state
    result = place.follow(text, "--quiet")
    assert (result.exit_code, place.starts) == (0, 1), result.output
    assert place.status()[0] == "done"
    assert ended(place.simulation.events()) == {0: 1, 1: 1}


def test_a_driver_that_died_before_its_last_line_is_finished_without_ray(make_place):
    place = make_place()
    killed_at_the_end(place)
    leftover = place.experiment.trial(1).checkpoint
    leftover.mkdir()
    before = place.sweep()
    state, text = place.status()
    assert state == "died"
    result = place.follow(text)
    assert (result.exit_code, place.starts) == (0, 0), result.output
    assert "done: " in result.output
    assert "nothing left to do" not in result.output
    assert place.status()[0] == "done"
    assert not leftover.exists()
    assert (place.experiment.report / "index.html").is_file()
    # The time that nobody drove it is not the sweep's.
    assert place.sweep().hours() == pytest.approx(before.hours(), abs=1 / 60)
    assert [e["event"] for e in place.simulation.events()[-2:]] == ["session", "done"]
    num_lines = len(place.simulation.events())
    again = CliRunner().invoke(app, ["resume", str(place.experiment.path), "--quiet"])
    assert again.exit_code == 0
    assert len(place.simulation.events()) == num_lines


def test_hours_that_ended_a_sweep_whose_driver_died_then_are_finished_too(make_place):
    place = make_place()
    place.simulation.run(max_events=6)
    with Ledger.open(place.experiment.ledger) as ledger:
        drawn = len(Sweep(ledger.replay()).trials)
        ledger.append(HoursEvent(asked=1.0, trials=drawn, num_controls=0))
    state, text = place.status()
    assert state == "died"
    assert place.follow(text, "--quiet").exit_code == 0
    assert (place.status()[0], place.starts) == ("done", 0)


def failing(place, behave, times=1):
    return place(
        teacher={
            "encoder": "resnet34",
            "options": {"behave": behave, "times": times, "at": NUM_EPOCHS},
        },
        sweep={"scheduler": "none", "controls": "paired", "trials": 1},
    )


@pytest.mark.parametrize("times", [1, 3])
def test_failed_trials_are_tried_again_from_their_first_epoch(make_place, times):
    # Crashes are tried twice more by the sweep itself, so three make a trial fail.
    place = failing(make_place, "error" if times == 1 else "loader", times)
    place.simulation.run()
    failed = [t.number for t in place.sweep().to_retry()]
    assert failed
    state, text = place.status()
    assert state == "done"
    assert f"{len(failed)} trial" in text
    (told,) = (c for c, _ in next_commands(load(place.experiment.path)) if "retry" in c)
    assert told in text
    # Without being asked for, they are left alone, and the way is told.
    plain = CliRunner().invoke(app, ["resume", str(place.experiment.path), "--json"])
    assert plain.exit_code == 3
    assert "nothing left to do" in plain.output
    assert "--retry-failed" in plain.output

    result = place.follow(text, "--quiet")
    assert (result.exit_code, place.starts) == (0, 1), result.output
    sweep = place.sweep()
    assert {t.state for t in sweep.trials.values()} == {State.COMPLETE}
    for number in failed:
        assert list(sweep.trials[number].values) == list(range(1, NUM_EPOCHS + 1))
        assert place.simulation.trained(number)[-NUM_EPOCHS:] == list(range(1, NUM_EPOCHS + 1))
    assert place.status()[1].count("retry-failed") == 0
    study = place.simulation.driver().study
    assert study.trial(0).state.name == "COMPLETE"
    assert study.trial(0).params == sweep.trials[0].params


def test_crashes_are_counted_anew_and_what_fails_again_can_be_asked_for_again(make_place):
    place = failing(make_place, "loader", times=5)
    place.simulation.run()
    assert place.follow(place.status()[1], "--quiet").exit_code == 0  # two more of the five
    events = place.simulation.events()
    fails = [e["retry"] for e in events if e["event"] == "fail" and e["trial"] == 0]
    assert fails == [True, True, False, True, True]


def test_a_control_that_is_tried_again_trains_for_as_long_as_its_partner(make_place):
    place = make_place(sweep={"scheduler": "none", "controls": "paired", "trials": 1})
    driver = place.simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    driver.started(attempt)
    why = {"class": "nan", "message": "loss is nan", "traceback": ""}
    for epoch in range(1, NUM_EPOCHS + 1):
        report = EpochReport(epoch, {"student/miou": epoch / 10}, {"student": [0.5, None]}, 1.0)
        found = results(attempt, report)["reports"]
        left = {1: why} if epoch == 2 else {}
        driver.reported(attempt, {"reports": {0: found[0]} if left else found, "left": left})
    driver.end()
    driver.ledger.close()
    assert [t.number for t in place.sweep().to_retry()] == [1]
    assert place.follow(place.status()[1], "--quiet").exit_code == 0
    control = place.sweep().trials[1]
    assert (control.is_control, control.state, control.epoch) == (True, State.COMPLETE, NUM_EPOCHS)


def test_a_control_that_ended_for_want_of_a_partner_goes_with_it(make_place):
    place = make_place(sweep={"scheduler": "none", "controls": "paired", "trials": 1})
    driver = place.simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    driver.started(attempt)
    report = EpochReport(1, {"student/miou": 0.1}, {"student": [0.5, None]}, 1.0)
    why = {"class": "nan", "message": "loss is nan", "traceback": ""}
    found = results(attempt, report)["reports"]
    driver.reported(attempt, {"reports": {1: found[1]}, "left": {0: why}})
    driver.end()
    driver.ledger.close()
    assert place.sweep().trials[1].stop == "unneeded"
    assert place.follow(place.status()[1], "--quiet").exit_code == 0
    assert {t.epoch for t in place.sweep().trials.values()} == {NUM_EPOCHS}


def test_what_fails_while_its_cohort_goes_on_waits_for_that(make_place):
    place = make_place(sweep={"scheduler": "none", "controls": "paired", "trials": 1})
    driver = place.simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    driver.started(attempt)
    report = EpochReport(1, {"student/miou": 0.1}, {"student": [0.5, None]}, 1.0)
    why = {"class": "nan", "message": "loss is nan", "traceback": ""}
    found = results(attempt, report)["reports"]
    driver.reported(attempt, {"reports": {0: found[0]}, "left": {1: why}})
    driver.ledger.close()
    assert place.sweep().to_retry() == []
    state, text = place.status()
    assert (state, "--retry-failed" in text) == ("died", False)


def test_what_fails_for_good_keeps_its_exit_code_and_its_way_out(make_place):
    place = failing(make_place, "nan", times=99)
    place.simulation.run()
    assert place.follow(place.status()[1], "--quiet").exit_code == 3
    assert "--retry-failed" in place.status()[1]
    lines = outcome_lines(make_outcome(place.sweep(), place.experiment))
    assert lines[-1].startswith("retry failed trials with: kdsweep resume ")


def test_a_sweep_that_failed_and_lacks_its_last_line_ends_as_it_would_have(make_place):
    place = failing(make_place, "nan", times=99)
    killed_at_the_end(place)
    assert place.status()[0] == "died"
    path = str(place.experiment.path)
    assert CliRunner().invoke(app, ["resume", path, "--quiet"]).exit_code == 3
    assert (place.status()[0], place.starts) == ("done", 0)


def test_retried_trials_outlive_a_driver_that_is_killed_at_once(make_place):
    place = failing(make_place, "error")
    place.simulation.run()
    failed = [t.number for t in place.sweep().to_retry()]
    place.train = lambda session, experiment, ledger, asked: (
        ledger.append(asked),
        make_outcome(Sweep(ledger.replay()), experiment()),
    )[1]
    place.follow(place.status()[1], "--quiet")
    state, text = place.status()
    assert (state, place.sweep().to_retry()) == ("died", [])
    place.train = Place.train.__get__(place)
    assert place.follow(text, "--quiet").exit_code == 0
    assert all(place.sweep().trials[n].state is State.COMPLETE for n in failed)


def test_a_damaged_ledger_goes_on_from_the_line_that_its_error_names(make_place):
    place = make_place()
    place.simulation.run(max_events=6)
    path = place.experiment.ledger
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3].replace(b"1", b"2", 1), *lines[4:]]))
    with pytest.raises(LedgerError) as found:
        place.status()
    kept = int(re.search(r"head -n (\d+)", str(found.value)).group(1))
    path.write_bytes(b"".join(lines[:kept]))
    state, text = place.status()
    assert state in ("not started", "died")
    assert place.follow(text, "--quiet").exit_code == 0
    assert place.status()[0] == "done"
