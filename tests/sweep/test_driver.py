"""The driver: what it hands out, how it judges, and how a killed sweep goes on.

Without Ray; see ``test_ray.py`` for the same with real processes.
"""

import json

import fake_training
import pytest
from plain_events import read_plain, typed, typed_event
from simulation import Simulation, ended, essence, make_space, results

from kdsweep.errors import ConfigError, ExperimentError
from kdsweep.ledger import Ledger
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.sweep.driver import LOST_RETRIES
from kdsweep.sweep.outcome import exit_code
from kdsweep.sweep.run import extend
from kdsweep.sweep.schedulers.asha import Asha
from kdsweep.sweep.study import Study
from kdsweep.training.report import EpochReport


def test_every_trial_ends_once_and_controls_come_first_and_run_to_the_end(tmp_path):
    simulation = Simulation(tmp_path, make_space(), slots=2)
    driver = simulation.run()
    events = simulation.events()
    assert [e["event"] for e in events[:4]] == ["sweep", "trial", "trial", "session"]
    assert events[-1]["event"] == "done"
    assert ended(events) == dict.fromkeys(range(16), 1)
    controls = [t for t in driver.sweep.trials.values() if t.is_control]
    assert [t.number for t in controls] == [0, 1]
    assert all(t.state is State.COMPLETE and t.epoch == 9 for t in controls)
    starts = [e["trial"] for e in events if e["event"] == "start"]
    assert starts[:2] == [0, 1]
    stopped = [t for t in driver.sweep.trials.values() if t.state is State.STOPPED]
    assert stopped
    assert {t.epoch for t in stopped} <= {1, 3}
    assert exit_code(driver.sweep) == 0


def test_nothing_that_a_link_leads_to_is_deleted(tmp_path):
    simulation = Simulation(tmp_path / "sweep", make_space(), slots=2)
    trials = simulation.experiment.trials
    links = [trials / "0002", trials / "0003" / "checkpoint", trials / "0000" / "cohort"]
    links.append(trials / "0004" / "checkpoint" / "epoch-0000")
    for number, link in enumerate(links):
        outside = tmp_path / f"outside-{number}"
        for file in ("precious", "checkpoint/epoch-0000/precious", "epoch-0000/precious"):
            (outside / file).parent.mkdir(parents=True, exist_ok=True)
            (outside / file).touch()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside)
    simulation.run()
    assert len(list(tmp_path.glob("outside-*/**/precious"))) == 3 * len(links)
    assert not simulation.experiment.trial(5).checkpoint.exists()


def test_search_trials_name_the_control_of_their_student(tmp_path):
    simulation = Simulation(tmp_path, make_space())
    trials = simulation.run().sweep.trials
    for trial in trials.values():
        if not trial.is_control:
            assert trials[trial.control].job["student"] == trial.job["student"]
    without = make_space(sweep={"controls": "none", "trials": 3})
    driver = Simulation(tmp_path, without).run()
    assert [(t.is_control, t.control) for t in driver.sweep.trials.values()] == [(False, None)] * 3


def test_controls_do_not_count_in_halving_or_in_the_study(tmp_path):
    driver = Simulation(tmp_path, make_space(), slots=3).run()
    compared = {number for rung in driver.sweep.rungs.points.values() for number in rung}
    assert compared == {n for n, t in driver.sweep.trials.items() if not t.is_control}
    assert set(driver.study.trials()) == compared


def test_without_a_scheduler_all_trials_run_to_the_end(tmp_path):
    driver = Simulation(tmp_path, make_space(sweep={"scheduler": "none"})).run()
    assert {t.epoch for t in driver.sweep.trials.values()} == {9}


def test_what_is_left_of_a_trial_is_its_best_student_not_its_checkpoint(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 3}))
    driver = simulation.run()
    for number in driver.sweep.trials:
        assert simulation.experiment.trial(number).best.is_dir()
        assert not simulation.experiment.trial(number).checkpoint.exists()


# -- killed at any line ----------------------------------------------------------------------------


def test_one_slot_killed_at_every_line_and_resumed_is_the_uninterrupted_sweep(tmp_path):
    # More than the ten trials that TPE draws at random.
    space = make_space(sweep={"trials": 12}, train={"epochs": 2})
    whole = Simulation(tmp_path / "whole", space)
    whole.run()
    expected = whole.events()
    for lines in range(1, len(expected)):
        killed = Simulation(tmp_path / f"killed{lines}", space)
        killed.run(max_events=lines)
        killed.run()
        events = killed.events()
        assert essence(events) == essence(expected), f"killed after line {lines}"
        for number in Sweep(typed(events)).trials:
            trained = killed.trained(number)
            assert len(trained) == len(set(trained)), "a finished epoch was trained again"


@pytest.mark.parametrize("seed", range(6))
def test_many_slots_killed_again_and_again_lose_and_double_nothing(tmp_path, seed):
    space = make_space(sweep={"trials": 20})
    simulation = Simulation(tmp_path, space, slots=4)
    for session in range(12):
        driver = simulation.run(seed=100 * seed + session, max_events=20 + 11 * session)
    driver = simulation.run(seed=seed)
    events = simulation.events()
    assert ended(events) == dict.fromkeys(range(22), 1)
    epochs = [(e["trial"], e["epoch"]) for e in events if e["event"] == "epoch"]
    assert len(epochs) == len(set(epochs))
    for number, trial in driver.sweep.trials.items():
        assert sorted(trial.values) == list(range(1, trial.epoch + 1))
        assert sorted(simulation.trained(number)) == list(range(1, trial.epoch + 1))
    # A fresh fold of the ledger is the state that the last driver had.
    folded, study = Sweep(typed(events)), Study(space)
    for event in typed(events):
        study.apply(event)
    assert folded.rungs.points == driver.sweep.rungs.points
    assert folded.trials == driver.sweep.trials
    known = {n: (t.state, t.params, t.intermediate_values) for n, t in study.trials().items()}
    live = {n: (t.state, t.params, t.intermediate_values) for n, t in driver.study.trials().items()}
    assert known == live


def test_decisions_in_the_ledger_are_those_of_its_rungs(tmp_path):
    simulation = Simulation(tmp_path, make_space(), slots=3)
    for session in range(5):
        simulation.run(seed=session, max_events=25 + 15 * session)
    simulation.run()
    sweep = Sweep()
    num_stops = 0
    for event in simulation.events():
        if event["event"] == "epoch" and event["trial"] > 1 and event["epoch"] < 9:
            number, epoch, value = event["trial"], event["epoch"], event["value"]
            expected = "asha" if Asha(sweep.rungs).should_stop(number, epoch, value) else None
            assert event["stop"] == expected
            num_stops += expected is not None
        sweep.apply(typed_event(event))
    assert num_stops > 3


def test_interrupted_trials_go_on_first(tmp_path):
    simulation = Simulation(tmp_path, make_space(), slots=3)
    dropped = simulation.run(max_events=30)
    running = {t.number for t in dropped.sweep.running()}
    assert len(running) == 3
    before = len(simulation.events())
    simulation.run()
    starts = [e for e in simulation.events()[before:] if e["event"] == "start"]
    assert {e["trial"] for e in starts[:3]} == running
    assert all(e["attempt"] == 2 for e in starts[:3])


def test_an_epoch_that_was_finished_but_not_written_is_reported_again_not_trained(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"controls": "none", "trials": 1}))
    simulation.run(max_events=6)
    assert [e["epoch"] for e in simulation.events() if e["event"] == "epoch"] == [1, 2]
    # The last line is lost: its epoch is in the checkpoint only.
    path = simulation.experiment.ledger
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    driver = simulation.run()
    assert sorted(driver.sweep.trials[0].values) == list(range(1, 10))
    assert simulation.trained(0) == list(range(1, 10))


# -- failures --------------------------------------------------------------------------------------


def failing(tmp_path, behave, **options):
    """A sweep of one control and one trial that fails."""
    teacher = {"encoder": "resnet34", "options": {"behave": behave, **options}}
    student = {"encoder": "resnet18"}
    space = make_space(teacher=teacher, student=student, sweep={"trials": 1})
    simulation = Simulation(tmp_path, space)
    driver = simulation.run()
    assert driver.sweep.trials[0].state is State.COMPLETE, "the others are not affected"
    fails = [e for e in simulation.events() if e["event"] == "fail"]
    return driver, fails, simulation


def test_nan_is_not_tried_again_and_told_to_the_sampler(tmp_path):
    driver, fails, _ = failing(tmp_path, "nan")
    assert [(f["class"], f["retry"], f["trial"]) for f in fails] == [("nan", False, 1)]
    assert driver.study.trial(1).state.name == "FAIL"
    assert driver.sweep.trials[1].failure.message == "loss is nan"
    assert exit_code(driver.sweep) == 3


def test_an_error_is_not_tried_again(tmp_path):
    _, fails, _ = failing(tmp_path, "error")
    assert [(f["class"], f["retry"]) for f in fails] == [("error", False)]
    assert fails[0]["traceback"]


def test_out_of_memory_is_tried_once_more_from_the_checkpoint_with_half_the_batch(tmp_path):
    driver, fails, simulation = failing(tmp_path, "oom", times=1, at=3)
    assert [(f["class"], f["retry"]) for f in fails] == [("oom", True)]
    assert fails[0]["job"] == {"batch_size": 4, "accumulate": 2}
    assert driver.sweep.trials[1].state is State.COMPLETE
    lines = (simulation.experiment.trial(1).path / "trained.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        [str(epoch), "8x1" if epoch < 3 else "4x2"] for epoch in range(1, 10)
    ]
    assert exit_code(driver.sweep) == 0


def test_out_of_memory_twice_is_given_up(tmp_path):
    driver, fails, _ = failing(tmp_path, "oom")
    assert [(f["class"], f["retry"]) for f in fails] == [("oom", True), ("oom", False)]
    assert driver.sweep.trials[1].state is State.FAILED


def test_out_of_memory_with_single_frames_is_given_up_at_once(tmp_path):
    space = make_space(
        teacher={"encoder": "resnet34", "options": {"behave": "oom"}},
        train={"batch_size": 1},
        sweep={"trials": 1},
    )
    simulation = Simulation(tmp_path, space)
    simulation.run()
    assert [e["retry"] for e in simulation.events() if e["event"] == "fail"] == [False]


def test_out_of_memory_is_given_up_where_single_frames_would_break_a_rule(tmp_path):
    space = make_space(
        teacher={"encoder": "resnet34", "options": {"behave": "oom"}},
        distill={"cross_image": {}},
        train={"batch_size": 2},
        sweep={"trials": 1, "controls": "none"},
    )
    simulation = Simulation(tmp_path, space)
    simulation.run()
    fails = [e for e in simulation.events() if e["event"] == "fail"]
    assert [(f["class"], f["retry"], "job" in f) for f in fails] == [("oom", False, False)]


@pytest.mark.parametrize(("times", "state"), [(2, State.COMPLETE), (3, State.FAILED)])
def test_crashes_are_tried_twice_more_from_the_checkpoint(tmp_path, times, state):
    driver, fails, simulation = failing(tmp_path, "loader", times=times, at=4)
    assert [f["class"] for f in fails] == ["crash"] * times
    assert [f["retry"] for f in fails] == ([True, True, False])[:times]
    assert driver.sweep.trials[1].state is state
    reached = 9 if state is State.COMPLETE else 3
    assert simulation.trained(1) == list(range(1, reached + 1))


def test_a_value_that_is_no_number_fails_the_trial(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"controls": "none", "trials": 1}))
    driver = simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    driver.started(attempt)
    report = EpochReport(1, {"student/miou": float("nan")})
    assert driver.reported(attempt, results(attempt, report))
    assert driver.sweep.trials[0].failure.failure == "nan"
    assert not driver.reported(attempt, results(attempt, report)) or driver.is_finished
    driver.ledger.close()


def test_a_training_that_ends_early_is_an_error(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"controls": "none", "trials": 1}))
    driver = simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    driver.started(attempt)
    assert driver.reported(attempt, {"ended": True})
    assert "after 0 of 9 epochs" in driver.sweep.trials[0].failure.message
    driver.ledger.close()


def test_a_machine_that_is_gone_is_no_crash(tmp_path):
    space = make_space(sweep={"controls": "none", "trials": 1, "crash_retries": 0})
    simulation = Simulation(tmp_path, space)
    driver = simulation.driver()
    driver.begin("test", {})
    for times in range(1, LOST_RETRIES + 2):
        attempt = driver.next_attempt()
        driver.crashed(attempt, "lost", "its node has died")
        assert read_plain(driver.ledger.path)[-1]["retry"] is (times <= LOST_RETRIES)
    assert driver.sweep.trials[0].failure.failure == "lost"
    driver.ledger.close()


def test_a_worker_that_dies_before_it_starts_counts_as_a_crash(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"controls": "none", "trials": 1}))
    driver = simulation.driver()
    driver.begin("test", {})
    for retry in (True, True, False):
        attempt = driver.next_attempt()
        driver.crashed(attempt, "crash", "the node went away")
        assert read_plain(driver.ledger.path)[-1]["retry"] is retry
        assert not driver.is_active(attempt)
    assert driver.next_attempt() is None
    assert driver.is_finished
    driver.ledger.close()


# -- pauses and budgets ----------------------------------------------------------------------------


def test_a_paused_sweep_hands_out_nothing_stops_at_the_next_report_and_goes_on_later(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 3}), slots=3)
    driver = simulation.driver()
    driver.begin("test", fake_training.DATA)
    attempts = [driver.next_attempt() for _ in range(3)]
    for attempt in attempts:
        driver.started(attempt)
    driver.pause("sigint")
    driver.pause("max_hours")
    assert driver.next_attempt() is None
    report = EpochReport(1, {"student/miou": 0.5})
    assert driver.reported(attempts[0], results(attempts[0], report))
    driver.crashed(attempts[1], "crash", "killed with the process group")
    loader = {"class": "crash", "message": "DataLoader worker was killed", "traceback": ""}
    driver.reported(attempts[2], {"failed": loader})
    assert driver.num_active == 0
    driver.end()
    driver.ledger.close()
    sweep = Sweep(typed(simulation.events()))
    assert sweep.paused == "sigint"
    assert exit_code(sweep) == 130
    assert not [e for e in simulation.events() if e["event"] == "fail"]
    assert sweep.trials[0].values == {1: 0.5}
    assert sweep.count(State.WAITING, State.INTERRUPTED) == 5

    driver = simulation.run()
    assert exit_code(driver.sweep) == 0
    assert ended(simulation.events()) == dict.fromkeys(range(5), 1)


def test_budgets_count_all_sessions_and_pause_with_their_own_exit_code(tmp_path):
    clock = [0.0]
    simulation = Simulation(tmp_path, make_space(sweep={"controls": "none"}))

    def session(seconds, **budgets):
        driver = simulation.driver(gpus_per_trial=0.5, clock=lambda: clock[0], **budgets)
        driver.begin("test", {})
        clock[0] = read_plain(driver.ledger.path)[-1]["time"]
        attempt = driver.next_attempt()
        driver.started(attempt)
        clock[0] += seconds
        driver.check_budgets()
        return driver

    driver = session(1800, max_hours=1.0, max_gpu_hours=1.0)
    assert driver.pausing is None
    clock[0] += 1801
    driver.check_budgets()
    assert driver.pausing == "max_hours"
    driver.end()
    driver.ledger.close()
    assert exit_code(Sweep(typed(simulation.events()))) == 4

    driver = session(3599, max_gpu_hours=0.5)
    assert driver.pausing is None
    clock[0] += 3
    driver.check_budgets()
    assert driver.pausing == "max_gpu_hours"
    driver.end()
    driver.ledger.close()


def test_time_after_a_kill_is_nobodys(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"controls": "none", "trials": 2}))
    simulation.run(max_events=8)
    events = simulation.events()
    start = next(e["time"] for e in events if e["event"] == "start")
    later = {**events[1], "event": "session", "session": 2, "time": events[-1]["time"] + 9999}
    later |= {"slots": 1, "gpus_per_trial": 1.0}
    sweep = Sweep(typed([*events, later]))
    assert sweep.slot_hours() * 3600 == pytest.approx(events[-1]["time"] - start, abs=0.01)
    assert sweep.hours() * 3600 < 10


def test_only_one_driver_at_a_time(tmp_path):
    simulation = Simulation(tmp_path, make_space())
    driver = simulation.driver()
    driver.begin("test", {})
    with pytest.raises(ExperimentError, match="another driver"):
        simulation.driver()
    driver.ledger.close()


def test_the_ledger_reads_as_documented(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 2}), slots=1)
    simulation.run()
    events = simulation.events()
    by_kind = {e["event"]: set(e) - {"event", "seq", "time"} for e in events}
    assert by_kind["trial"] == {
        *("trial", "kind", "label", "student", "teacher", "params", "values", "job", "control"),
        *("rides_with", "drawn_with"),
    }
    assert by_kind["epoch"] == {
        *("trial", "attempt", "epoch", "value", "metrics", "classes", "seconds", "stop")
    }
    assert by_kind["start"] == {"trial", "attempt", "epoch"}
    assert by_kind["session"] == {
        *("session", "pid", "host", "slots", "gpus_per_trial", "cpus_per_trial", "command"),
        *("max_hours", "max_gpu_hours"),
    }
    header = events[0]
    assert header["epochs"] == 9
    assert header["trials"] == 2
    assert header["num_controls"] == 2
    assert header["data"] == fake_training.DATA
    assert [e["seq"] for e in events] == list(range(len(events)))
    json.dumps(events, allow_nan=False)


def test_events_of_a_later_version_are_passed_over(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 2}))
    simulation.run()
    events = simulation.events()
    known = Sweep(typed(events))
    more = Sweep(typed([*events[:5], {"event": "remark", "time": events[4]["time"]}, *events[5:]]))
    assert more.trials == known.trials


# -- extended --------------------------------------------------------------------------------------


def test_an_extended_sweep_goes_on_as_if_it_had_been_asked_for_more_at_once(tmp_path):
    short, long = make_space(sweep={"trials": 5}), make_space(sweep={"trials": 12})
    extended = Simulation(tmp_path / "extended", short)
    extended.run()
    with Ledger.open(extended.experiment.ledger) as ledger:
        ledger.append(extend(short, ledger, 7))
    driver = extended.run()
    whole = Simulation(tmp_path / "whole", long)
    expected = whole.run().sweep
    assert not driver.sweep.has_work
    assert driver.sweep.header.trials == 12
    for number, trial in expected.trials.items():
        other = driver.sweep.trials[number]
        assert (other.params, other.values, other.state) == (
            trial.params,
            trial.values,
            trial.state,
        )


def test_a_space_cannot_be_extended_beyond_its_points(tmp_path):
    space = make_space(
        distill={"pixel_kl": {"weight": 1.0}},
        train={"lr": 1e-3},
        sweep={"trials": 3, "sampler": "grid"},
    )
    simulation = Simulation(tmp_path, space)
    simulation.run()
    with Ledger.open(simulation.experiment.ledger) as ledger:
        with pytest.raises(ConfigError, match="4 different jobs, and 3 trials"):
            extend(space, ledger, 2)
        ledger.append(extend(space, ledger, 1))
    assert not simulation.run().sweep.has_work
