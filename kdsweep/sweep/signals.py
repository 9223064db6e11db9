"""SIGINT, SIGTERM and SIGHUP: the first asks the sweep to pause, a second SIGINT ends it at once.

SIGHUP comes when a terminal is closed or its connection drops. Where it is ignored already
(``nohup``), the sweep goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMES = {signal.SIGINT: "sigint", signal.SIGTERM: "sigterm", signal.SIGHUP: "sighup"}


class Interruption:
    """Remembers which signal came first.

    Outside of the main thread Python cannot handle signals; then nothing is ever remembered, and
    the program around it decides what a signal does.

    Attributes:
        reason: ``sigint``, ``sigterm`` or ``sighup``, or what :meth:`leave` was told; ``None``
            before that.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: dict[int, Any] = {}

    def leave(self, reason: str) -> None:
        """Pause the sweep for another reason than a signal."""
        self.reason = self.reason or reason

    def install(self) -> None:
        """Take over the signals; again, if something else has done so since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def uninstall(self) -> None:
        """Give the signals back to who had them before."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before if before is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason is not None:
            # Workers end with this process; the ledger is whole after every line.
            os._exit(130)
        self.reason = self.reason or _NAMES[signal.Signals(number)]


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold signals back from this thread, and for good from the processes that it starts.

    Ray's daemons must outlive a signal to the whole process group (from ``timeout``, systemd or
    SLURM): without them, the driver could not end its trials in order.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
