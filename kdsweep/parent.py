"""Processes that end with the one that has started them (Linux only)."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(_number: int = 0) -> None:
    """Ask the system to kill this process when its parent dies, even one that is stopped.

    Args:
        _number: Of a process that loads data, which PyTorch tells.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
