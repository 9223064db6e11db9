"""optuna-dashboard on a sweep's study: only looked at, also while it is written."""

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import optuna
import pytest
from simulation import Simulation, make_space

from kdsweep.errors import ConfigError, ExperimentError
from kdsweep.ledger.events import EpochEvent
from kdsweep.sweep.dashboard import Dashboard
from kdsweep.sweep.mirror import StudyMirror

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None,
    reason="optuna-dashboard is not installed: pip install 'kdsweep[dashboard]'",
)


@pytest.fixture
def driver(tmp_path):
    return Simulation(tmp_path, make_space(sweep={"trials": 6}), slots=2).run()


@pytest.fixture
def experiment(driver):
    """An experiment whose study was copied."""
    StudyMirror(driver.experiment.study_db, "tiny", driver.study, pytest.fail).close()
    return driver.experiment


@pytest.fixture
def served():
    """Serves an experiment until the test ends."""
    opened = []

    def serve(experiment):
        dashboard = Dashboard(experiment.path, port=0)
        thread = threading.Thread(target=dashboard.serve)
        thread.start()
        opened.append((dashboard, thread))
        return dashboard.address.split("/dashboard")[0]

    yield serve
    for dashboard, thread in opened:
        dashboard.stop()
        thread.join()
        dashboard.close()


def get(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.loads(answer.read())


def numbers(address):
    """Numbers, in the sweep, of the trials that the dashboard shows."""
    trials = get(f"{address}/api/studies/1")["trials"]
    return sorted(int(t["user_attrs"][0]["value"]) for t in trials)


@needs_package
def test_the_study_is_served_on_this_machine_only(experiment, served):
    address = served(experiment)
    assert address.startswith("http://127.0.0.1:")
    assert numbers(address) == list(range(2, 8))
    with urllib.request.urlopen(f"{address}/dashboard/studies/1", timeout=30) as page:
        assert b"bundle.js" in page.read()
    port = int(address.rpartition(":")[2])
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))


@needs_package
def test_nothing_can_be_changed(experiment, served):
    before = experiment.study_db.read_bytes()
    address = served(experiment)
    for method, path in (
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies/1/rename"),
        ("PUT", "/api/studies/1/note"),
        ("POST", "/api/studies"),
    ):
        request = urllib.request.Request(address + path, b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError, match="405") as refused:
            urllib.request.urlopen(request, timeout=30)
        assert "only shows" in json.loads(refused.value.read())["reason"]
        refused.value.close()
    numbers(address)
    assert experiment.study_db.read_bytes() == before


@needs_package
def test_a_resumed_sweep_replaces_what_is_shown(driver, experiment, served):
    address = served(experiment)
    assert len(numbers(address)) == 6
    mirror = StudyMirror(experiment.study_db, "tiny", driver.study, pytest.fail)
    mirror.close()
    study = optuna.load_study(storage=f"sqlite:///{experiment.study_db}", study_name="tiny")
    study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"trial": 99}))
    deadline = time.monotonic() + 20  # what is shown may be some seconds old
    while 99 not in numbers(address):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@needs_package
def test_looking_does_not_lock_the_sweep_out(driver, experiment, served):
    address = served(experiment)
    done = threading.Event()
    failures = []

    def look():
        while not done.is_set():
            try:
                get(f"{address}/api/studies/1")
                get(f"{address}/api/studies")
            except urllib.error.HTTPError as error:
                # For an instant of a new session there is no study.
                if error.code not in (404, 500):
                    failures.append(error)
                error.close()
            time.sleep(0.02)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    warned = []
    mirror = StudyMirror(experiment.study_db, "tiny", driver.study, warned.append)
    for _ in range(5):
        for number in range(2, 8):
            mirror.event(driver.sweep, EpochEvent(trial=number, epoch=1))
    mirror.close()
    done.set()
    for reader in readers:
        reader.join()
    assert (warned, failures) == ([], [])
    study = optuna.load_study(storage=f"sqlite:///{experiment.study_db}", study_name="tiny")
    assert len(study.trials) == 6 * 6


def test_notes_in_the_copy_do_not_disturb_the_sweep(driver, experiment):
    """Of somebody who serves the file with optuna-dashboard itself, where it can be changed."""
    warned = []
    mirror = StudyMirror(experiment.study_db, "tiny", driver.study, warned.append)
    mirror.event(driver.sweep, EpochEvent(trial=2, epoch=1))
    time.sleep(1)
    url = f"sqlite:///{experiment.study_db}"
    storage = optuna.storages.RDBStorage(url)
    storage.set_study_system_attr(1, "dashboard:note_ver", 1)
    mirror.event(driver.sweep, EpochEvent(trial=3, epoch=1))
    time.sleep(0.5)
    storage.delete_study(1)
    for number in range(4, 8):
        mirror.event(driver.sweep, EpochEvent(trial=number, epoch=1))
    mirror.close()
    assert len(warned) == 1  # of the deleted study, once
    assert "optuna-dashboard" in warned[0]
    StudyMirror(experiment.study_db, "tiny", driver.study, pytest.fail).close()
    assert len(optuna.load_study(storage=url, study_name="tiny").trials) == 6


@needs_package
def test_what_cannot_be_shown_is_one_clear_error(driver, experiment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use"):
            Dashboard(experiment.path, port)
    experiment.study_db.write_text("no database")
    with pytest.raises(ExperimentError, match="cannot be read"):
        Dashboard(experiment.path, 0)
    experiment.study_db.unlink()
    with pytest.raises(ExperimentError, match="no study to show yet"):
        Dashboard(experiment.path, 0)
    assert not experiment.study_db.exists()
    with pytest.raises(ExperimentError, match="no such experiment"):
        Dashboard(experiment.path / "nowhere", 0)


def test_without_the_package_it_says_how_to_get_it(experiment, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"kdsweep\[dashboard\]"):
        Dashboard(experiment.path, 0)


@needs_package
def test_ctrl_c_ends_the_command(experiment):
    code = "from kdsweep.cli import main; main()"
    command = [sys.executable, "-c", code, "dashboard", str(experiment.path), "--port=0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        assert get(f"{line.split('/dashboard')[0]}/api/studies")["study_summaries"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")
