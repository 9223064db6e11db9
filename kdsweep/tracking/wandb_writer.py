"""The process that talks to Weights & Biases on behalf of a sweep's driver.

A process of its own, because wandb in the driver would take its interpreter lock, its exit hooks
and, with a server that does not answer, its time. This one may be killed at any moment. It is
started by file name and imports nothing of kdsweep.

Reads one JSON object a line from its input: first the options, then ``{"do": "trial" | "epoch" |
"end" | "close", …}``; :mod:`kdsweep.tracking.wandb` writes them. Answers ``{"warn": text}`` lines.
When the input ends without a ``close``, the driver has died: open runs are closed as interrupted.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

FINISH_SECONDS = 20.0
# After the driver's death, what is still being sent may take this long.
ORPHAN_SECONDS = 60.0

# What wandb shows for a run: it calls a run with this exit code "killed".
EXIT_CODES = {"complete": 0, "stopped": 0, "failed": 1, "interrupted": 255}

Message = dict[str, Any]


class Writer:
    """Turns messages into wandb runs, one for each trial.

    Args:
        wandb: The wandb module.
        options: ``mode, project, entity, group, dir, id_prefix, init_seconds``.
        warn: Tells the user something.
    """

    def __init__(self, wandb: Any, options: Message, warn: Callable[[str], None]) -> None:
        self._wandb = wandb
        self._options = options
        self._warn = warn
        self._mode = options["mode"]
        # Each open run with the message that opened it.
        self._open: dict[int, tuple[Any, Message]] = {}
        self._best: dict[int, float] = {}

    def handle(self, message: Message) -> None:
        """Act on one message; a run that fails is given up, the others go on."""
        try:
            getattr(self, f"_{message['do']}")(message)
        except Exception as error:
            number = message["number"]
            self._open.pop(number, None)
            self._warn(f"{_said(error)}; the run of trial {number} is not complete")

    def close(self) -> None:
        """End all runs that are still open as interrupted."""
        for number in list(self._open):
            self.handle({"do": "end", "number": number, "state": "interrupted", "summary": {}})
        self._teardown()

    def _trial(self, message: Message) -> None:
        if message["number"] in self._open:
            return
        try:
            run = self._init(message)
        except Exception as error:
            if self._mode != "online":
                raise
            self._go_offline(error)
            run = self._init(message)
        self._open[message["number"]] = (run, message)

    def _go_offline(self, error: Exception) -> None:
        """The server does not answer: keep what there is, and write to the disk from now on."""
        self._mode = "offline"
        self._warn(
            f"{_said(error)}; what is not sent is kept in {self._options['dir']}/wandb, "
            "send it with: wandb sync"
        )
        # wandb's service holds on to the id of a run, also of one that could not be opened, until
        # it ends. Open runs go on under their id in a folder of their own; a sync joins the two.
        self._teardown()
        for number, (_, message) in list(self._open.items()):
            self._open[number] = (self._init(message), message)

    def _teardown(self) -> None:
        # It exits the interpreter when the service did not end well.
        with contextlib.suppress(Exception, SystemExit):
            self._wandb.teardown(exit_code=EXIT_CODES["interrupted"])

    def _init(self, message: Message) -> Any:
        options = self._options
        run = self._wandb.init(
            mode=self._mode,
            project=options["project"],
            entity=options["entity"],
            group=options["group"],
            dir=options["dir"],
            id=f"{options['id_prefix']}-{message['number']:04d}",
            name=message["name"],
            job_type=message["kind"],
            config=message["job"],
            resume="allow",
            reinit="create_new",
            settings=self._settings(),
        )
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        return run

    def _settings(self) -> Any:
        """All that is not asked for turned off; older versions do not know all of it."""
        wanted = {
            "console": "off",
            "silent": True,
            "disable_code": True,
            "disable_git": True,
            "save_code": False,
            "x_disable_machine_info": True,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
            "init_timeout": self._options["init_seconds"],
            "finish_timeout": FINISH_SECONDS,
            "finish_timeout_raises": True,
        }
        known = self._wandb.Settings.model_fields
        return self._wandb.Settings(**{k: v for k, v in wanted.items() if k in known})

    def _epoch(self, message: Message) -> None:
        number, epoch = message["number"], message["epoch"]
        if number not in self._open:
            return
        run, _ = self._open[number]
        metrics = {k: v for k, v in message["metrics"].items() if v is not None}
        # With a step of one's own, wandb holds a row back until the next one comes unless told so.
        run.log({"epoch": epoch, **metrics}, step=epoch, commit=True)
        value = metrics.get("student/miou", math.nan)
        if value > self._best.get(number, -math.inf):
            self._best[number] = value
            run.summary.update({"best/student/miou": value, "best/epoch": epoch})

    def _end(self, message: Message) -> None:
        run, _ = self._open.pop(message["number"], (None, None))
        if run is None:
            return
        run.summary.update({**message["summary"], "state": message["state"]})
        try:
            run.finish(exit_code=EXIT_CODES.get(message["state"], 1))
        except TimeoutError as error:
            if self._mode == "online":
                self._go_offline(error)


def main() -> None:
    """Read messages until the input ends."""
    # Signals to the driver's group are the driver's business; this process ends with its input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    source, answers = _take_over_streams()
    messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    options = json.loads(source.readline() or "null")
    if options is None:
        return
    threading.Thread(target=_read, args=(source, messages), daemon=True).start()

    def warn(text: str) -> None:
        # A driver that is gone or has stopped listening needs no answer.
        with contextlib.suppress(OSError):
            answers.write(json.dumps({"warn": text}) + "\n")
            answers.flush()

    try:
        import wandb

        writer = Writer(wandb, options, warn)
    except Exception as error:
        warn(f"{_said(error)}; nothing is tracked")
        return
    while (message := messages.get()) is not None:
        writer.handle(message)
    writer.close()


def _take_over_streams() -> tuple[TextIO, TextIO]:
    """Keep the driver's streams to ourselves: what wandb and its processes print goes nowhere."""
    source = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return source, answers


def _read(source: TextIO, messages: queue.SimpleQueue[Message | None]) -> None:
    """Pass messages on as they come, so that the driver never waits for wandb."""
    for line in source:
        message = json.loads(line) if line.endswith("\n") else None
        if message is None or message["do"] == "close":
            break
        messages.put(message)
    messages.put(None)
    # Whatever wandb does, it does not outlive the driver for long. While the driver is there and
    # waits, its own deadline comes first.
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _said(error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


if __name__ == "__main__":
    main()
    sys.exit(0)
