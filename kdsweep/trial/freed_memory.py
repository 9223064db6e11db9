"""What a training frees on a CPU stays with its process, for the next step.

The C library gives large pieces back to the system as soon as they are free, and a step frees
everything that it allocates. The next step then waits for the system to clear every page again:
about a sixth of the CPU seconds of a training. The peak stays the same.
"""

from __future__ import annotations

import ctypes
import os

import torch

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = -1
# The largest that glibc takes; its own thresholds move up to these as large pieces are freed.
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_DEFAULT_MMAP_MAX = 65536

_is_kept = False  # by this process


def keep_freed_memory(device: torch.device) -> None:
    """Keep what is freed from now on in this process, if it trains on a CPU.

    Nothing is changed where the environment sets how glibc allocates (``MALLOC_…_``,
    ``GLIBC_TUNABLES``), nor where the C library is another one.
    """
    if device.type != "cpu" or _is_set_by_user():
        return
    global _is_kept
    _is_kept = True
    # Without separate mappings all memory comes from the heap, which is never cut.
    _set({_TRIM_THRESHOLD: _NEVER, _MMAP_MAX: 0})


def return_freed_memory() -> None:
    """Give the system back what was kept, and free as usual from now on.

    For a process that does more than train.
    """
    global _is_kept
    if not _is_kept:
        return
    _is_kept = False
    _set(
        {
            _MMAP_MAX: _DEFAULT_MMAP_MAX,
            _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
            _TRIM_THRESHOLD: 2 * _LARGEST_MMAP_THRESHOLD,
        }
    )
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _is_set_by_user() -> bool:
    names = ("TRIM_THRESHOLD", "MMAP_THRESHOLD", "MMAP_MAX", "TOP_PAD")
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        f"MALLOC_{name}_" in os.environ for name in names
    )


def _set(values: dict[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in values.items():
            mallopt(parameter, value)
