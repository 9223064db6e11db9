"""The process that talks to Weights & Biases on behalf of a sweep's driver.

A process of its own, because wandb in the driver would take its interpreter lock, its exit hooks
and, with a server that does not answer, its time. This one may be killed at any moment. It is
started by file name and imports nothing of kdsweep.

Reads one JSON object a line from its input: first the options, then ``{"do": "trial" | "epoch" |
"end" | "summary" | "close", …}``; :mod:`kdsweep.tracking.wandb` writes them. Answers
``{"warn": text}`` and, when it has created the W&B sweep, ``{"sweep": id}``, a line each.
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
from pathlib import Path
from typing import Any, TextIO

# The label of pixels that are in no class.
VOID = 255
FINISH_SECONDS = 20.0
# Tables and pictures ask the server for permission first.
SHOW_SECONDS = 10.0
# For the end of wandb's own process.
TEARDOWN_SECONDS = 3.0
# After the driver's death, what is still being sent may take this long.
ORPHAN_SECONDS = 60.0

# What wandb shows for a run: it calls a run with this exit code "killed".
EXIT_CODES = {"complete": 0, "stopped": 0, "failed": 1, "interrupted": 255}

Message = dict[str, Any]


class Patience:
    """How long a server is waited for: less when the driver itself waits for the end.

    Attributes:
        end: Monotonic time at which the driver waits no longer.
    """

    end: float | None = None

    def seconds(self, wanted: float) -> float:
        """The part of the wanted time that there is now."""
        if self.end is None:
            return wanted
        # A third: what could not be sent has to be written to the disk after that.
        return min(wanted, max(1.0, (self.end - time.monotonic()) / 3))


class Writer:
    """Turns messages into wandb runs, one for each trial.

    Args:
        wandb: The wandb module.
        options: ``mode, project, entity, group, dir, id_prefix, init_seconds, agent``, and of the
            W&B sweep its configuration ``sweep``, its ``sweep_id`` if that is known, and
            ``sweep_begun``: whether an earlier process may have created it.
        answer: Takes what the driver is told.
        patience: How long to wait for the server.
    """

    def __init__(
        self,
        wandb: Any,
        options: Message,
        answer: Callable[[Message], None],
        patience: Patience,
    ) -> None:
        self._wandb = wandb
        self._options = options
        self._answer = answer
        self._patience = patience
        self._mode = options["mode"]
        self._sweep_id: str | None = options.get("sweep_id")
        # Each open run with the message that opened it.
        self._open: dict[int, tuple[Any, Message]] = {}
        self._best: dict[int, float] = {}

    def handle(self, message: Message) -> None:
        """Act on one message; a run that fails is given up, the others go on."""
        try:
            getattr(self, f"_{message['do']}")(message)
        except Exception as error:
            whose = "the sweep"
            if "number" in message:
                self._open.pop(message["number"], None)
                whose = f"trial {message['number']}"
            self._warn(f"{_said(error)}; the run of {whose} is not complete")

    def close(self) -> None:
        """End all runs that are still open as interrupted."""
        for number in list(self._open):
            self.handle({"do": "end", "number": number, "state": "interrupted", "summary": {}})
        self._teardown()

    # -- messages --------------------------------------------------------------------------------

    def _trial(self, message: Message) -> None:
        if message["number"] not in self._open:
            self._open[message["number"]] = (self._start(message), message)

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
        run, opened = self._open.pop(message["number"], (None, {}))
        if run is None:
            return
        details = message.get("details")
        if details is not None:
            run = self._show(run, opened, lambda to: self._log_details(to, details))
        run.summary.update({**message["summary"], "state": message["state"]})
        self._finish(run, EXIT_CODES.get(message["state"], 1))

    def _summary(self, message: Message) -> None:
        run = self._start(message)
        run = self._show(run, message, lambda to: self._log_tables(to, message))
        run.summary.update(message["facts"])
        self._finish(run, 0)

    # -- runs ------------------------------------------------------------------------------------

    def _start(self, message: Message) -> Any:
        """A new run; on the disk if the server does not answer."""
        try:
            self._create_sweep()
            return self._in_time(lambda: self._init(message), self._options["init_seconds"] + 5.0)
        except Exception as error:
            if self._mode != "online":
                raise
            self._go_offline(error)
            return self._init(message)

    def _create_sweep(self) -> None:
        """Create the W&B sweep before its first run, once."""
        config, self._options["sweep"] = self._options.get("sweep"), None
        if config is None or self._sweep_id is not None or self._mode != "online":
            return
        place = {"project": self._options["project"], "entity": self._options["entity"]}
        errors = self._wandb.errors

        def find_or_create() -> str:
            found = self._find_sweep(config["name"]) if self._options["sweep_begun"] else None
            return found or self._wandb.sweep(config, **place)

        try:
            self._sweep_id = self._in_time(find_or_create, self._options["init_seconds"])
        except (errors.AuthenticationError, errors.UsageError, TimeoutError):
            raise  # no server, or no account: runs have no better chance
        except Exception as error:
            self._warn(f"{_said(error)}; runs are sent, but belong to no sweep")
            return
        self._answer({"sweep": self._sweep_id})

    def _find_sweep(self, name: str) -> str | None:
        """The id of the sweep that was created under a name.

        Raises:
            LookupError: The server could not be asked, so nobody knows.
        """
        errors = self._wandb.errors
        options = self._options
        try:
            project = self._wandb.Api().project(options["project"], options["entity"])
            listed = project.sweeps(per_page=100)
            # The items of this list ask the server once more for each sweep; the page that they
            # are made of says enough.
            listed.convert_objects = lambda: _listed_sweeps(listed.last_response)
            return next((sweep.name for sweep in listed if _name_in(sweep.config) == name), None)
        except (errors.AuthenticationError, errors.UsageError):
            raise
        except Exception as error:
            raise LookupError(
                "an earlier session may have created the W&B sweep, and it cannot be looked up: "
                + _said(error)
            ) from error

    def _init(self, message: Message) -> Any:
        options = self._options
        number = message.get("number")
        own: Message = {
            "project": options["project"],
            "entity": options["entity"],
            "group": options["group"],
            "job_type": message["kind"],
            "id": f"{options['id_prefix']}-{'sweep' if number is None else f'{number:04d}'}",
            "resume": "allow",
        }
        if options["agent"]:
            # The agent's environment says which run of which sweep this is.
            own = {}
        run = self._wandb.init(
            mode=self._mode,
            dir=options["dir"],
            name=message["name"],
            config=message["job"],
            reinit="create_new",
            settings=self._settings(None if number is None else self._sweep_id),
            **own,
        )
        run.define_metric("epoch")
        if number is not None:
            run.define_metric("*", step_metric="epoch")
        return run

    def _settings(self, sweep_id: str | None) -> Any:
        """All that is not asked for turned off; older versions do not know all of it."""
        wanted: Message = {
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
        if sweep_id is not None:
            wanted["sweep_id"] = sweep_id
        known = self._wandb.Settings.model_fields
        return self._wandb.Settings(**{k: v for k, v in wanted.items() if k in known})

    def _finish(self, run: Any, exit_code: int) -> None:
        try:
            self._in_time(lambda: run.finish(exit_code=exit_code), FINISH_SECONDS + 1.0)
        except TimeoutError as error:
            if self._mode == "online":
                self._go_offline(error)
            return
        if self._mode == "online":
            mark_sent(run)

    def _go_offline(self, error: Exception) -> None:
        """The server does not answer: keep what there is, and write to the disk from now on."""
        self._mode = "offline"
        self._warn(
            f"{_said(error)}; what is not sent is kept on the disk, "
            f"send it with: kdsweep wandb sync {self._options['dir']}"
        )
        # wandb's service holds on to the id of a run, also of one that could not be opened, until
        # it ends. Open runs go on under their id in a folder of their own; a sync joins the two.
        self._teardown()
        for number, (_, message) in list(self._open.items()):
            self._open[number] = (self._init(message), message)

    def _teardown(self) -> None:
        """End wandb's own process, or leave it behind.

        It waits for the server as long as it takes, and has rows in its memory that are not in its
        file yet. It writes them when it finds this process gone, and then it goes too.
        """

        def work() -> None:
            # It exits the interpreter when the process did not end well.
            with contextlib.suppress(Exception, SystemExit):
                self._wandb.teardown(exit_code=EXIT_CODES["interrupted"])

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(TEARDOWN_SECONDS)

    # -- tables and pictures ---------------------------------------------------------------------

    def _show(self, run: Any, opened: Message, log: Callable[[Any], None]) -> Any:
        """Log tables or pictures, which ask the server, without waiting for it for ever.

        Returns:
            The run to go on with: another one if the server did not answer.
        """
        try:
            self._in_time(lambda: log(run), SHOW_SECONDS)
        except TimeoutError as error:
            if self._mode != "online":
                raise
            self._go_offline(error)
            run = self._init(opened)
            log(run)
        except Exception as error:
            self._warn(f"{_said(error)}; tables and pictures of the run {opened['name']} are lost")
        return run

    def _log_details(self, run: Any, details: Message) -> None:
        row: Message = {}
        ious = details["ious"]
        if ious and details["classes"]:
            networks = list(ious)
            columns = [list(details["classes"]), *(ious[network] for network in networks)]
            rows = [list(cells) for cells in zip(*columns, strict=True)]
            row["classes"] = self._wandb.Table(columns=["class", *networks], data=rows)
        pictures = [
            self._picture(frame, files, details)
            for frame, files in details["frames"].items()
            if "image" in files
        ]
        if pictures:
            row["samples"] = pictures
        if row:
            # Behind the last epoch: a step that was sent cannot be added to.
            run.log({"epoch": details["epochs"], **row}, step=details["epochs"] + 1, commit=True)

    def _picture(self, frame: str, files: dict[str, str], details: Message) -> Any:
        import numpy as np
        from PIL import Image

        labels = {**dict(enumerate(details["classes"])), VOID: "void"}
        masks = {
            what: {"mask_data": np.asarray(Image.open(path)), "class_labels": labels}
            for what, path in files.items()
            if what != "image"
        }
        caption = f"frame {frame}, epoch {details['best_epoch']}"
        return self._wandb.Image(files["image"], masks=masks or None, caption=caption)

    def _log_tables(self, run: Any, message: Message) -> None:
        tables = {
            # Cells of a column may be of several kinds: a range may hold numbers and texts.
            name: self._wandb.Table(**table, allow_mixed_types=True)
            for name, table in message["tables"].items()
        }
        if tables:
            run.log(tables, step=message["session"], commit=True)
        if message["page"] is not None:
            page = self._wandb.Artifact(f"{self._options['id_prefix']}-report", type="report")
            page.add_file(message["page"])
            run.log_artifact(page)

    # -- help ------------------------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        self._answer({"warn": text})

    def _in_time(self, action: Callable[[], Any], seconds: float) -> Any:
        """What an action returns, if it does so in time.

        Offline there is nothing to wait for, so it is simply done.

        Raises:
            TimeoutError: It does not. Its thread is left behind.
        """
        if self._mode != "online":
            return action()
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
                if waited < self._patience.seconds(seconds):
                    continue
                raise TimeoutError(f"the server has not answered within {waited:.0f} s") from None
            if error is not None:
                raise error
            return result


def _listed_sweeps(page: Any) -> list[Any]:
    """The sweeps on one page of a list."""
    if page.project is None or page.project.sweeps is None:
        raise StopIteration  # a project without runs and sweeps does not exist yet
    return [edge.node for edge in page.project.sweeps.edges]


def _name_in(config: str) -> str | None:
    """The name in a sweep's configuration, which stays when a user renames the sweep."""
    from ruamel.yaml import YAML

    read = YAML(typ="safe").load(config)
    return read.get("name") if isinstance(read, dict) else None


def mark_sent(run: Any) -> None:
    """Note that all of a run is at the server, as ``wandb sync`` notes it."""
    folder = Path(run.dir).parent
    for file in folder.glob("*.wandb"):
        file.with_name(f"{file.name}.synced").touch()


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
    patience = Patience()
    threading.Thread(target=_read, args=(source, messages, patience), daemon=True).start()

    def answer(message: Message) -> None:
        # A driver that is gone or has stopped listening needs no answer.
        with contextlib.suppress(OSError):
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    try:
        import wandb

        writer = Writer(wandb, options, answer, patience)
    except Exception as error:
        answer({"warn": f"{_said(error)}; nothing is tracked"})
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


def _read(source: TextIO, messages: queue.SimpleQueue[Message | None], patience: Patience) -> None:
    """Pass messages on as they come, so that the driver never waits for wandb."""
    for line in source:
        message = json.loads(line) if line.endswith("\n") else None
        if message is None or message["do"] == "close":
            if message is not None:
                patience.end = time.monotonic() + message["seconds"]
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
