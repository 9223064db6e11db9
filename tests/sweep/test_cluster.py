"""Ray's surroundings; but for the last test without Ray."""

import os
import socket
import subprocess
import sys

from kdsweep.sweep.ray import cluster
from kdsweep.sweep.ray.places import remove_stale_folders, temporary_folder


def test_variables_are_put_back(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("TUNE_RESULT_BUFFER_LENGTH", raising=False)
    with cluster.environment(TUNE_MAX_PENDING_TRIALS_PG="3"):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["TUNE_RESULT_BUFFER_LENGTH"] == "1"
        assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "3"
    assert "TUNE_MAX_PENDING_TRIALS_PG" not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    assert "TUNE_RESULT_BUFFER_LENGTH" not in os.environ


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


# The core worker is the real one; it only collects garbage where another thread may do so.
LEAVE = """
import gc
from pathlib import Path

import ray

from kdsweep.sweep.machine import check_machine

from kdsweep.sweep.ray import cluster


class Cycle:
    pass


class CollectingWorker:
    def __init__(self, worker):
        self._worker = worker

    def __getattr__(self, name):
        return getattr(self._worker, name)

    def shutdown_driver(self):
        self._worker.shutdown_driver()
        gc.collect()


with cluster.environment(), cluster.start(check_machine(Path(".")), dashboard=False):
    gc.disable()
    cycle = Cycle()
    cycle.itself, cycle.reference = cycle, ray.put(0)
    del cycle
    worker = ray._private.worker.global_worker
    worker.core_worker = CollectingWorker(worker.core_worker)
assert not gc.isenabled()
print("alive")
"""


def test_garbage_that_holds_references_does_not_end_the_process():
    done = subprocess.run(
        [sys.executable, "-c", LEAVE], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
