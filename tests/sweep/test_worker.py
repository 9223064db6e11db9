"""The worker: one trial after another in one process, without Ray around it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdsweep.errors import NonFiniteLossError
from kdsweep.ledger import TrialFolder
from kdsweep.sweep.ray import worker
from kdsweep.sweep.ray.worker import classify


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (NonFiniteLossError("nan"), "nan"),
        (RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly"), "crash"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (ValueError("x"), "error"),
        (SystemExit(3), "error"),
    ],
)
def test_failures_are_classified(error, expected):
    assert classify(error) == expected


def test_who_still_trains_a_trial_is_waited_for_but_not_for_ever(tmp_path, monkeypatch, caplog):
    folder = TrialFolder(tmp_path)
    monkeypatch.setattr(worker, "_LOCK_SECONDS", 0.3)
    with worker._alone_in(folder):
        before = time.monotonic()
        with worker._alone_in(folder):
            assert time.monotonic() - before >= 0.3
        assert "an older attempt is still there" in caplog.text
    caplog.clear()
    with worker._alone_in(folder):
        assert folder.lock.exists()
    assert not caplog.text


SCRIPT = """
import json, os, subprocess, sys
from pathlib import Path
import ray
ray.util.get_node_ip_address = lambda: "127.0.0.1"
from simulation import make_space
from kdsweep.sweep.ray.worker import KdsweepTrial

parent = Path(sys.argv[1])

def payload(number, **options):
    space = make_space(teacher={"encoder": "resnet34", "options": options}, train={"epochs": 2})
    job = space.jobs_to_check()[0].model_dump(mode="json")
    return {"payload": json.dumps({
        "kind": "trial", "runner": "fake_training", "cpus": 1, "gpus": 0, "device": "cpu",
        "title": f"{number:04d} a trial", "attempt": 1, "folders": [str(parent / str(number))],
        "cohort_dir": str(parent / str(number)), "trials": [number], "stop_signal": "",
        "fence": f"1-{number}", "heartbeat": f"heartbeat {number}", "way": None, "avoided": [],
        "jobs": [job], "metric": "student/miou", "score_test": False,
        "miou_over": "labelled"})}

def step(trial):
    result = json.loads(trial.step()["payload"])
    kind = next(k for k in ("niceness", "ready", "reports", "ended", "failed") if k in result)
    return kind, result.get("failed", {}).get("class")

task = {"payload": json.dumps({
    "kind": "preflight", "runner": "fake_training", "cpus": 1, "gpus": 0, "title": "w",
    "heartbeat": "heartbeat w", "jobs": [],
    "measure": None, "students": [], "num_heads": 1, "teachers": None})}
seen = []
trial = KdsweepTrial(task)
seen += [step(trial), step(trial)]
assert trial.reset_config(payload(0))
seen += [step(trial), step(trial), step(trial)]
subprocess.run(["echo", "from a child"], check=True)
assert trial.reset_config(payload(1, behave="oom", at=1))
seen.append(step(trial))
assert trial.reset_config(payload(2))
seen.append(step(trial))
trial.cleanup()
os.write(1, b"back on standard output\\n")
print(json.dumps(seen))
print(len(os.listdir("/proc/self/fd")))
for number in range(3, 40):
    trial.reset_config(payload(number))
    step(trial)
trial.cleanup()
print(len(os.listdir("/proc/self/fd")))
"""


def test_a_worker_serves_many_trials_each_with_its_own_log_and_leaves_nothing_behind(tmp_path):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "back on standard output"
    assert json.loads(lines[1]) == [
        ["niceness", None],
        ["ready", None],
        ["reports", None],
        ["reports", None],
        ["ended", None],
        ["failed", "oom"],
        ["reports", None],
    ]
    assert lines[2] == lines[3], "file descriptors leak"
    log = (tmp_path / "0" / "log.txt").read_text()
    assert log.startswith("--- 0000 a trial, attempt 1: ")
    assert log.splitlines()[2:] == ["epoch 1 begins", "epoch 2 begins", "from a child"]
    failed = (tmp_path / "1" / "log.txt").read_text()
    assert "MemoryError: no memory left" in failed
    assert "epoch 2" not in (tmp_path / "2" / "log.txt").read_text()
