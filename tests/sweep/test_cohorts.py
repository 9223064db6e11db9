"""Several search trials that share a teacher: drawn together, judged one by one. Without Ray."""

import random

import pytest
from plain_events import read_plain, typed, typed_event
from simulation import SPACE, Simulation, ended, essence, make_space

from kdsweep.config import load_space
from kdsweep.ledger.events import ExtendEvent
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State

STUDENT_LR = {"min": 1.0e-4, "max": 1.0e-1, "distribution": "log_uniform_values"}


def cohort_space(*, students=3, trials=12, controls="shared", **sections):
    train = {
        "epochs": 9,
        "lr": {"values": [0.001, 0.01, 0.1]},
        "student": {"lr": STUDENT_LR},
        **sections.pop("train", {}),
    }
    sweep = {
        "students_per_teacher": students,
        "trials": trials,
        "controls": controls,
        **sections.pop("sweep", {}),
    }
    return make_space(train=train, sweep=sweep, **sections)


class Cohorts(Simulation):
    """Drivers that were told how many students a teacher has."""

    def driver(self, **options):
        return super().driver(students_per_teacher=self.space.sweep.students_per_teacher, **options)


def cohorts(trials):
    """The search trials by cohort."""
    found = {}
    for trial in trials.values():
        if not trial.is_control:
            found.setdefault(trial.cohort, []).append(trial)
    return found


def shared_part(job):
    keys = ("teacher", "checkpoint", "ema_decay", "head_start_epochs")
    train = {key: value for key, value in job["train"].items() if key != "student"}
    return job["data"], job["teacher"], train, [job["distill"][key] for key in keys]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_a_cohort_shares_its_teacher_and_each_student_is_drawn_for_itself(tmp_path, sampler):
    space = cohort_space(students=4, trials=10, sweep={"sampler": sampler})
    driver = Cohorts(tmp_path, space, slots=2).run()
    found = cohorts(driver.sweep.trials)
    assert [len(trials) for trials in found.values()] == [4, 4, 2]
    for first, trials in found.items():
        assert trials[0].number == first
        assert [t.drawn_with for t in trials] == [None, *[first] * (len(trials) - 1)]
        assert all(shared_part(t.job) == shared_part(trials[0].job) for t in trials)
        rates = {t.job["train"]["student"]["lr"] for t in trials}
        assert len(rates) == len(trials)
    assert ended(read_plain(driver.ledger.path)) == dict.fromkeys(driver.sweep.trials, 1)
    assert read_plain(driver.ledger.path)[0]["students_per_teacher"] == 4


def test_each_student_has_a_fate_of_its_own(tmp_path):
    simulation = Cohorts(tmp_path, cohort_space(trials=30), slots=2)
    trials = simulation.run().sweep.trials
    lengths = [{t.epoch for t in cohort} for cohort in cohorts(trials).values()]
    assert any(len(epochs) > 1 for epochs in lengths)
    # Some first trial has left its cohort to others.
    assert any(
        t.epoch < max(c.epoch for c in cohort)
        for cohort in cohorts(trials).values()
        for t in cohort[:1]
    )
    for trial in trials.values():
        assert simulation.trained(trial.number) == list(range(1, trial.epoch + 1))
        assert (trial.state is State.COMPLETE) == (trial.epoch == 9)
        folder = simulation.experiment.trial(trial.number)
        assert folder.best.exists()
        assert not folder.checkpoint.exists()


def test_an_attempt_hands_out_only_those_that_have_not_ended(tmp_path):
    simulation = Cohorts(tmp_path, cohort_space(trials=3, controls="none"))
    driver = simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    assert [task.trial for task in attempt.tasks] == [0, 1, 2]
    assert attempt.title.startswith("0000 +2 ")
    driver.started(attempt)
    report = {"epoch": 1, "metrics": {"student/miou": 0.5}, "classes": {}, "seconds": 1.0}
    low = {**report, "metrics": {"student/miou": 0.1}}
    # The second student is compared with the first, and stopped at the first rung.
    assert not driver.reported(attempt, {"reports": {0: report, 1: low, 2: report}, "left": {}})
    assert [trial.number for trial in driver.remaining(attempt)] == [0, 2]
    report = {**report, "epoch": 2}
    assert not driver.reported(
        attempt,
        {
            "reports": {2: report},
            "left": {0: {"class": "nan", "message": "loss is nan", "traceback": ""}},
        },
    )
    assert [trial.number for trial in driver.remaining(attempt)] == [2]
    assert driver.sweep.trials[0].failure.message == "loss is nan"
    assert driver.sweep.trials[0].failure.failure == "nan"
    driver.crashed(attempt, "crash", "gone")
    again = driver.next_attempt()
    assert [task.trial for task in again.tasks] == [2]
    assert (again.cohort, again.attempt, again.cohort_dir) == (0, 2, attempt.cohort_dir)
    driver.ledger.close()


def test_no_student_is_drawn_twice_and_a_cohort_ends_where_there_are_no_more(tmp_path):
    space = make_space(
        distill={"pixel_kl": {"weight": 1.0}},
        train={"epochs": 2, "lr": {"min": 1.0e-4, "max": 1.0e-1}},
        sweep={"students_per_teacher": 4, "trials": 10, "controls": "none"},
    )
    found = cohorts(Cohorts(tmp_path, space).run().sweep.trials)
    # Infinitely many points, but only two students for each teacher.
    assert [len(trials) for trials in found.values()] == [2, 2, 2, 2, 2]
    for trials in found.values():
        assert {t.job["student"]["encoder"] for t in trials} == {"resnet18", "mobilenet_v2"}


def test_a_grid_is_walked_cohort_by_cohort(tmp_path):
    space = make_space(
        distill={"pixel_kl": {"weight": {"values": [1.0, 2.0, 3.0]}}},
        train={"epochs": 1, "lr": 0.001},
        sweep={"sampler": "grid", "students_per_teacher": 4, "trials": 100, "controls": "none"},
    )
    trials = Cohorts(tmp_path, space).run().sweep.trials
    assert [len(found) for found in cohorts(trials).values()] == [4, 2, 4, 2]
    assert len({repr(sorted(t.params.items())) for t in trials.values()}) == 12


def test_a_student_that_its_teacher_learns_from_trains_alone(tmp_path):
    losses = {
        "values": [
            {"pixel_kl": {"weight": {"min": 0.1, "max": 10.0}}},
            {"mutual": {"weight": {"min": 0.1, "max": 10.0}}},
        ]
    }
    sweep = {"students_per_teacher": 4, "trials": 24, "controls": "none", "sampler": "random"}
    train = {**SPACE["train"], "epochs": 2}
    space = load_space({**SPACE, "distill": losses, "train": train, "sweep": sweep})
    trials = Cohorts(tmp_path, space).run().sweep.trials
    mutual = [t for t in trials.values() if (t.job["distill"]["mutual"] or {}).get("weight")]
    found = cohorts(trials)
    assert 4 < len(mutual) < 20
    assert all(found[t.number] == [t] for t in mutual)
    # One that was drawn for another's cohort keeps what the cohort shares.
    siblings = [t for t in mutual if t.drawn_with is not None]
    assert siblings
    for trial in siblings:
        assert shared_part(trial.job) == shared_part(trials[trial.drawn_with].job)
    assert len(trials) == 24


def test_students_that_differ_in_losses_alone_have_one_control(tmp_path):
    space = make_space(
        teacher={"encoder": "resnet34"},
        student={"encoder": "resnet18"},
        train={"epochs": 3, "lr": 0.001},
        sweep={"students_per_teacher": 4, "trials": 8, "controls": "paired", "scheduler": "none"},
    )
    driver = Cohorts(tmp_path, space).run()
    trials = driver.sweep.trials
    controls = [t for t in trials.values() if t.is_control]
    assert [(t.number, t.rides_with) for t in controls] == [(1, 0), (6, 5)]
    assert [t.control for t in trials.values() if not t.is_control] == [1] * 4 + [6] * 4
    assert driver.sweep.num_trials == len(trials) == 10
    assert ended(read_plain(driver.ledger.path)) == dict.fromkeys(trials, 1)


def test_a_control_trains_until_the_last_one_that_needs_it_has_ended(tmp_path):
    space = cohort_space(trials=24, controls="paired")
    trials = Cohorts(tmp_path, space, slots=2).run().sweep.trials
    controls = [t for t in trials.values() if t.is_control]
    assert len(controls) > 8  # each student has a learning rate of its own
    for control in controls:
        partners = [t for t in trials.values() if t.control == control.number]
        assert control.epoch == max(partner.epoch for partner in partners)
        assert control.state is max(partners, key=lambda t: t.epoch).state


@pytest.mark.parametrize(
    ("behave", "failure", "traceback"),
    [("nan", "nan", ""), ("step", "error", "Traceback of the bug")],
)
def test_a_student_that_fails_leaves_the_others_alone(tmp_path, behave, failure, traceback):
    space = cohort_space(
        students=8,
        trials=8,
        controls="paired",
        student={
            "encoder": "resnet18",
            "options": {"behave": {"values": [None, behave]}},
        },
        train={"lr": 0.001, "epochs": 3},
        sweep={"scheduler": "none", "sampler": "random"},
    )
    simulation = Cohorts(tmp_path, space)
    trials = simulation.run().sweep.trials
    search = [t for t in trials.values() if not t.is_control]
    failed = [t for t in search if t.job["student"]["options"].get("behave")]
    assert 0 < len(failed) < 8
    for trial in failed:
        assert (trial.state, trial.epoch, trial.failure.failure) == (State.FAILED, 1, failure)
        assert trial.failure.traceback == traceback
        assert not simulation.experiment.trial(trial.number).checkpoint.exists()
    rest = [t for t in search if t not in failed]
    assert all((t.state, t.epoch) == (State.COMPLETE, 3) for t in rest)


def test_a_cohort_holds_one_slot_and_its_time_is_shared_out(tmp_path):
    simulation = Cohorts(tmp_path, cohort_space(trials=3, controls="none"))
    driver = simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    assert driver.next_attempt() is None
    driver.started(attempt)
    driver.ledger.close()
    events = simulation.events()
    start = events[-1]["time"]
    epoch = {"event": "epoch", "attempt": 1, "epoch": 1, "value": 0.5, "metrics": {}, "classes": {}}
    sweep = Sweep(typed(events))
    sweep.apply(typed_event({**epoch, "trial": 0, "time": start + 30, "stop": "asha"}))
    sweep.apply(typed_event({**epoch, "trial": 1, "time": start + 30, "stop": None}))
    sweep.apply(typed_event({**epoch, "trial": 1, "time": start + 50, "stop": "asha"}))
    sweep.apply(typed_event({**epoch, "trial": 2, "time": start + 60, "stop": "complete"}))
    time = sweep._time.seconds
    assert [time[number] for number in range(3)] == pytest.approx([10, 20, 30], abs=0.5)
    assert sweep.slot_hours() * 3600 == pytest.approx(60, abs=0.5)


@pytest.mark.parametrize("controls", ["shared", "paired"])
def test_killed_anywhere_a_sweep_of_cohorts_is_the_uninterrupted_one(tmp_path, controls):
    space = cohort_space(controls=controls, trials=11)
    whole = Cohorts(tmp_path / "whole", space)
    whole.run()
    order = random.Random(controls)
    cut = Cohorts(tmp_path / "cut", space)
    lines = 0
    while True:
        lines += order.randint(1, 9)
        driver = cut.run(max_events=lines)
        if not driver.sweep.has_work:
            break
    cut.run()
    assert _in_order(essence(cut.events())) == _in_order(essence(whole.events()))


def _in_order(events):
    """Trials as they were drawn, each with its own epochs, whoever came first."""
    kept = [e for e in events if e["event"] in ("trial", "epoch")]
    return sorted(kept, key=lambda e: (e["trial"], e["event"] == "epoch", e.get("epoch", 0)))


def test_memory_that_runs_out_halves_the_batch_of_the_whole_cohort(tmp_path):
    space = cohort_space(
        trials=3,
        controls="none",
        teacher={"encoder": "resnet34", "options": {"behave": "oom", "times": 1}},
        sweep={"scheduler": "none"},
    )
    # The driver dies between the first and the second line that tell of it.
    simulation = Cohorts(tmp_path, space)
    whole = Cohorts(tmp_path / "whole", space)
    whole.run()
    first = next(n for n, e in enumerate(whole.events()) if e["event"] == "fail")
    simulation.run(max_events=first + 1)
    assert simulation.events()[-1]["event"] == "fail"
    driver = simulation.driver()
    driver.begin("test", {})
    attempt = driver.next_attempt()
    batches = [task.job["train"]["batch_size"] for task in attempt.tasks]
    assert len(batches) == 3
    assert len(set(batches)) == 1
    assert batches[0] == whole.events()[first]["job"]["batch_size"]
    driver.ledger.close()


def test_memory_that_runs_out_again_fails_the_student_drawn_last_alone(tmp_path):
    space = cohort_space(
        trials=3,
        controls="none",
        teacher={"encoder": "resnet34", "options": {"behave": "oom", "times": 2}},
        sweep={"scheduler": "none"},
    )
    simulation = Cohorts(tmp_path, space)
    trials = simulation.run().sweep.trials
    fails = [e for e in simulation.events() if e["event"] == "fail"]
    assert [(e["trial"], e["retry"]) for e in fails] == [
        (0, True), (1, True), (2, True), (2, False), (0, True), (1, True), (1, False), (0, True),
    ]  # fmt: skip
    states = [trials[number].state for number in range(3)]
    assert states == [State.COMPLETE, State.FAILED, State.FAILED]
    assert len({str(trials[number].changes) for number in range(3)}) == 1
    assert simulation.trained(0) == sorted(trials[0].values)
    assert not simulation.experiment.trial(2).checkpoint.exists()


def test_memory_that_runs_out_again_and_again_fails_all(tmp_path):
    space = cohort_space(
        trials=3,
        controls="none",
        teacher={"encoder": "resnet34", "options": {"behave": "oom"}},
        sweep={"scheduler": "none"},
    )
    simulation = Cohorts(tmp_path, space)
    trials = simulation.run().sweep.trials
    final = [e["trial"] for e in simulation.events() if e["event"] == "fail" and not e["retry"]]
    assert final == [2, 1, 0]
    assert {t.state for t in trials.values()} == {State.FAILED}


def test_a_cohort_that_has_begun_takes_no_further_students(tmp_path):
    space = cohort_space(trials=2, controls="none", sweep={"scheduler": "none"})
    simulation = Cohorts(tmp_path, space)
    events = read_plain(simulation.run(max_events=5).ledger.path)
    assert [e["event"] for e in events] == ["sweep", "session", "trial", "trial", "start"]
    ledger_driver = simulation.driver()
    ledger_driver._emit(ExtendEvent(trials=7, num_controls=0))
    ledger_driver.ledger.close()
    trials = simulation.run().sweep.trials
    assert [len(found) for found in cohorts(trials).values()] == [2, 3, 2]


def test_old_ledgers_know_no_cohorts(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 3}))
    simulation.run()
    events = simulation.events()
    for event in events:
        for key in ("students_per_teacher", "controls", "rides_with", "drawn_with"):
            event.pop(key, None)
    sweep = Sweep(typed(events))
    assert sweep.num_trials == len(sweep.trials) == 5
    assert not sweep.has_work
    assert all(trial.cohort == trial.number for trial in sweep.trials.values())
