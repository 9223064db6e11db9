"""What happens before the first trial."""

import os
import socket
import subprocess
import sys

import fake_training
import pytest
from simulation import make_space

from kdsweep.errors import ConfigError, DataError, KdsweepError, ResourceError
from kdsweep.pulse import Pulse
from kdsweep.sweep.ray.preflight import (
    PATIENCE_SECONDS,
    Preflight,
    keep_error,
    restore_error,
    run_task,
)

CHECKED = {
    "prepared": {},
    "measured": None,
    "static_costs": [],
    "warning": None,
    "network_bytes": (0, 0),
}


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def preflight(clock):
    return Preflight(make_space().jobs_to_check(), slots=3, clock=lambda: clock[0])


def tasks(preflight):
    found = []
    while (task := preflight.next_task()) is not None:
        found.append(task)
    return found


def outcome(*arguments, **options):
    """What a worker sends in the end, after where it is and what it is doing."""
    for result in run_task(*arguments, **options):
        if not {"host", "stage"} & result.keys():
            return result
    raise AssertionError("nothing was sent")


def test_one_worker_checks_and_the_others_only_import(preflight):
    found = tasks(preflight)
    assert [e.slot for e in found] == [0, 1, 2]
    assert [bool(e.jobs) for e in found] == [True, False, False]


def test_no_worker_goes_on_before_the_data_are_there_and_all_workers_up(preflight):
    first, second, third = tasks(preflight)
    preflight.started(first)
    preflight.started(second)
    assert not preflight.reported(second, {"ready": True})
    assert not preflight.reported(
        first,
        {
            "prepared": {"source": "roadscenes"},
            "measured": None,
            "static_costs": [],
            "warning": None,
            "network_bytes": (0, 0),
        },
    )
    assert preflight.data == {"source": "roadscenes"}
    assert not preflight.reported(second, {"ready": True})
    preflight.started(third)
    assert all(preflight.reported(e, {"ready": True}) for e in (first, second, third))


def test_the_worker_that_checks_also_measures_if_it_is_asked_to(preflight):
    assert not any(task.measure for task in tasks(preflight))
    preflight = Preflight(make_space().jobs_to_check(), slots=2, measure="largest")
    first, second = tasks(preflight)
    assert (first.measure, second.measure) == ("largest", None)
    resources = {"device": "cpu", "num_threads": 1, "share": 0.5}
    result = outcome("fake_training", first.jobs, resources)
    assert result["measured"] == fake_training.measure([], **resources)
    preflight.reported(first, result)
    assert preflight.measured == result["measured"]


def test_memory_is_looked_at_where_trials_have_gpus(preflight, monkeypatch):
    jobs = [job.model_dump(mode="json") for job in make_space().jobs_to_check()]
    asked = []

    def check_memory(checked, gpus_per_trial, students):
        asked.append((len(checked), gpus_per_trial, students))
        return "warning: memory may run out"

    monkeypatch.setattr(fake_training, "check_memory", check_memory)
    assert outcome("fake_training", jobs)["warning"] is None
    assert asked == []
    result = outcome("fake_training", jobs, gpus=0.5, num_heads=8)
    assert asked == [(len(jobs), 0.5, 8)]
    preflight.reported(preflight.next_task(), result)
    assert preflight.warning == "warning: memory may run out"


def test_trials_that_cannot_fit_on_a_gpu_never_start(preflight, monkeypatch):
    def check_memory(checked, gpus_per_trial, students):
        raise ResourceError("4 trials on one GPU cannot fit")

    monkeypatch.setattr(fake_training, "check_memory", check_memory)
    jobs = [job.model_dump(mode="json") for job in make_space().jobs_to_check()]
    assert not preflight.reported(preflight.next_task(), outcome("fake_training", jobs, gpus=0.25))
    assert isinstance(preflight.error, ResourceError)
    assert preflight.error.exit_code == 2
    assert not preflight.is_over


def test_a_worker_that_does_not_come_up_is_not_waited_for(preflight, clock):
    first = preflight.next_task()
    preflight.started(first)
    preflight.reported(first, CHECKED)
    clock[0] += PATIENCE_SECONDS - 0.1
    assert not preflight.is_over
    clock[0] += 0.2
    assert preflight.is_over


def test_a_worker_that_dies_matters_only_if_it_was_to_check(preflight):
    first, second, third = tasks(preflight)
    preflight.started(first)
    preflight.started(second)
    preflight.crashed(third, "killed")
    assert preflight.error is None
    assert preflight.reported(first, CHECKED)
    preflight.crashed(first, "killed")
    assert "killed" in str(preflight.error)


def test_the_task_checks_prepares_and_then_waits():
    jobs = [job.model_dump(mode="json") for job in make_space().jobs_to_check()]
    results = run_task("fake_training", jobs)
    assert next(results) == {"host": socket.gethostname(), "niceness": os.nice(0)}
    assert [next(results) for _ in range(2)] == [{"stage": "networks"}, {"stage": "data"}]
    assert next(results) == {
        "prepared": fake_training.DATA,
        "measured": None,
        "static_costs": [],
        "network_bytes": (0, 0),
        "warning": None,
    }
    assert next(results) == next(results) == {"ready": True}
    assert outcome("fake_training", []) == {"ready": True}


def test_the_task_says_how_many_jobs_are_checked_and_frames_prepared(monkeypatch):
    jobs = [job.model_dump(mode="json") for job in make_space().jobs_to_check()]
    seen, pulse = [], Pulse()

    def check_job(job):
        seen.append((pulse.now.doing, pulse.now.done, pulse.now.total))

    def prepare(jobs, progress):
        assert pulse.now.total == 0  # what is told of jobs has ended
        progress("decoding", 3, 9)
        return fake_training.DATA

    monkeypatch.setattr(fake_training, "check_job", check_job)
    monkeypatch.setattr(fake_training, "prepare", prepare)
    results = run_task("fake_training", jobs, pulse=pulse)
    assert [list(next(results)) for _ in range(4)][-1][0] == "prepared"
    assert seen == [("jobs", done, len(jobs)) for done in range(len(jobs))]
    assert (pulse.now.doing, pulse.now.done, pulse.now.total) == ("decoding", 3, 9)


def test_static_costs_are_those_of_the_students_that_were_asked_for():
    students = [architecture.job for architecture in make_space().architectures()]
    preflight = Preflight(make_space().jobs_to_check(), slots=1, students=students)
    task = preflight.next_task()
    result = outcome("fake_training", task.jobs, None, task.students)
    preflight.reported(task, result)
    assert preflight.static_costs == fake_training.static_costs(students, 2)
    assert [cost["student/params_m"] for cost in preflight.static_costs] == [14.0, 6.0]


def test_what_is_refused_reaches_the_driver_as_it_was_raised(preflight):
    bad = make_space(student={"encoder": "unheard-of"})
    jobs = [job.model_dump(mode="json") for job in bad.jobs_to_check()]
    result = outcome("fake_training", jobs)
    assert not preflight.reported(preflight.next_task(), result)
    assert isinstance(preflight.error, ConfigError)
    assert preflight.error.path == ("student", "encoder")
    assert preflight.error.value == "unheard-of"
    assert not restore_error(keep_error(ConfigError("no value"))).has_value
    assert str(restore_error(keep_error(DataError("three files")))) == "three files"


def test_what_is_a_bug_reaches_the_driver_in_words(monkeypatch):
    def broken(jobs, progress):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(fake_training, "prepare", broken)
    jobs = [job.model_dump(mode="json") for job in make_space().jobs_to_check()]
    error = restore_error(outcome("fake_training", jobs)["refused"])
    assert type(error) is KdsweepError
    assert "ZeroDivisionError: a bug" in str(error)
    missing = restore_error(outcome("no_such_module", [])["refused"])
    assert "no_such_module" in str(missing)
    assert "no_such_module" not in sys.modules


def test_trained_teachers_are_scored_where_there_are_any(tmp_path):
    plain = Preflight(make_space().jobs_to_check(), slots=1).next_task()
    assert plain.teachers is None
    assert "teachers" not in outcome("fake_training", plain.jobs)["prepared"]
    space = make_space(distill={"checkpoint": str(tmp_path), "pixel_kl": {}})
    task = Preflight(space.jobs_to_check(), slots=1).next_task()
    assert task.teachers == ()
    sent = list_until_prepared(task, {"device": "cpu", "known": ()})
    (teacher,) = sent[-1]["prepared"]["teachers"]
    assert (teacher["checkpoint"], teacher["label"]) == (str(tmp_path), "cpu")
    assert [result["stage"] for result in sent if "stage" in result] == [
        "networks",
        "data",
        "teachers",
    ]
    known = [{**teacher, "miou": 0.1}]
    task = Preflight(space.jobs_to_check(), slots=1, teachers=known).next_task()
    sent = list_until_prepared(task, {"device": "cpu", "known": task.teachers})
    assert sent[-1]["prepared"]["teachers"] == known


def list_until_prepared(task, teachers):
    """All that a worker sends until it has prepared a task's jobs."""
    sent = []
    for result in run_task("fake_training", task.jobs, teachers=teachers):
        sent.append(result)
        if "prepared" in result:
            return sent
    raise AssertionError("nothing was sent")


def test_what_a_worker_imports_is_left_out_of_collections_of_garbage() -> None:
    script = (
        "import gc\n"
        "from kdsweep.sweep.ray.preflight import load_runner\n"
        "module = load_runner('kdsweep.trial')\n"
        "import kdsweep.trial\n"
        "print(module is kdsweep.trial, gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
        "frozen = gc.get_freeze_count()\n"
        "load_runner('kdsweep.trial')\n"
        "print(gc.get_freeze_count() <= frozen)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 4, done.stderr
