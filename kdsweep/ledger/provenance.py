"""What a sweep ran with and on: code, versions, machine, command line. No secrets."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.layout import Experiment

PACKAGES = (
    "kdsweep",
    "torch",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "ray",
    "optuna",
    "wandb",
    "pandas",
    "pydantic",
    "ruamel.yaml",
)

_SECRET = re.compile(r"(?i)([\w.\-]*(?:key|token|secret|passw(?:or)?d|credential)[\w\-]*\s*[=:]).*")
_SECRET_FLAG = re.compile(r"(?i)^--?[\w.\-]*(?:key|token|secret|passw(?:or)?d|credential)[\w\-]*$")


def environment(command: Sequence[str], seeds: dict[str, int]) -> dict[str, Any]:
    """The contents of ``environment.json``.

    Args:
        command: The command line; values of arguments that look like secrets are masked.
        seeds: The seeds in use, by what they seed.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": mask_secrets(command),
        "seeds": seeds,
        "code": git_state(Path(__file__).resolve().parent),
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": installed_versions(PACKAGES),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "num_cpus": os.cpu_count(),
        "gpus": visible_gpus(),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def note_machines(experiment: Experiment, gpus: Mapping[str, Sequence[str]]) -> None:
    """Add machines, with their :func:`visible_gpus`, to ``environment.json``; those gone stay."""
    try:
        known = json.loads(experiment.environment_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nothing depends on it
        return
    machines = {**known.get("machines", {}), **{name: list(found) for name, found in gpus.items()}}
    if machines != known.get("machines", {}):
        write_json(experiment.environment_json, {**known, "machines": machines})


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the work tree that ``folder`` belongs to; ``None`` if there is none.

    A folder of installed packages below somebody's repository is none of its files.
    """
    if not _output("git", "-C", str(folder), "ls-files", "."):
        return None
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that are installed, without importing them."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def visible_gpus() -> list[str]:
    """Name, memory and driver of each GPU, as nvidia-smi tells them; empty without one."""
    query = "--query-gpu=name,memory.total,driver_version"
    text = _output("nvidia-smi", query, "--format=csv,noheader")
    return text.splitlines() if text else []


def mask_secrets(command: Sequence[str]) -> list[str]:
    """The arguments, with the value of each that looks like a secret replaced by ``***``."""
    masked: list[str] = []
    for argument in command:
        if masked and _SECRET_FLAG.match(masked[-1]):
            masked.append("***")
        else:
            masked.append(_SECRET.sub(r"\1***", argument))
    return masked


def _output(*command: str) -> str | None:
    """Return what a short command prints, or ``None`` if it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without an entry in /etc/passwd
        return None
