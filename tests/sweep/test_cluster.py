"""Leaving Ray."""

import subprocess
import sys

import pytest

# The core worker is the real one; it only collects garbage where another thread may do so.
LEAVE = """
import gc
from pathlib import Path

import ray

from kdsweep.sweep.machine import check_machine
from kdsweep.sweep.ray import bridge, cluster


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


with bridge.environment(), cluster.start(check_machine(Path(".")), dashboard=False):
    gc.disable()
    cycle = Cycle()
    cycle.itself, cycle.reference = cycle, ray.put(0)
    del cycle
    worker = ray._private.worker.global_worker
    worker.core_worker = CollectingWorker(worker.core_worker)
assert not gc.isenabled()
print("alive")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_garbage_that_holds_references_does_not_end_the_process():
    done = subprocess.run(
        [sys.executable, "-c", LEAVE], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
