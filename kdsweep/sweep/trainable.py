"""What runs in a worker process: one trial after another, an epoch per call.

A worker outlives its trials (starting one with torch in it takes seconds), so each trial has to
leave it as it found it: memory freed, output streams back where they were.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ray.tune import Trainable

from kdsweep.errors import NonFiniteLossError
from kdsweep.spec import Job
from kdsweep.store import TrialFolder
from kdsweep.training.report import EpochReport

_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|can't allocate memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED", re.IGNORECASE
)
_LOADER_DIED = re.compile(r"DataLoader worker .*(killed|exited unexpectedly)", re.DOTALL)


class KdsweepTrial(Trainable):
    """A Ray Tune trainable that consumes the epoch reports of ``run_job``.

    Its configuration is one JSON text under ``payload``: the attempt, the module that holds
    ``run_job``, the device and the number of threads.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the process, then take the first attempt."""
        die_with_parent()
        # The driver blocks signals while it starts Ray, and everything started then inherits that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._streams: tuple[int, int] | None = None
        self._failed = False
        self._reports: Iterator[EpochReport] = iter(())
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the last attempt and take the next one."""
        self._leave()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Leave the last attempt."""
        self._leave()

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        Returns:
            One JSON text under ``payload``: the report, or how the attempt failed.
        """
        if self._failed:
            raise RuntimeError("this attempt has failed, and its process is not to be used again")
        try:
            report = next(self._reports, None)
            result = {"ended": True} if report is None else {"report": report.to_json()}
        except (Exception, SystemExit) as error:
            result = {"failed": self._describe(error)}
            self._failed = True
            # The traceback holds the frames and these the tensors that memory ran out for.
            traceback.clear_frames(error.__traceback__)
            self._free()
        sys.stdout.flush()
        return {"payload": json.dumps(result)}

    def __repr__(self) -> str:
        """The trial's name, which Ray's dashboard shows for the worker."""
        return getattr(self, "_title", type(self).__name__)

    def _begin(self, config: dict[str, Any]) -> None:
        payload = json.loads(config["payload"])
        self._title = str(payload["title"])
        self._failed = False
        self._redirect(TrialFolder(payload["folder"]).create().log)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        print(
            f"--- {self._title}, attempt {payload['attempt']}: {started}, process {os.getpid()} "
            f"on {socket.gethostname()}",
            flush=True,
        )
        self._reports = _run(payload)

    def _describe(self, error: BaseException) -> dict[str, str]:
        text = "".join(traceback.format_exception(error))
        print(text, file=sys.stderr, flush=True)
        message = str(error).strip() or type(error).__name__
        return {"class": classify(error), "message": message, "traceback": text}

    def _leave(self) -> None:
        self._free()
        if self._streams is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            for saved, descriptor in zip(self._streams, (1, 2), strict=True):
                os.dup2(saved, descriptor)

    def _free(self) -> None:
        reports, self._reports = self._reports, iter(())
        with contextlib.suppress(Exception):
            reports.close()  # type: ignore[attr-defined]
        del reports
        if self._failed:
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def _redirect(self, log: Path) -> None:
        """Send everything this process and its children print to the trial's log."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self._streams is None:
            self._streams = (os.dup(1), os.dup(2))
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)


def load_runner(name: str) -> ModuleType:
    """The module that holds ``check_job``, ``prepare`` and ``run_job``."""
    return importlib.import_module(name)


def classify(error: BaseException) -> str:
    """The class of a failure: ``oom``, ``nan``, ``crash`` or ``error``."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"OutOfMemoryError", "MemoryError"} or _OUT_OF_MEMORY.search(str(error)):
        return "oom"
    if isinstance(error, NonFiniteLossError):
        return "nan"
    if _LOADER_DIED.search(str(error)):
        return "crash"
    return "error"


def die_with_parent() -> None:
    """Ask the system to kill this process when its parent dies (Linux only).

    Without this a worker may go on writing for seconds after a killed driver, while the resumed
    sweep trains the same trial.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(payload: dict[str, Any]) -> Iterator[EpochReport]:
    """The reports of one attempt; imports what it needs only when the first one is asked for."""
    job = Job.model_validate_json(json.dumps(payload["job"]))
    runner = load_runner(payload["runner"])
    yield from runner.run_job(
        job,
        TrialFolder(payload["folder"]),
        device=payload["device"],
        num_threads=payload["num_threads"],
        metric=payload["metric"],
    )
