"""Ray's own start, with a limit, in a thread that a signal can leave behind.

``ray.init`` tries for minutes where something is missing, in C++ code that no signal reaches. So it
runs in a thread, and the main thread waits. That thread also decides for how long Ray lives: the
system ends Ray's daemons with the thread that has started them, so that a killed driver leaves
none behind.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from kdsweep.errors import MachineError
from kdsweep.sweep.ray import bridge
from kdsweep.sweep.signals import blocked

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 20.0
_LOG_LINES = 30


class StartInterruptedError(Exception):
    """A signal came while Ray was starting."""


class RayThread:
    """Starts Ray, or joins a cluster, and keeps alive the thread that did.

    Args:
        folder: Ray's temporary folder, by which its processes are known; ``None`` for a cluster.
        leave: Asked about twenty times a second whether to give up.
        seconds: How long the start may take.

    Attributes:
        log: File with everything that Ray has said, after a failure.
    """

    def __init__(self, folder: Path | None, leave: Callable[[], bool], seconds: float) -> None:
        self.log: Path | None = None
        self._folder = folder
        self._leave = leave
        self._seconds = seconds
        self._ended = threading.Event()
        self._left = threading.Event()
        self._context: Any = None
        self._error: BaseException | None = None

    def init(self, **options: Any) -> Any:
        """Call ``ray.init``, with all of its output kept from the terminal.

        Args:
            options: Arguments of ``ray.init``.

        Returns:
            What it returned.

        Raises:
            MachineError: Ray has failed, or not come up in time. The message names a file with
                everything that Ray has said.
            StartInterruptedError: ``leave`` said so.
        """
        thread = threading.Thread(target=self._run, args=[options], daemon=True, name="ray")
        with _redirected_errors() as log:
            deadline = time.monotonic() + self._seconds
            thread.start()
            while not self._ended.wait(_POLL_SECONDS):
                if self._leave():
                    # Ray holds Python's lock while it waits for its GCS to come up: were that
                    # killed now, nothing here could go on for two minutes.
                    if self._folder and self._ended.wait(_GRACE_SECONDS):
                        disconnect()
                    self.leave()
                    self._kill_processes()
                    raise StartInterruptedError
                if time.monotonic() > deadline:
                    break
            if self._context is not None:
                return self._context
            self.leave()
            if self._ended.is_set():
                problem = _first_line(self._error)
            else:
                problem = f"it has not come up in {self._seconds:.0f} s"
            # Before its processes end: their logs go with the folder.
            path = self.log = self._keep_log(log)
            self._kill_processes()
        raise MachineError(
            f"Ray could not be started: {problem}\n  log:     {path}"
            if self._folder
            else f"{problem}\n  log:     {path}"
        ) from self._error

    def leave(self) -> None:
        """Let the thread end, and with it whatever Ray has started and is still there."""
        self._left.set()

    def _run(self, options: dict[str, Any]) -> None:
        import ray

        with bridge.saying_nothing():
            try:
                # Ray's daemons must outlive a signal to the whole process group.
                with blocked():
                    self._context = ray.init(
                        log_to_driver=False, logging_level="CRITICAL", **options
                    )
            except BaseException as error:
                self._error = error
                with contextlib.suppress(Exception):
                    ray.shutdown()
            self._ended.set()
            if self._error is None:
                self._left.wait()

    def _keep_log(self, output: IO[bytes]) -> Path:
        """Write all that Ray has said to a file that outlives its temporary folder."""
        output.seek(0)
        parts = [output.read().decode(errors="replace")]
        if self._error is not None:
            parts.append("".join(traceback.format_exception(self._error)))
        for path in bridge.log_files(self._folder) if self._folder is not None else []:
            with contextlib.suppress(OSError):
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                if lines:
                    parts.append("\n".join([f"--- {path.name}", *lines[-_LOG_LINES:]]))
        descriptor, name = tempfile.mkstemp(prefix="kdsweep-ray-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(parts))
        return Path(name)

    def _kill_processes(self) -> None:
        """Kill what Ray has started so far; a cluster that others run stays."""
        if self._folder is not None:
            bridge.kill_processes(self._folder)


def disconnect() -> None:
    """Leave Ray without taking this process along.

    Tune leaves object references in cycles. If another thread's garbage collection frees one in the
    middle of `ray.shutdown`, Ray finds its core worker gone and ends the process (seen on 2.60).
    """
    import ray

    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if was_on:
            gc.enable()


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextlib.contextmanager
def _redirected_errors() -> Iterator[IO[bytes]]:
    """Send what is written to standard error, by C++ code too, to a file."""
    with tempfile.TemporaryFile() as file:
        try:
            before = os.dup(2)
        except OSError:  # it is closed
            yield file
            return
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(before, 2)
            os.close(before)
