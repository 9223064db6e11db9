"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_run import Done, Run

# Set before anything imports them: no version check over the network, no usage reports.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("WANDB_MODE", "offline")
# Tensors are tiny here: threads would wait for each other, above all those of several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Under nohup, or in the background of a script, these are ignored, here and in what tests start.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Ledgers are on the disk line by line; those of thousands of sweeps need not outlive a crash.

    Processes that tests start do wait for it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def few_timed_runs() -> Iterator[None]:
    """Time networks a few times only, for tests that train and do not look at how long it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdsweep.models.inference_cost.MOST_RUNS", 3)
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames whose class is written in their colour."""
    from tiny_job import write_data

    return write_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def kdsweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs a command in an empty folder, in this process: importing torch anew takes seconds."""
    from kdsweep.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path | int) -> Done:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Done(0 if code is None else int(code), *capsys.readouterr())

    return run
