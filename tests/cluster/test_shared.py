"""Sweeps on several machines: a folder that all see, an S3 store, and one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import NETWORK
from s3_server import s3_server
from test_hosts import QUICK, events, read

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_killed_machine_and_a_store_that_stands_still_lose_nothing(
    host: Callable[..., Any], sweep: Callable[..., Any], experiments: Path, tmp_path: Path
) -> None:
    with s3_server(f"{NETWORK}.1") as store:
        head, killed, other = (host(number, **QUICK, **store.env) for number in (1, 2, 3))
        head.ray(cpus=0)
        killed.ray(head)
        other.ray(head)
        options = {"options": {"seconds": 1.0}}
        process = sweep(
            head, head, teacher=options, train={"epochs": 6}, arguments=[f'storage="{store.uri}"']
        )
        said = read(process, '"epoch": 2, "value"')
        os.kill(store.process.pid, signal.SIGSTOP)
        killed.cut_off()  # all at once, as by a power cut
        killed.close()
        time.sleep(10)
        os.kill(store.process.pid, signal.SIGCONT)
        rest, _ = process.communicate(timeout=250)
        assert process.returncode == 0, said + rest
        told = events(experiments)
        epochs = [(e["trial"], e["epoch"]) for e in told if e["event"] == "epoch"]
        assert sorted(epochs) == [(trial, epoch) for trial in range(4) for epoch in range(1, 7)]
        assert {(e["machine"], e["class"]) for e in told if e["event"] == "fail"} == {
            ("host-2", "lost")
        }
        # The machine is gone, and what it had made is here.
        trained = [
            (experiments / "latest" / "trials" / f"{trial:04d}" / "trained.txt").read_text()
            for trial in range(4)
        ]
        assert all(len(lines.splitlines()) in (6, 7) for lines in trained)
        name = (experiments / "latest").resolve().name
        reader = "import sys, kdsweep; print(len(kdsweep.load(sys.argv[1]).trials))"
        seen = subprocess.run(
            [sys.executable, "-c", reader, f"{store.uri}/{name}"],
            env={**os.environ, **store.env, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert seen.stdout.strip().endswith("4"), seen.stdout + seen.stderr


def test_a_machine_with_another_version_gets_nothing(
    host: Callable[..., Any], sweep: Callable[..., Any], experiments: Path, tmp_path: Path
) -> None:
    other_version = tmp_path / "timm-0.0.1.dist-info"
    other_version.mkdir()
    (other_version / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    head, odd = host(1), host(2)
    odd.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), odd.env["PYTHONPATH"]])
    head.ray(cpus=1)
    odd.ray(head)
    process = sweep(head, head)
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    assert "host-2 gets no trials: timm 0.0.1, not " in said
    logs = [p.read_text() for p in (experiments / "latest" / "trials").glob("*/log.txt")]
    assert len(logs) == 4
    assert not any("on host-2" in log for log in logs)
