"""What makes a tracker harmless to a sweep: a queue, a thread, and a process that may fail.

All of a tracker's own work happens in another process (:mod:`kdsweep.tracking.process`): here, an
epoch costs the driver one entry in a queue, and a server that is slow, down or refuses costs it
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import override

from kdsweep.tracking.base import SweepSummary, Tracker, TrialDetails

# The same kdsweep as here, wherever it lies, and no other folder put before the others.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import kdsweep; del sys.path[0]; "
    "from kdsweep.tracking.process import main; main()"
)


class Sidecar(Tracker):
    """A tracker whose work is done by another process.

    Args:
        title: Name of the tracker for messages.
        writer: Its :class:`~kdsweep.tracking.base.RunWriter`, as ``module:Class``.
        options: What the writer is built with; must hold ``group``.
        left: What becomes of messages that are left when time is up, in words.
        kill: Whether the process is killed then. It is left to itself otherwise: it has all
            messages, and ends soon after its input.
        environ: Environment of the process; this one's if left out.
        warn: Tells the user what went wrong; a Python warning if left out.
        close_seconds: How long :meth:`close` may take.
        queue_size: Messages kept while the process is behind; more are dropped.
    """

    def __init__(
        self,
        title: str,
        writer: str,
        options: Mapping[str, Any],
        *,
        left: str = "it goes on by itself, for a minute at most",
        kill: bool = False,
        environ: Mapping[str, str] | None = None,
        warn: Callable[[str], None] | None = None,
        close_seconds: float = 20.0,
        queue_size: int = 10_000,
    ) -> None:
        self._title = title
        self._writer = writer
        self._options = dict(options)
        self._left = left
        self._kill = kill
        self._environ = environ
        self._warn = warn or _python_warning
        self._close_seconds = close_seconds
        self._last_message: dict[str, Any] = {"do": "close", "seconds": close_seconds}
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue(queue_size)
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._problem: str | None = None
        self._warned = False
        self._closed = False

    @property
    @override
    def is_active(self) -> bool:
        return not self._closed

    @override
    def trial(
        self,
        number: int,
        label: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        name = f"{number:04d} {label}"
        job, params = dict(job), dict(params or {})
        self._put(do="trial", number=number, name=name, job=job, kind=kind, params=params)

    @override
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        self._put(do="epoch", number=number, epoch=epoch, metrics=dict(metrics))

    @override
    def alert(self, number: int, text: str) -> None:
        self._put(do="alert", number=number, text=text)

    @override
    def trial_end(
        self,
        number: int,
        state: str,
        summary: Mapping[str, Any] | None = None,
        details: TrialDetails | None = None,
    ) -> None:
        shown = None if details is None else asdict(details)
        self._put(do="end", number=number, state=state, summary=dict(summary or {}), details=shown)

    @override
    def summary(self, summary: SweepSummary) -> None:
        self._put(do="summary", name=self._options["group"], summary=asdict(summary))

    def warn(self, text: str) -> None:
        """Tell the user something about this tracker."""
        self._warn(f"{self._title}: {text}")

    def close(self) -> None:
        """Wait until everything is written or sent, but not for ever."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            deadline = time.monotonic() + self._close_seconds
            with contextlib.suppress(queue.Full):
                self._queue.put(self._last_message, timeout=self._close_seconds)
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._fail(f"not done after {self._close_seconds:.0f} s, {self._left}")
                if self._kill and self._process is not None:
                    self._process.kill()
                    self._thread.join(1.0)
        self._show_problem()

    def _begin(self) -> None:
        """Called in the thread, before the process is started."""

    def _answered(self, answer: Mapping[str, Any]) -> None:
        """Called in a thread with what the writer tells."""

    def _put(self, **message: Any) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="kdsweep-track", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._fail(f"more than {self._queue.maxsize} messages behind; some are dropped")
        self._show_problem()

    def _write(self) -> None:
        """The thread: start the process, feed it, and wait for its end."""
        self._begin()
        try:
            process = self._process = _start(self._environ)
        except OSError as error:
            self._fail(f"could not be started ({error}); nothing is tracked")
            self._discard()
            return
        assert process.stdin is not None
        answers = threading.Thread(target=self._listen, args=(process,), daemon=True)
        answers.start()
        message: dict[str, Any] = {"writer": self._writer, "options": self._options}
        try:
            while True:
                process.stdin.write(json.dumps(message, default=str) + "\n")
                if message is self._last_message:
                    break
                if self._queue.empty():
                    process.stdin.flush()
                message = self._queue.get()
            process.stdin.close()
        except OSError:
            # The process has ended by itself; its last words, if any, come through its output.
            answers.join()
            self._fail("its process ended; nothing more is tracked")
            if message is not self._last_message:
                self._discard()
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
            answers.join()
            process.wait()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Take in what the process has to say until it ends."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                answer = json.loads(line)
                if "warn" in answer:
                    self._fail(answer["warn"])
                else:
                    self._answered(answer)

    def _discard(self) -> None:
        """Nobody listens any more: keep the queue empty until the end."""
        while self._queue.get() is not self._last_message:
            pass

    def _fail(self, problem: str) -> None:
        """Remember the first problem; the driver's own thread will speak of it."""
        if self._problem is None:
            self._problem = problem

    def _show_problem(self) -> None:
        if self._problem is None or self._warned:
            return
        self._warned = True
        self.warn(f"{self._problem} (the sweep itself goes on)")


def _python_warning(text: str) -> None:
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=5)
    except RuntimeWarning:
        # Warnings are errors here, but a tracker never takes its sweep down.
        print(text, file=sys.stderr)


def _start(environ: Mapping[str, str] | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # -P: the working folder is not searched for the tracker's packages.
        [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=dict(os.environ if environ is None else environ),
        # Ctrl-C on the terminal and signals to the driver's group do not reach it.
        start_new_session=True,
    )
