"""Sweeps on several machines: nothing shared, some that come late, lack data, or are cut off."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

# A head that notices within seconds that a machine is gone.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def read(process: Any, until: str, seconds: float = 120.0) -> str:
    """Return what a process says up to a line with some words."""
    said, deadline = "", time.monotonic() + seconds
    for line in process.stdout:
        said += line
        if until in line:
            return said
        assert time.monotonic() < deadline, said
    raise AssertionError(said)


def events(experiments: Path) -> list[dict[str, Any]]:
    text = (experiments / "latest" / "ledger.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def trained(experiments: Path, trial: int) -> list[str]:
    path = experiments / "latest" / "trials" / f"{trial:04d}" / "trained.txt"
    return path.read_text().splitlines()


def the_worker(host: Any) -> int:
    for pid in host.pids():
        if b"ray::0000" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    raise AssertionError("nothing trains there")


def test_a_head_without_cpus_waits_for_a_machine_that_shares_nothing(
    host: Callable[..., Any], sweep: Callable[..., Any], experiments: Path
) -> None:
    head, worker = host(1), host(2, experiments)
    head.ray(cpus=0)
    process = sweep(head, head)
    said = read(process, "waiting up to 10 minutes for machines")
    worker.ray(head)
    rest, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said + rest
    assert "host-2 does not see the experiment's folder" in rest
    for trial in range(4):
        folder = experiments / "latest" / "trials" / f"{trial:04d}"
        assert "on host-2" in (folder / "log.txt").read_text()
        assert len(trained(experiments, trial)) == 4
    assert not list((experiments / "latest" / "trials").glob(".arriving*"))
    assert not list(experiments.glob(".kds-*"))


def test_machines_join_while_it_runs_and_one_without_the_data_gets_nothing(
    host: Callable[..., Any], sweep: Callable[..., Any], experiments: Path
) -> None:
    head, lacking, late = host(1), host(2, FAKE_NO_DATA="the data are not here"), host(3)
    head.ray(cpus=1)
    lacking.ray(head)
    options = {"options": {"seconds": 1.0}}
    process = sweep(head, head, teacher=options, sweep={"trials": 12})
    said = read(process, '"event": "epoch"')
    assert "host-2 gets no trials: the data are not here" in said
    late.ray(head)
    said += read(process, "host-3 joined; 2 trials at a time")
    rest, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said + rest
    logs = [p.read_text() for p in (experiments / "latest" / "trials").glob("*/log.txt")]
    hosts = {name for log in logs for name in ("host-1", "host-2", "host-3") if f"on {name}" in log}
    assert hosts == {"host-1", "host-3"}


def test_a_machine_whose_own_disk_gets_full_leaves_its_trials_to_others(
    host: Callable[..., Any], sweep: Callable[..., Any], experiments: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    head, full, other = host(1), host(2, experiments, own, TMPDIR=str(own)), host(3)
    head.ray(cpus=0)
    for worker in (full, other):
        worker.ray(head)
    options = {"options": {"seconds": 2.0}}
    process = sweep(head, head, teacher=options, sweep={"trials": 4})
    said = read(process, '"machine": "host-2"')
    fill = f"mount -o remount,size=1m {own}; head -c 2M /dev/zero > {own}/ballast"
    full.start("sh", "-c", fill).wait()
    rest, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said + rest
    assert "the disk is full: it gets no more trials" in rest
    told = events(experiments)
    fails = {(e["machine"], e["class"], e["retry"]) for e in told if e["event"] == "fail"}
    assert fails == {("host-2", "lost", True)}
    for trial in range(4):
        epochs = [e["epoch"] for e in told if e["event"] == "epoch" and e["trial"] == trial]
        assert epochs == list(range(1, 5))
    last = {e["trial"]: e["machine"] for e in told if e["event"] == "placed"}
    assert set(last.values()) == {"host-3"}


def test_a_machine_that_is_cut_off_loses_its_trial_to_another(
    host: Callable[..., Any], sweep: Callable[..., Any], experiments: Path
) -> None:
    head, first, second = (host(number, **QUICK) for number in (1, 2, 3))
    head.ray(cpus=0)
    first.ray(head)
    options = {"options": {"seconds": 3.0}}
    process = sweep(head, head, teacher=options, sweep={"trials": 1}, train={"epochs": 14})
    said = read(process, '"epoch": 1, "value"')
    second.ray(head)
    first.cut_off()
    worker = the_worker(first)
    os.kill(worker, signal.SIGSTOP)  # in the middle of an epoch, whose end comes too late
    said += read(process, '"attempt": 2')
    log = experiments / "latest" / "trials" / "0000" / "log.txt"
    while "on host-3" not in log.read_text():  # the fence is up
        time.sleep(0.1)
    os.kill(worker, signal.SIGCONT)
    rest, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said + rest
    told = events(experiments)
    epochs = [e["epoch"] for e in told if e["event"] == "epoch"]
    assert sorted(set(epochs)) == epochs == list(range(1, 15))
    assert [e["machine"] for e in told if e["event"] == "placed"] == ["host-2", "host-3"]
    fails = [(e["machine"], e["class"]) for e in told if e["event"] == "fail"]
    assert fails == [("host-2", "lost")]
    assert "on host-2" in log.read_text()
    # It has found that out, or its own raylet has ended it meanwhile.
    told_itself = "has taken over this trial" in log.read_text()
    assert told_itself or not Path(f"/proc/{worker}").exists()
