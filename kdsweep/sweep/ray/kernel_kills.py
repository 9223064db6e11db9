"""Whether the kernel has ended a process because memory ran out: its victim cannot tell.

Linux counts such ends, those of containers with a limit of their own too. Only the driver's machine
is looked at: what the kernel of another one has ended counts as crashed.
"""

from __future__ import annotations

import time
from pathlib import Path

COUNTERS = Path("/proc/vmstat")
KILLED = "the machine's memory ran out, and its kernel ended the worker"
# From the end of a process to Ray's word of it, on a machine without memory.
_SECONDS = 30.0


class KernelKills:
    """Counts, in the kernel's file, the processes that it has ended for lack of memory."""

    def __init__(self, counters: Path = COUNTERS) -> None:
        self._counters = counters
        self._seen = self._read()
        self._recent: list[float] = []

    def look(self) -> None:
        """Take note of when the counter rose; called about once a second."""
        now, found = time.monotonic(), self._read()
        self._recent += [now] * (found - self._seen)
        self._recent = [then for then in self._recent if now - then < _SECONDS]
        self._seen = found

    def take(self) -> bool:
        """Return whether a process that has just died is one of them; each stands for one."""
        self.look()
        return bool(self._recent) and self._recent.pop() > 0

    def _read(self) -> int:
        try:
            lines = self._counters.read_text(encoding="ascii").splitlines()
        except OSError:  # not Linux
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
