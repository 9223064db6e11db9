"""The process in which a tracker's writer lives.

A process of its own, because a tracker in the driver would take its interpreter lock, its exit
hooks and, with a server that does not answer, its time. This one may be killed at any moment.

Reads one JSON object a line from its input: first the writer's name and options, then ``{"do":
"trial" | "epoch" | "end" | "summary" | "close", …}``; :mod:`kdsweep.tracking.sidecar` writes them.
Answers ``{"warn": text}`` and what the writer tells, a line each. When the input ends without a
``close``, the driver has died: open runs are closed as interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from kdsweep.registry import named
from kdsweep.tracking.base import Host, RunWriter, SweepSummary, TrialDetails

# After the driver's death, what is still being sent may take this long.
ORPHAN_SECONDS = 60.0

Message = dict[str, Any]


class Answers:
    """The driver's ear, and its patience (a :class:`~kdsweep.tracking.base.Host`), on a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.end: float | None = None  # monotonic time at which the driver waits no longer

    def warn(self, text: str) -> None:
        """Tell the user something."""
        self.tell("warn", text)

    def tell(self, key: str, value: Any) -> None:
        """Send a value to the driver."""
        # A driver that is gone or has stopped listening needs no answer.
        with contextlib.suppress(OSError):
            self._stream.write(json.dumps({key: value}) + "\n")
            self._stream.flush()

    def seconds(self, wanted: float) -> float:
        """Return the part of the wanted time that there is now."""
        if self.end is None:
            return wanted
        # A third: what could not be sent has to be written to the disk after that.
        return min(wanted, max(1.0, (self.end - time.monotonic()) / 3))


class Runs:
    """Turns messages into calls of a writer; a run that fails is given up, the others go on."""

    def __init__(self, writer: RunWriter, host: Answers) -> None:
        self._writer = writer
        self._host = host
        self._open: set[int] = set()

    def handle(self, message: Message) -> None:
        """Act on one message."""
        try:
            getattr(self, f"_{message.pop('do')}")(**message)
        except Exception as error:
            whose = "the sweep"
            if "number" in message:
                self._open.discard(message["number"])
                self._writer.forget(message["number"])
                whose = f"trial {message['number']}"
            self._host.warn(f"{said(error)}; the run of {whose} is not complete")

    def close(self) -> None:
        """End all runs that are still open as interrupted."""
        for number in sorted(self._open):
            self.handle({"do": "end", "number": number, "state": "interrupted", "summary": {}})
        try:
            self._writer.close()
        except Exception as error:
            self._host.warn(said(error))

    def _trial(self, number: int, **about: Any) -> None:
        if number not in self._open:
            self._writer.trial(number, **about)
            self._open.add(number)

    def _epoch(self, number: int, epoch: int, metrics: dict[str, float | None]) -> None:
        if number in self._open:
            numbers = {key: value for key, value in metrics.items() if value is not None}
            self._writer.epoch(number, epoch, numbers)

    def _alert(self, number: int, text: str) -> None:
        if number in self._open:
            # No alert is worth a run.
            with contextlib.suppress(Exception):
                self._writer.alert(number, text)

    def _end(
        self, number: int, state: str, summary: Message, details: Message | None = None
    ) -> None:
        if number in self._open:
            self._open.discard(number)
            shown = None if details is None else _details(**details)
            self._writer.trial_end(number, state, summary, shown)

    def _summary(self, name: str, summary: Message) -> None:
        page = summary["page"] and Path(summary["page"])
        self._writer.summary(name, SweepSummary(**{**summary, "page": page}))


def _details(frames: Message, **about: Any) -> TrialDetails:
    paths = {
        int(frame): {what: Path(path) for what, path in files.items()}
        for frame, files in frames.items()
    }
    return TrialDetails(frames=paths, **about)


def said(error: Exception) -> str:
    """Return an error's type and the first line of its text."""
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def in_time(action: Callable[[], Any], seconds: float, host: Host) -> Any:
    """Return what an action returns, if it does so in time.

    Args:
        action: What may wait for a server.
        seconds: How long it may take, where the driver does not wait itself.
        host: Knows whether the driver waits.

    Raises:
        TimeoutError: It does not. Its thread is left behind.
    """
    results: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put((action(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    begin = time.monotonic()
    while True:
        try:
            result, error = results.get(timeout=0.1)
        except queue.Empty:
            waited = time.monotonic() - begin
            if waited < host.seconds(seconds):
                continue
            raise TimeoutError(f"the server has not answered within {waited:.0f} s") from None
        if error is not None:
            raise error
        return result


def main() -> None:
    """Read messages until the input ends."""
    # Signals to the driver's group are the driver's business; this process ends with its input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    source, answers = _take_over_streams()
    host = Answers(answers)
    messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    first = json.loads(source.readline() or "null")
    if first is None:
        return
    threading.Thread(target=_read, args=(source, messages, host), daemon=True).start()
    try:
        runs = Runs(named(first["writer"])(first["options"], host), host)
    except Exception as error:
        host.warn(f"{said(error)}; nothing is tracked")
        return
    while (message := messages.get()) is not None:
        runs.handle(message)
    runs.close()
    sys.exit(0)


def _take_over_streams() -> tuple[TextIO, TextIO]:
    """Keep the driver's streams to ourselves: what a tracker and its processes print is lost."""
    source = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return source, answers


def _read(source: TextIO, messages: queue.SimpleQueue[Message | None], host: Answers) -> None:
    """Pass messages on as they come, so that the driver never waits for a tracker."""
    for line in source:
        message = json.loads(line) if line.endswith("\n") else None
        if message is None or message["do"] == "close":
            if message is not None:
                host.end = time.monotonic() + message["seconds"]
            break
        messages.put(message)
    messages.put(None)
    # Whatever a tracker does, it does not outlive the driver for long. While the driver is there
    # and waits, its own deadline comes first.
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)
