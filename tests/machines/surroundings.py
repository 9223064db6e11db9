"""Surroundings for a command: namespaces, limits, other users, variables.

A wrapper is a list of words that goes before a command, as ``nice -n 5`` does.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FAKE = [sys.executable, str(HERE / "cli_with_fake_trials.py")]
REAL = [sys.executable, "-m", "kdsweep"]
USER = 12345  # nobody's number: no name, no home folder

SPACE = """
name: tiny
data: {source: roadscenes, image_size: [32, 48], scenes: 8}
teacher: {encoder: resnet18, options: {decoder_channels: [16, 8, 8, 4, 4]}}
student: {encoder: resnet18, options: {decoder_channels: [16, 8, 8, 4, 4]}}
distill: {pixel_kl: {weight: {min: 0.5, max: 2}}}
train: {epochs: 1, batch_size: 4}
sweep: {trials: 1, controls: shared}
tracking: {wandb: {mode: "off"}}
"""
# The made-up trials read other options.
FAKE_SPACE = SPACE.replace(", options: {decoder_channels: [16, 8, 8, 4, 4]}", "")


@dataclass
class Done:
    """How a command ended.

    Attributes:
        code: Its exit code.
        out: What it printed.
        err: What it printed to standard error.
        seconds: How long it took.
    """

    code: int
    out: str
    err: str
    seconds: float


def environment(**changes):
    """This process's variables with some changed; ``None`` takes one away."""
    found = {**os.environ, "PYTHONPATH": python_path()}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "KDSWEEP_CACHE"):
        found.pop(name, None)
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = str(value)
    return found


def python_path():
    """Where workers find the made-up trials, and whatever this process has found."""
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(HERE.parent / "sweep"), given]))


def start(command, folder, wrapper=(), **changes):
    """Start a command in surroundings, with its output in pipes."""
    return subprocess.Popen(
        [*wrapper, *map(str, command)],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=200):
    """Wait for a command; it is ended with all of its processes if it takes too long."""
    began = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        raise AssertionError(f"not done after {timeout} s\n{out}\n{err}") from None
    return Done(process.returncode, out, err, time.monotonic() - began)


def run(command, folder, wrapper=(), timeout=200, **changes):
    """Run a command in surroundings to its end."""
    return finish(start(command, folder, wrapper, **changes), timeout)


def write_space(folder, text=FAKE_SPACE):
    """A space with one trial and its control, one epoch each."""
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def namespace(setup, *kinds):
    """A wrapper: new namespaces (``--uts``, ``--net``, …), prepared by a shell."""
    return ["unshare", *kinds, "sh", "-ec", f'{setup}\nexec "$@"', "sh"]


def as_nobody(*limits):
    """A wrapper: a user without name and home folder, who can write nothing but what all can.

    Limits are options of ``prlimit``. The one right that is left is to read everything: the
    interpreter and this checkout may lie in folders that only root may enter.
    """
    read = "+dac_read_search"
    rights = [
        f"--inh-caps=-all,{read}",
        f"--ambient-caps=-all,{read}",
        "--bounding-set=-all," + read,
    ]
    user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", *rights]
    return ["prlimit", *limits, *user]
