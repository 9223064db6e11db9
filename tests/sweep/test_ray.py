"""Sweeps through Ray, with real processes that are killed: nothing is lost, nothing is doubled.

One file, because its tests share the watcher and the way to start a driver, and run one by one.
"""

import contextlib
import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import fake_training
import pytest
from plain_events import read_plain, typed, typed_event
from simulation import SPACE, Simulation, ended, essence, make_space

from kdsweep.config import load_space
from kdsweep.errors import ConfigError, DataError, ExperimentError, ResourceError
from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.reporting import read_status
from kdsweep.sweep import jobs_to_confirm, resume_sweep, run_sweep
from kdsweep.sweep.progress import Progress
from kdsweep.sweep.ray import cluster
from kdsweep.sweep.ray.cluster import Cluster
from kdsweep.sweep.resources import Node
from kdsweep.sweep.schedulers.asha import Asha
from kdsweep.sweep.study import Study

pytestmark = [
    pytest.mark.ray,
    # Ray starts up to six times in one test, in seconds on an idle machine.
    pytest.mark.timeout(900),
    # Ray leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _workers_find_the_made_up_trainings(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def tree(**sections):
    """The tests' space with some sections updated."""
    space = copy.deepcopy(SPACE)
    for name, value in sections.items():
        space[name] = {**space[name], **value}
    return space


class SweepProcess:
    """A driver in a process of its own, in a process group of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, str(HERE / "sweep_process.py"), *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.events = []

    def read_until(self, condition):
        """Read events until one fulfils the condition."""
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if condition(self.events):
                return
        raise AssertionError(f"the sweep ended before that: {self.process.stderr.read()}")

    def kill(self, *, tree):
        """SIGKILL to the driver alone, or to all processes of its session."""
        pids = session_members(self.process.pid) if tree else [self.process.pid]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.close()

    def finish(self, timeout=120):
        """Wait for the end; exit code and standard error."""
        out, err = self.process.communicate(timeout=timeout)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, err

    def close(self):
        self.process.stdout.close()
        self.process.stderr.close()


def session_members(leader):
    """All processes that descend from a process, as far as they are its children's children."""
    children = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(stat[1]), []).append(int(folder.name))
    found, queue = [], [leader]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def find_member(leader, title, timeout=20):
    """The one process with this title that descends from a process.

    Ray writes a worker's title anew with each call: it may be missing for a moment.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = []
        for pid in session_members(leader):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if title.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        if len(found) == 1 or time.monotonic() > deadline:
            (pid,) = found
            return pid
        time.sleep(0.05)


def num_epochs(count):
    """A condition: so many epochs were reported in this session."""
    return lambda events: sum(e["event"] == "epoch" for e in events) >= count


def check_whole(experiment, space, num_trials):
    """No trial lost or doubled, no finished epoch trained again, rungs and history as folded."""
    events = read_plain(experiment.ledger)
    assert ended(events) == dict.fromkeys(range(num_trials), 1)
    epochs = [(e["trial"], e["epoch"]) for e in events if e["event"] == "epoch"]
    assert len(epochs) == len(set(epochs))
    sweep, study = Sweep(), Study(space)
    for event in events:
        if event["event"] == "epoch" and not sweep.trials[event["trial"]].is_control:
            trial = sweep.trials[event["trial"]]
            if event["epoch"] < trial.epochs:
                stop = Asha(sweep.rungs).should_stop(trial.number, event["epoch"], event["value"])
                assert event["stop"] == ("asha" if stop else None)
        sweep.apply(typed_event(event))
        study.apply(typed_event(event))
    num_again = 0
    for number, trial in sweep.trials.items():
        assert sorted(trial.values) == list(range(1, trial.epoch + 1))
        lines = (experiment.trial(number).path / "trained.txt").read_text().splitlines()
        trained = [int(line.split()[0]) for line in lines]
        assert sorted(set(trained)) == sorted(trial.values)
        num_again += len(trained) - len(set(trained))
        if not trial.is_control:
            frozen = study.trial(number)
            assert frozen.intermediate_values == trial.values
            assert frozen.state.is_finished()
    rungs = {}
    for event in events:
        if event["event"] == "epoch" and not sweep.trials[event["trial"]].is_control:
            number, epoch = event["trial"], event["epoch"]
            if sweep.rungs.is_rung(epoch):
                rungs.setdefault(epoch, {})[number] = (event["value"],)
    assert sweep.rungs.points == rungs
    return events, num_again


@pytest.mark.slow
def test_a_sweep_killed_interrupted_and_paused_goes_on_to_its_end(tmp_path):
    space_tree = tree(
        sweep={"trials": 14},
        teacher={"options": {"seconds": 0.1}},
        student={"options": {"seconds": 0.1}},
    )
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space_tree))
    space = load_space(space_tree)

    first = SweepProcess("run", tmp_path, file)
    first.read_until(num_epochs(9))
    first.kill(tree=False)
    experiment = Experiment.open(tmp_path / "latest")

    second = SweepProcess("resume", experiment.path)
    second.read_until(lambda events: any(e["event"] == "start" for e in events))
    with pytest.raises(ExperimentError, match=f"process {second.process.pid}"):
        resume_sweep(experiment.path, runner="fake_training")
    second.read_until(num_epochs(9))
    second.kill(tree=True)

    third = SweepProcess("resume", experiment.path)
    third.read_until(num_epochs(5))
    third.process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    code, errors = third.finish()
    assert code == 130, errors
    assert time.monotonic() - begin < 20
    assert [e["reason"] for e in third.events if e["event"] == "pause"] == ["sigint"]
    assert third.events[-1]["event"] == "outcome"
    assert third.events[-1]["resume_command"] == f"kdsweep resume {experiment.path}"
    assert errors == ""

    # As timeout, systemd and SLURM do it: to all processes of the group.
    fourth = SweepProcess("resume", experiment.path)
    fourth.read_until(num_epochs(5))
    os.killpg(fourth.process.pid, signal.SIGTERM)
    code, errors = fourth.finish()
    assert code == 130, errors
    assert [e["reason"] for e in fourth.events if e["event"] == "pause"] == ["sigterm"]

    fifth = SweepProcess("resume", experiment.path, "max_hours=0.0001")
    code, errors = fifth.finish()
    assert code == 4, errors
    assert [e["reason"] for e in fifth.events if e["event"] == "pause"] == ["max_hours"]

    last = SweepProcess("resume", experiment.path)
    code, errors = last.finish()
    assert code == 0, errors
    assert errors == ""
    events, num_again = check_whole(experiment, space, num_trials=16)
    # Two kills and a signal that reaches workers, with two slots: the epochs that were in flight.
    assert num_again <= 6
    assert [e["session"] for e in events if e["event"] == "session"] == [1, 2, 3, 4, 5, 6]
    assert not [e for e in events if e["event"] == "fail"]

    again = resume_sweep(experiment.path, runner="fake_training")
    assert again.exit_code == 0
    assert len(read_plain(experiment.ledger)) == len(events)


@pytest.mark.slow
def test_a_sweep_outlives_its_output_and_pauses_when_its_terminal_is_closed(tmp_path):
    file = tmp_path / "space.json"
    slow = {"options": {"seconds": 0.1}}
    file.write_text(json.dumps(tree(teacher=slow, student=slow)))
    process = SweepProcess("run", tmp_path, file)
    process.read_until(num_epochs(1))
    process.process.stdout.close()  # as `| head` does
    experiment = Experiment.open(tmp_path / "latest")
    deadline = time.monotonic() + 120
    while not num_epochs(8)(read_plain(experiment.ledger)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.process.pid, signal.SIGHUP)
    errors = process.process.stderr.read()
    process.process.stderr.close()
    assert process.process.wait(120) == 130
    (line,) = errors.splitlines()
    assert "nothing can be shown any more (Broken pipe); the sweep goes on" in line
    events = read_plain(experiment.ledger)
    assert [e["reason"] for e in events if e["event"] == "pause"] == ["sighup"]
    assert not [e for e in events if e["event"] == "fail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "weight"),
    [
        ("tpe", SPACE["distill"]["pixel_kl"]),  # conditional
        ("gp", {"weight": {"min": 0.1, "max": 10.0}}),  # draws from the eleventh trial on
    ],
)
def test_one_slot_killed_and_resumed_is_the_sweep_that_was_never_interrupted(
    sampler, weight, tmp_path
):
    space_tree = tree(
        distill={"pixel_kl": weight},
        sweep={"trials": 13, "max_concurrent": 1},
        teacher={"options": {"seconds": 0.05}},
        train={"epochs": 4},
    )
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space_tree))
    expected = Simulation(tmp_path / "expected", load_space(space_tree))
    expected.run()
    assert expected.events()[0]["sampler"] == sampler

    process = SweepProcess("run", tmp_path, file)
    process.read_until(num_epochs(16))
    process.kill(tree=False)
    process = SweepProcess("resume", tmp_path / "latest")
    code, errors = process.finish()
    assert code == 0, errors
    events = read_plain(Experiment.open(tmp_path / "latest").ledger)

    def comparable(events):
        return [
            {k: v for k, v in event.items() if k not in ("seconds", "data")}
            for event in essence(events)
        ]

    assert comparable(events) == comparable(expected.events())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["signal", "worker killed"])
def test_an_end_during_the_preflight_leaves_nothing(ending, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_PREPARE_SECONDS", "60")
    file = tmp_path / "space.json"
    file.write_text(json.dumps(SPACE))
    process = SweepProcess("run", tmp_path / "experiments", file)
    # The stage before is told of when the next one begins.
    process.read_until(lambda events: events[-1].get("text", "").startswith("networks"))
    began = time.monotonic()
    if ending == "signal":
        process.process.send_signal(signal.SIGINT)
    else:
        os.kill(find_member(process.process.pid, "kdsweep worker 0"), signal.SIGKILL)
    _, errors = process.process.communicate(timeout=120)  # Ray says of its own that a worker died
    assert time.monotonic() - began < 30  # of the 60 that preparing takes
    if ending == "signal":
        assert (process.process.returncode, errors) == (130, "")
    else:
        assert process.process.returncode != 0
        assert "the worker that prepared the data died" in errors
    assert not (tmp_path / "experiments").exists()


@pytest.mark.slow
def test_data_that_are_refused_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_REFUSAL", "validation frames are training frames")
    file = tmp_path / "space.json"
    file.write_text(json.dumps(SPACE))
    process = SweepProcess("run", tmp_path / "experiments", file)
    code, errors = process.finish()
    assert code != 0
    assert "DataError: validation frames are training frames" in errors
    assert not (tmp_path / "experiments").exists()


class Watcher(Progress):
    """Remembers what it was told."""

    def __init__(self):
        self.notes = []
        self.events = []

    def note(self, text):
        self.notes.append(text)

    def event(self, sweep, event):
        self.events.append(event)


@pytest.mark.slow
def test_failures_are_classified_and_never_take_the_sweep_down(tmp_path):
    asked_for = [("oom", 1), ("oom", 9), ("nan", 9), ("error", 1)]
    asked_for += [("exit", 1), ("kill", 9), ("loader", 1)]
    options = [{"behave": behave, "times": times} for behave, times in asked_for]
    space = make_space(
        teacher={"encoder": "resnet34", "options": {"values": [{}, *options]}},
        student={"encoder": "resnet18"},
        distill={"pixel_kl": {"weight": 1.0}},
        train={"epochs": 3, "lr": 1e-3},
        sweep={"sampler": "grid", "trials": 99, "scheduler": "none", "crash_retries": 1},
    )
    watcher = Watcher()
    outcome = run_sweep(space, experiments=tmp_path, progress=watcher, runner="fake_training")
    assert outcome.exit_code == 3
    experiment = Experiment.open(outcome.experiment)
    events = read_plain(experiment.ledger)
    assert typed(events) == watcher.events
    sweep = Sweep(typed(events))
    fails = {}
    for event in events:
        if event["event"] == "fail":
            fails.setdefault(event["trial"], []).append((event["class"], event["retry"]))
    seen = {}
    for number, trial in sweep.trials.items():
        asked = {} if trial.is_control else trial.job["teacher"]["options"]
        key = (asked.get("behave"), asked.get("times"))
        seen[key] = (trial.state, fails.get(number, []))
    crash = ("crash", True)
    assert seen == {
        (None, None): (State.COMPLETE, []),
        ("oom", 1): (State.COMPLETE, [("oom", True)]),
        ("oom", 9): (State.FAILED, [("oom", True), ("oom", False)]),
        ("nan", 9): (State.FAILED, [("nan", False)]),
        ("error", 1): (State.FAILED, [("error", False)]),
        ("exit", 1): (State.COMPLETE, [crash]),
        ("kill", 9): (State.FAILED, [crash, ("crash", False)]),
        ("loader", 1): (State.COMPLETE, [crash]),
    }
    wrong = next(e for e in events if e["event"] == "fail" and e["class"] == "error")
    assert wrong["message"] == "a bug in the training"
    assert "misbehave" in wrong["traceback"]
    log = experiment.trial(wrong["trial"]).log.read_text()
    assert "a bug in the training" in log
    assert "epoch 1 begins" in log
    # A trial's log holds its own lines only, although workers serve many trials.
    for number, trial in sweep.trials.items():
        log = experiment.trial(number).log.read_text()
        assert log.count("--- ") == trial.attempt
        assert f"--- {number:04d} " in log
    assert fake_training.DATA["notice"] in watcher.notes
    workers = [note for note in watcher.notes if note.startswith("workers:")]
    assert len(workers) == 1
    assert any("kdsweep ray-token" in note for note in watcher.notes)
    assert "http://127.0.0.1:" in workers[0]
    import optuna

    study = optuna.load_study(storage=f"sqlite:///{experiment.study_db}", study_name=None)
    assert len(study.trials) == len(sweep.trials) - 1
    assert sum(t.state.name == "FAIL" for t in study.trials) == 4


@pytest.mark.slow
def test_a_stopped_worker_is_named_ended_and_tried_again(tmp_path):
    options = [{"behave": "stop", "times": times} for times in (1, 9)]
    space = make_space(
        teacher={"encoder": "resnet34", "options": {"values": [{}, *options]}},
        student={"encoder": "resnet18"},
        distill={"pixel_kl": {"weight": 1.0}},
        train={"epochs": 3, "lr": 1e-3},
        sweep={
            **{"sampler": "grid", "trials": 99, "scheduler": "none", "controls": "none"},
            "hang_minutes": 0.1,
        },
    )
    watcher = Watcher()
    outcome = run_sweep(
        space, experiments=tmp_path, progress=watcher, runner="fake_training", dashboard=False
    )
    assert (outcome.exit_code, outcome.num_complete, outcome.num_failed) == (3, 2, 1)
    experiment = Experiment.open(outcome.experiment)
    events = read_plain(experiment.ledger)
    trials = Sweep(typed(events)).trials
    number_of = {t.job["teacher"]["options"].get("times", 0): n for n, t in trials.items()}
    fails = {}
    for event in events:
        if event["event"] == "fail":
            fails.setdefault(event["trial"], []).append((event["class"], event["retry"]))
            assert event["machine"] == socket.gethostname()
            said, process = event["message"].removesuffix(")").split(" (process ")
            assert said.endswith("training, epoch 2, step 1 of 4")
            # Stopped as it was, it is gone when the sweep is.
            assert not Path(f"/proc/{process}").exists()
    hang = ("hang", True)
    assert fails == {number_of[1]: [hang], number_of[9]: [hang, ("hang", False)]}
    seen = read_status(experiment.path).hangs
    assert sorted((h.number, h.retried) for h in seen) == sorted(
        (number, retried) for number, found in fails.items() for _, retried in found
    )
    for times, num in ((0, 3), (1, 3), (9, 1)):
        lines = (experiment.trial(number_of[times]).path / "trained.txt").read_text().splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(1, num + 1))


@pytest.mark.slow
def test_a_worker_stopped_between_two_trials_is_noticed(tmp_path):
    space = make_space(
        teacher={"encoder": "resnet34"},
        student={"encoder": "resnet18", "options": {"values": [{"stops_when_left": True}, {}]}},
        distill={"pixel_kl": {"weight": 1.0}},
        train={"epochs": 2, "lr": 1e-3},
        sweep={
            **{"sampler": "grid", "trials": 99, "scheduler": "none", "controls": "none"},
            **{"hang_minutes": 0.1, "max_concurrent": 1},
        },
    )
    outcome = run_sweep(
        space, experiments=tmp_path, progress=Watcher(), runner="fake_training", dashboard=False
    )
    assert (outcome.exit_code, outcome.num_complete, outcome.num_failed) == (0, 2, 0)
    events = read_plain(Experiment.open(outcome.experiment).ledger)
    (fail,) = [event for event in events if event["event"] == "fail"]
    assert (fail["class"], fail["retry"], fail["trial"]) == ("hang", True, 1)


@pytest.mark.slow
def test_bad_input_leaves_no_experiment(tmp_path):
    unknown = make_space(student={"encoder": "unheard-of"})
    with pytest.raises(ConfigError, match="unknown encoder") as raised:
        run_sweep(unknown, experiments=tmp_path, runner="fake_training", dashboard=False)
    assert raised.value.path == ("student", "encoder")
    assert list(tmp_path.iterdir()) == []


def test_missing_data_are_refused_before_ray_starts(tmp_path, monkeypatch):
    def connect(*_, **__):
        raise AssertionError("Ray starts")

    monkeypatch.setattr(cluster, "start", connect)
    monkeypatch.setattr(cluster, "join", connect)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    nowhere = {"source": "lyft", "path": str(tmp_path / "nowhere"), "image_size": [32, 32]}
    with pytest.raises(DataError, match="nowhere is not there"):
        run_sweep(make_space(data=nowhere), experiments=tmp_path, dashboard=False)
    two = {"source": "roadscenes", "num_classes": 2, "image_size": [32, 32]}
    with pytest.raises(ConfigError, match="has more classes than that"):
        run_sweep(make_space(data=two), experiments=tmp_path, dashboard=False)
    # Only the workers of a cluster need to see the data.
    with pytest.raises(AssertionError, match="Ray starts"):
        run_sweep(make_space(data=nowhere), experiments=tmp_path, address="10.0.0.1:6379")
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_never_fits_leaves_no_experiment(tmp_path, monkeypatch):
    @contextmanager
    def connect(*_, **__):
        yield Cluster((Node("here", 2.0),), True, tmp_path, None)

    monkeypatch.setattr(cluster, "start", connect)
    greedy = make_space(resources={"cpus_per_trial": 3})
    with pytest.raises(ResourceError, match="wait for ever"):
        run_sweep(greedy, experiments=tmp_path, runner="fake_training")
    assert list(tmp_path.iterdir()) == []


def test_a_torn_ledger_is_said_and_a_locked_one_is_left_alone(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 2}))
    from kdsweep.ledger.atomic import write_json

    write_json(simulation.experiment.spec_json, simulation.space.resolved())
    simulation.run()
    path = simulation.experiment.ledger
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"ep')
    watcher = Watcher()
    outcome = resume_sweep(simulation.experiment.path, progress=watcher, runner="fake_training")
    assert outcome.exit_code == 0
    assert "torn" in watcher.notes[0]
    assert "nothing left to do" in watcher.notes[1]
    assert path.read_bytes() == whole
    with Ledger.open(path), pytest.raises(ExperimentError, match="another driver"):
        resume_sweep(simulation.experiment.path, runner="fake_training")


def test_an_experiment_without_its_space_says_so(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"trials": 2}))
    simulation.run(max_events=4)
    with pytest.raises(ExperimentError, match=r"spec\.json: the search space cannot be read"):
        resume_sweep(simulation.experiment.path, runner="fake_training")


@pytest.mark.slow
def test_a_sweep_is_confirmed_beside_exact_controls(tmp_path):
    first = run_sweep(
        make_space(sweep={"trials": 3}, train={"epochs": 2}),
        experiments=tmp_path,
        runner="fake_training",
        dashboard=False,
    )
    jobs = jobs_to_confirm(first.experiment, top=2, seeds=2)
    outcome = run_sweep(jobs, experiments=tmp_path, runner="fake_training", dashboard=False)
    assert outcome.exit_code == 0
    events = read_plain(Experiment.open(outcome.experiment).ledger)
    assert ended(events) == dict.fromkeys(range(8), 1)
    trials = Sweep(typed(events)).trials
    assert {t.number: t.rides_with for t in trials.values() if t.is_control} == {
        number + 1: number for number in (0, 2, 4, 6)
    }
    assert (outcome.experiment / "space.yaml").exists()
    again = resume_sweep(outcome.experiment, runner="fake_training", dashboard=False)
    assert again.exit_code == 0


def test_a_confirmation_ends_when_its_gain_is_settled(tmp_path):
    teacher = {"encoder": "resnet34", "options": {"gain": 0.05, "noise": 0.01}}
    first = run_sweep(
        make_space(teacher=teacher, sweep={"trials": 1}, train={"epochs": 1}),
        experiments=tmp_path,
        runner="fake_training",
        dashboard=False,
    )
    jobs = jobs_to_confirm(first.experiment, top=1, seeds=20, until_settled=True)
    outcome = run_sweep(jobs, experiments=tmp_path, runner="fake_training", dashboard=False)
    assert (outcome.exit_code, outcome.reason, outcome.num_left) == (0, "done", 0)
    assert 5 <= outcome.num_complete < 20
    again = resume_sweep(outcome.experiment, runner="fake_training", dashboard=False)
    assert (again.exit_code, again.num_complete) == (0, outcome.num_complete)


@pytest.mark.slow
def test_cohorts_lose_students_and_drivers_and_nothing_else(tmp_path):
    space = tree(
        train={
            "epochs": 9,
            "lr": {"values": [0.001, 0.01]},
            "student": {"lr": {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform_values"}},
        },
        sweep={"trials": 8, "students_per_teacher": "auto", "controls": "paired"},
    )
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space))
    sweep = SweepProcess("run", tmp_path / "experiments", file)
    sweep.read_until(lambda events: [e["event"] for e in events].count("epoch") >= 12)
    sweep.kill(tree=True)
    experiment = Experiment.open(tmp_path / "experiments" / "latest")
    again = SweepProcess("resume", experiment.path)
    code, err = again.finish()
    assert code == 0, err
    events = read_plain(experiment.ledger)
    assert events[0]["students_per_teacher"] == 4  # as measured
    trials = Sweep(typed(events)).trials
    assert ended(events) == dict.fromkeys(trials, 1)
    search = [t for t in trials.values() if not t.is_control]
    assert [t.drawn_with for t in search] == [None, 0, 0, 0, None, *[search[4].number] * 3]
    stops = {number: max(t.values) for number, t in trials.items()}
    assert len({stops[t.number] for t in search[:4]}) > 1, "all were stopped together"
    for number, trial in trials.items():
        path = experiment.trial(number).path
        epochs = [int(line.split()[0]) for line in (path / "trained.txt").read_text().splitlines()]
        # Whom the driver has stopped does not train on; a killed cohort's epoch may come twice.
        assert sorted(set(epochs)) == list(range(1, trial.epoch + 1))
        assert len(epochs) <= trial.epoch + 1
    seen = [(e["trial"], e["epoch"]) for e in events if e["event"] == "epoch"]
    assert len(seen) == len(set(seen))
