"""Sending runs of Weights & Biases that were written to the disk, later."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment, TrialFolder, is_locked
from kdsweep.plain_text import counted
from kdsweep.tracking.account import has_account, server_url

_RUN = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")
_KNOCK_SECONDS = 15.0
_WANDB = [sys.executable, "-P", "-m", "wandb"]


@dataclass(frozen=True)
class Synced:
    """The folders of runs that :func:`sync_runs` sent, in order, and how many were sent before."""

    sent: tuple[Path, ...]
    num_before: int


def open_runs(path: Path) -> Path:
    """The folder of runs below an experiment, or below a training of its own.

    Raises:
        ExperimentError: There is no such experiment.
        KdsweepError: The experiment is running, and its runs are being written.
    """
    training = TrialFolder(path.expanduser())
    if training.job_yaml.is_file():
        return training.wandb
    experiment = Experiment.open(path)
    if is_locked(experiment.ledger):
        raise KdsweepError(
            f"{experiment.path}: this sweep is running\n"
            "  try:     the same command when it has ended; what it writes now is not complete"
        )
    return experiment.wandb


def sync_runs(
    folder: Path, say: Callable[[Path, int, int], None] | None = None, seconds: float = 300.0
) -> Synced:
    """Send the runs below a folder that are not at the server yet, in the order they were begun.

    A run that was interrupted lies in several folders; the server joins them. What was sent is
    marked as ``wandb sync`` marks it, and not sent again.

    Args:
        folder: The folder called ``wandb`` of an experiment or of a training.
        say: Told before each run its folder, its number from 1, and how many there are.
        seconds: How long sending one run may take.

    Raises:
        KdsweepError: There is no account, or the server does not take a run; those before it are
            sent.
    """
    runs = sorted(
        (path for path in folder.glob("*run-*") if path.is_dir() and _RUN.fullmatch(path.name)),
        key=_begun,
    )
    waiting = [path for path in runs if not _is_sent(path)]
    if not waiting:
        return Synced((), len(runs))
    here = (os.environ, Path.home(), Path.cwd())
    if not has_account(*here):
        raise KdsweepError(
            f"{counted(len(waiting), 'run')} to send, and no W&B account is set up here\n"
            "  try:     wandb login, or set WANDB_API_KEY"
        )
    _knock(server_url(*here), len(waiting))
    for number, path in enumerate(waiting, start=1):
        if say is not None:
            say(path, number, len(waiting))
        problem = _send(path, folder, seconds)
        if problem is not None:
            raise KdsweepError(
                f"{path.name} could not be sent: {problem}\n"
                f"  there:   {number - 1} of {len(waiting)} runs were sent\n"
                "  try:     look at the network and the account (wandb login --verify), then the "
                "same command again; it goes on where it stopped"
            )
    return Synced(tuple(waiting), len(runs) - len(waiting))


def _knock(url: str, num_waiting: int) -> None:
    """Raise a KdsweepError unless something answers there; ``wandb sync`` would try for ever."""
    try:
        urllib.request.urlopen(url, timeout=_KNOCK_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()  # an answer, whatever it says of a page that nobody wants
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise KdsweepError(
            f"{counted(num_waiting, 'run')} to send, and {url} does not answer: {reason}\n"
            "  try:     the same command again where there is a network"
        ) from None


def _begun(path: Path) -> tuple[str, bool, str]:
    """When a run was begun; of two parts begun in one second the offline one is the later."""
    found = _RUN.fullmatch(path.name)
    assert found is not None
    return found.group(1), path.name.startswith("offline-"), found.group(2)


def _is_sent(path: Path) -> bool:
    files = list(path.glob("*.wandb"))
    return all(file.with_name(f"{file.name}.synced").exists() for file in files)


def _send(path: Path, folder: Path, seconds: float) -> str | None:
    """Send one run.

    Returns:
        What went wrong, if anything.
    """
    environ = {**os.environ, "WANDB_SILENT": "false"}
    # Of a run that this process may be part of, nothing must reach this one.
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_MODE", "WANDB_SERVICE"):
        environ.pop(name, None)
    # Its logs go beside those of the runs, not into the working folder.
    environ["WANDB_DIR"] = str(folder.absolute().parent)
    environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        done = subprocess.run(
            [*_WANDB, "sync", "--include-online", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the server has not taken it within {seconds:.0f} s"
    if _is_sent(path):
        return None
    return _last_words(done.stdout) or f"wandb sync ended with exit code {done.returncode}"


def _last_words(text: str) -> str:
    """The error in what wandb printed, or else its last line."""
    lines = [line.removeprefix("wandb: ").strip() for line in text.splitlines()]
    errors = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")]
    return (errors or [line for line in lines if line] or [""])[-1]
