"""What the tests of W&B share: a space, a job, and what wandb itself reads back."""

import json
import os
import subprocess
import sys
import time
import warnings

from kdsweep.config import load_space

KEY = "0123456789abcdef0123456789abcdef01234567"
JOB = {"name": "tiny", "teacher": None, "train": {"lr": 0.001, "epochs": 3}, "size": [96, 128]}


def use_home_without_account(monkeypatch, home):
    """Take away what this machine's user has of W&B, and give a home of one's own; returns it."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


def make_space(**wandb):
    return load_space(
        {
            "name": "tiny",
            "data": {"source": "roadscenes", "image_size": [32, 32]},
            "student": {"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
            "train": {"epochs": 3, "lr": {"min": 1.0e-4, "max": 0.1}},
            "tracking": {"wandb": wandb},
        }
    )


def read_run(folder):
    """What wandb itself reads from a run's file."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
    )
    read = {"run": None, "history": [], "summary": {}, "artifacts": [], "exit": None}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        if record["type"] == "run":
            read["run"] = record["run"]
        elif record["type"] == "history":
            read["history"].append(record["history"]["item"])
        elif record["type"] == "summary":
            read["summary"].update(record["summary"]["update"])
        elif record["type"] == "artifact":
            read["artifacts"].append(record["artifact"])
        elif record["type"] == "exit":
            read["exit"] = record["exit"].get("exit_code", 0)
    return read


def warnings_of(action):
    """The messages of all warnings that a function causes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in caught]


def wait_for(condition, seconds=30.0):
    """Wait until something is so; it is a failure if it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
