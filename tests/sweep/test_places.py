"""Ray's folders: one where its sockets can be bound, and none left behind."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from kdsweep.errors import MachineError
from kdsweep.sweep.ray import bridge, places
from kdsweep.sweep.ray.places import choose_temp, remove_stale_folders, temporary_folder


@pytest.fixture(autouse=True)
def _usual_variables(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)


def test_the_longest_socket_of_ray_fits(tmp_path):
    parent = choose_temp()
    path = parent / places._NAME / bridge.LONGEST_SOCKET
    assert len(os.fsencode(path)) <= 107
    # The system agrees on what is too long.
    with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as server:
        name = Path(short) / ("x" * (107 - len(short) - 1))
        server.bind(str(name))
        with (
            socket.socket(socket.AF_UNIX) as other,
            pytest.raises(OSError, match="AF_UNIX path too long"),
        ):
            other.bind(f"{name}x")


def test_the_name_of_a_real_session_is_no_longer_than_allowed_for():
    # Ray's own: time with microseconds, process id.
    session = f"session_2026-11-29_11-11-55_928169_{2**22}/sockets/plasma_store"
    assert len(session) <= len(bridge.LONGEST_SOCKET)


def test_a_folder_whose_name_is_too_long_is_not_taken(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(MachineError, match=r"its name is too long by \d+ bytes") as raised:
        choose_temp()
    assert "RAY_TMPDIR=FOLDER" in str(raised.value)


def test_the_users_folder_for_ray_decides(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        assert choose_temp() == Path(folder)
        assert os.listdir(folder) == []


def test_only_folders_of_dead_processes_of_this_machine_are_removed(tmp_path):
    left = tmp_path / ".kds-deadbeef"
    elsewhere = tmp_path / ".kds-elsewher"
    new = tmp_path / ".kds-justmade"  # whose owner has not signed yet
    theirs = tmp_path / "ray"
    for folder in (left, elsewhere, new, theirs):
        folder.mkdir()
    (left / "owner").write_text(socket.gethostname())
    (elsewhere / "owner").write_text("another-host")
    with temporary_folder(tmp_path) as alive:
        remove_stale_folders(tmp_path)
        assert len(alive.name) == len(".kds-12345678")
        assert set(tmp_path.iterdir()) == {alive, elsewhere, new, theirs}
    assert not alive.exists()


def test_a_folder_whose_owner_never_signed_is_removed_after_an_hour(tmp_path):
    left = tmp_path / ".kds-deadbeef"
    left.mkdir()
    os.utime(left, (0, 0))
    remove_stale_folders(tmp_path)
    assert not left.exists()
