"""What is looked at before a start; each check against a machine that lacks the thing."""

import os
import tempfile
import threading
from pathlib import Path

import pytest

from kdsweep.errors import MachineError
from kdsweep.sweep import machine
from kdsweep.sweep.machine import check_folder, check_machine
from kdsweep.sweep.ray.token import read_token


@pytest.fixture(autouse=True)
def _usual_variables(monkeypatch):
    for name in ("RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def test_a_usual_machine_needs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.delenv("KDSWEEP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    found = check_machine(tmp_path / "experiments")
    assert (found.temp, found.spill, found.variables, found.notes) == (Path("/tmp"), None, {}, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/new", "/proc/new/deeper"])
def test_a_folder_that_cannot_be_made(place):
    with pytest.raises(MachineError, match=f"{place}: nothing can be written here") as raised:
        check_folder(Path(place), "the cache", "KDSWEEP_CACHE=FOLDER")
    assert raised.value.exit_code == 2
    assert "needed:  the cache" in str(raised.value)


def test_a_file_where_a_folder_is_wanted(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="it is a file"):
        check_folder(tmp_path / "file", "the cache", "another")


def test_a_disk_without_room(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_DISK_BYTES", 1 << 60)
    with pytest.raises(MachineError, match="MiB are free"):
        check_folder(tmp_path, "the cache", "another")


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(machine.fcntl, "flock", refuse)
    with pytest.raises(MachineError, match="files cannot be locked here: No locks available"):
        check_folder(tmp_path, "the cache", "another")


def test_a_limit_of_threads_ends_with_what_was_possible(monkeypatch):
    began = threading.active_count()
    real, started = threading.Thread.start, []

    def start(self):
        if len(started) == 5:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(MachineError, match="processes: 5 more threads"):
        machine._check_threads()
    monkeypatch.undo()
    assert threading.active_count() == began


@pytest.mark.parametrize(
    ("total", "free", "words"),
    [
        (64 << 30, 500 << 20, "500 MiB of 65536 MiB are free"),
        (64 << 30, 2 << 30, "97% of 65536 MiB are in use"),
        (64 << 30, 8 << 30, None),
        (2 << 30, 3 << 29, None),
    ],
)
def test_memory(monkeypatch, total, free, words):
    monkeypatch.setattr(machine, "memory", lambda: (total, free))
    if words is None:
        machine._check_memory()
        return
    with pytest.raises(MachineError, match=words):
        machine._check_memory()


def test_memory_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{4 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{3 << 30}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {1 << 29}\n")
    names = (str(tmp_path / "memory.max"), str(tmp_path / "memory.current"), "inactive_file")
    monkeypatch.setattr(machine, "_CGROUP_MEMORY", [names])
    assert machine.memory() == (4 << 30, 3 << 29)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory()[0] > 0


def test_token_and_cache_move_where_the_home_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("kdsweep.sweep.ray.places.can_write", lambda folder: False)
    monkeypatch.setattr("kdsweep.data.fingerprint.can_write", lambda folder: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KDSWEEP_CACHE", raising=False)
    found = check_machine(tmp_path)
    token = Path(found.variables["RAY_AUTH_TOKEN_PATH"])
    own = tmp_path / f"kdsweep-{os.getuid()}"
    assert token == own / "ray_auth_token"
    assert len(token.read_text()) == 64
    assert token.stat().st_mode & 0o077 == 0
    assert own.stat().st_mode & 0o077 == 0
    assert found.variables["KDSWEEP_CACHE"] == str(own / "cache")
    assert len(found.notes) == 2
    # The next sweep shows the same token.
    assert check_machine(tmp_path).variables == found.variables


def test_a_folder_that_another_user_has_put_there_is_not_trusted(tmp_path, monkeypatch):
    from kdsweep.user_folders import temporary_home

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    open_to_all = tmp_path / f"kdsweep-{os.getuid()}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert temporary_home() != open_to_all
    assert temporary_home().stat().st_mode & 0o077 == 0


def test_without_a_home_folder_there_is_one_below_the_temporary_one(tmp_path, monkeypatch):
    from kdsweep.user_folders import ensure_home, home_folder

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert home_folder() is None
    ensure_home()
    assert home_folder() == tmp_path / f"kdsweep-{os.getuid()}"


def test_the_token_of_the_cluster_in_use_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MachineError, match="no token"):
        read_token()
    own = Path(tempfile.gettempdir()) / f"kdsweep-{os.getuid()}" / "ray_auth_token"
    own.parent.mkdir(exist_ok=True)
    own.write_text("of a sweep without a home\n")
    assert read_token() == "of a sweep without a home"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the home\n")
    assert read_token() == "of the home"
    named = tmp_path / "named"
    named.write_text("named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert read_token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "said")
    assert read_token() == "said"
