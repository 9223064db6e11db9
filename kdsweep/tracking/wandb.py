"""Weights & Biases, from the driver's side: a queue, a thread, and a process that may fail.

A trial is a run. All of wandb lives in another process (:mod:`kdsweep.tracking.wandb_writer`):
here, an epoch costs the driver one entry in a queue, and a server that is slow, down or refuses
costs it nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdsweep.ledger.atomic import write_json
from kdsweep.tracking.base import SweepSummary, TrialDetails

# Of the environment's run and sweep nothing must reach ours: wandb prefers it to its arguments.
_FOREIGN = (
    "WANDB_RUN_ID",
    "WANDB_RUN_GROUP",
    "WANDB_NAME",
    "WANDB_NOTES",
    "WANDB_JOB_TYPE",
    "WANDB_RESUME",
    "WANDB_SERVICE",
    "WANDB_SWEEP_ID",
    "WANDB_SWEEP_PARAM_PATH",
    "WANDB_TAGS",
    "WANDB_MODE",
    "WANDB_DIR",
)
# By these an agent tells the process it starts which run of which sweep that is.
_AGENTS = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
# wandb logs no more rows of a table than these.
MAX_ROWS = 10_000


class WandbTracker:
    """Writes trials as wandb runs, offline or online.

    Args:
        mode: ``online`` or ``offline``.
        project: Project name.
        entity: User or team; the account's default if ``None``.
        group: Name that the runs of a sweep share; with a trial's number it makes a run's id, so
            that a resumed sweep continues its runs.
        folder: Where runs are written. wandb insists on a folder of its own name: one called
            ``wandb`` is used as it is, any other gets it below.
        sweep: Configuration of a W&B sweep that the trials belong to; none if left out. No other
            sweep of the project has its name.
        sweep_file: Where the sweep's id is kept. A sweep whose id is there is not created again;
            where the file has none, it is looked up by its name first.
        agent: Whether this process was started by ``wandb agent``, for one run of its sweep.
        warn: Tells the user what went wrong; a Python warning if left out.
        init_seconds: How long a server may take to open a run.
        close_seconds: How long :meth:`close` may take.
        queue_size: Messages kept while wandb is behind; more are dropped.
    """

    def __init__(
        self,
        mode: str,
        project: str,
        entity: str | None,
        group: str,
        folder: Path,
        *,
        sweep: Mapping[str, Any] | None = None,
        sweep_file: Path | None = None,
        agent: bool = False,
        warn: Callable[[str], None] | None = None,
        init_seconds: float = 30.0,
        close_seconds: float = 20.0,
        queue_size: int = 10_000,
    ) -> None:
        self._options = {
            "mode": mode,
            "agent": agent,
            "sweep": sweep,
            "sweep_id": None if sweep_file is None else _read_sweep(sweep_file),
            # The file is there before the sweep is: a process that dies in between leaves it
            # without an id, and the next one looks for the sweep before it creates another.
            "sweep_begun": sweep_file is not None and sweep_file.exists(),
            "project": project,
            "entity": entity,
            "group": group,
            "dir": str(folder.parent if folder.name == "wandb" else folder),
            "id_prefix": id_prefix(group),
            "init_seconds": init_seconds,
        }
        self._sweep_file = sweep_file
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
    def is_active(self) -> bool:
        """See :class:`~kdsweep.tracking.base.Tracker`."""
        return not self._closed

    def trial(self, number: int, label: str, job: Mapping[str, Any], kind: str) -> None:
        """See :class:`~kdsweep.tracking.base.Tracker`."""
        name = f"{number:04d} {label}"
        self._put(do="trial", number=number, name=name, job=dict(job), kind=kind)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """See :class:`~kdsweep.tracking.base.Tracker`."""
        self._put(do="epoch", number=number, epoch=epoch, metrics=dict(metrics))

    def trial_end(
        self,
        number: int,
        state: str,
        summary: Mapping[str, Any] | None = None,
        details: TrialDetails | None = None,
    ) -> None:
        """See :class:`~kdsweep.tracking.base.Tracker`."""
        shown = None if details is None else asdict(details)
        self._put(do="end", number=number, state=state, summary=dict(summary or {}), details=shown)

    def summary(self, summary: SweepSummary) -> None:
        """See :class:`~kdsweep.tracking.base.Tracker`."""
        for name, rows in summary.tables.items():
            if len(rows) > MAX_ROWS:
                self._fail(f"of the table {name} only the first {MAX_ROWS} rows are sent")
        tables = {name: _table(rows) for name, rows in summary.tables.items()}
        self._put(
            do="summary",
            session=summary.session,
            name=self._options["group"],
            kind="sweep",
            job={},
            facts=dict(summary.facts),
            tables={name: table for name, table in tables.items() if table["data"]},
            page=summary.page,
        )

    def warn(self, text: str) -> None:
        """Tell the user something about W&B."""
        self._warn(f"Weights & Biases: {text}")

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
                self._fail(
                    f"not done after {self._close_seconds:.0f} s, what is left stays on the disk; "
                    f"send it with: kdsweep wandb sync {self._options['dir']}"
                )
                if self._process is not None:
                    self._process.kill()
                self._thread.join(1.0)
        self._show_problem()

    def _put(self, **message: Any) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="kdsweep-wandb", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._fail(f"more than {self._queue.maxsize} messages behind; some are dropped")
        self._show_problem()

    def _write(self) -> None:
        """The thread: start the process, feed it, and wait for its end."""
        if self._options["sweep"] is not None and not self._options["sweep_begun"]:
            self._keep_sweep(None)
        try:
            process = self._process = _start_writer(agent=bool(self._options["agent"]))
        except OSError as error:
            self._fail(f"could not be started ({error}); nothing is tracked")
            self._discard()
            return
        assert process.stdin is not None
        answers = threading.Thread(target=self._listen, args=(process,), daemon=True)
        answers.start()
        message = self._options
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
                if "sweep" in answer:
                    self._keep_sweep(answer["sweep"])

    def _keep_sweep(self, sweep: str | None) -> None:
        """Write down the sweep's id; ``None`` while it is about to be created."""
        path = self._sweep_file
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"sweep": sweep, "project": self._options["project"]})
        except OSError as error:
            self._fail(f"the sweep's id could not be kept ({error}); a resume creates another one")

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


def id_prefix(group: str) -> str:
    """What the ids of a group's runs begin with; wandb allows few characters, and not many."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", group)
    if plain == group and len(group) <= 56:
        return group
    return f"{plain[:46]}-{hashlib.sha256(group.encode()).hexdigest()[:8]}"


def _read_sweep(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["sweep"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as a table with every key as a column; a key that a row has not is missing there."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    kept = rows[:MAX_ROWS]
    return {"columns": columns, "data": [[row.get(key) for key in columns] for row in kept]}


def _python_warning(text: str) -> None:
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=5)
    except RuntimeWarning:
        # Warnings are errors here, but a tracker never takes its sweep down.
        print(text, file=sys.stderr)


def _start_writer(*, agent: bool) -> subprocess.Popen[str]:
    foreign = [name for name in _FOREIGN if not (agent and name in _AGENTS)]
    environ = {name: value for name, value in os.environ.items() if name not in foreign}
    environ |= {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    # wandb reports its own errors to its makers, also when it is offline.
    environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return subprocess.Popen(
        # -P: neither the working folder nor this one, which has a wandb.py, is searched for wandb.
        [sys.executable, "-P", str(Path(__file__).with_name("wandb_writer.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=environ,
        # Ctrl-C on the terminal and signals to the driver's group do not reach it.
        start_new_session=True,
    )
