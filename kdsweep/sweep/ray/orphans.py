"""A small process beside a Ray of our own, which ends what a killed driver leaves (Linux only).

The system ends most of Ray's processes with the driver. Its agents first tell Ray of the end, and
wait for an answer of processes that are dead, for a minute. All of a Ray's processes are known by a
variable in their environment, which holds its temporary folder; no other process has it.

This file runs by itself, without kdsweep and Ray, so that it takes little memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "KDSWEEP_RAY"
# Ray's processes change their titles, and their library would wipe their environment for that.
_KEEP = "SPT_NOENV"
# One that waits for a disk cannot end before that answers.
_SECONDS = 30.0


def mark(folder: Path) -> dict[str, str]:
    """Return the variables that mark the processes of a Ray in a temporary folder."""
    return {MARK: str(folder), _KEEP: "1"}


@contextmanager
def ended_with_driver(folder: Path) -> Iterator[None]:
    """Let what has the mark of a Ray's folder end when this process does, or the context."""
    if sys.platform != "linux":
        yield
        return
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the driver's group must not end it
    )
    try:
        yield
    finally:
        watcher.communicate()


def end_processes(folder: str) -> int:
    """Kill the processes of the Ray in a temporary folder; return how many there were."""
    num_found = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if not process.name.isdigit():
                continue
            if f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
                num_found += 1
    return num_found


def _main() -> None:
    sys.stdin.buffer.read()  # it ends with the driver
    deadline = time.monotonic() + _SECONDS
    while end_processes(sys.argv[1]) and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    _main()
