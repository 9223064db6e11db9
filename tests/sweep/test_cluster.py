"""Ray of our own: how its workers run, and leaving it."""

import os
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


NICENESS = """
import os
from pathlib import Path

import ray

from kdsweep.sweep.machine import check_machine
from kdsweep.sweep.ray import bridge, cluster

os.nice(2)
with bridge.environment(), cluster.start(check_machine(Path(".")), dashboard=False):
    print(os.nice(0), ray.get(ray.remote(lambda: os.nice(0)).remote()))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(("exported", "more"), [(None, 0), ("5", 5)])
def test_workers_are_as_nice_as_the_driver_or_as_the_user_says(exported, more):
    """Ray adds the variable to the niceness of its daemons, by default 15."""
    environment = {n: v for n, v in os.environ.items() if n != "RAY_worker_niceness"}
    if exported is not None:
        environment["RAY_worker_niceness"] = exported
    done = subprocess.run(
        [sys.executable, "-c", NICENESS],
        capture_output=True, text=True, timeout=240, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    driver, worker = map(int, done.stdout.split())
    assert (driver, worker) == (os.nice(0) + 2, os.nice(0) + 2 + more)
