"""What runs in a worker process: one trial after another, an epoch per call.

A worker outlives its trials (starting one with torch in it takes seconds), so each trial has to
leave it as it found it: memory freed, output streams back where they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import logging
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.tune import PlacementGroupFactory, Trainable

from kdsweep.config import Job
from kdsweep.disk import causes, disk_problem
from kdsweep.errors import NonFiniteLossError, TrainingError
from kdsweep.ledger import TrialFolder
from kdsweep.ledger.events import Failure
from kdsweep.parent import die_with_parent
from kdsweep.pulse import Pulse
from kdsweep.sweep.ray import bridge, heartbeat, stop_signal
from kdsweep.sweep.ray.delivery import Way, Workplace, workplace
from kdsweep.sweep.ray.preflight import load_runner, run_task
from kdsweep.training.failures import is_out_of_memory

_LOCK_SECONDS = 10.0
_LOGGER = logging.getLogger("kdsweep")
_LOADER_DIED = re.compile(r"DataLoader worker .*(killed|exited unexpectedly)", re.DOTALL)


class KdsweepTrial(Trainable):
    """A Ray Tune trainable that consumes the epoch reports of ``run_jobs``.

    Its configuration is one JSON text under ``payload``: an attempt or a preflight task, the module
    that holds ``run_jobs``, and the resources.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """Return the resources of a trial, for Tune."""
        payload = json.loads(config["payload"])
        wanted = {"CPU": payload["cpus"], "GPU": payload["gpus"]}
        options: dict[str, Any] = {}
        if payload["avoided"]:
            options["bundle_label_selector"] = [bridge.elsewhere_than(payload["avoided"])]
        return PlacementGroupFactory([{name: n for name, n in wanted.items() if n}], **options)

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the process, then take the first attempt."""
        # Without this a worker may go on writing for seconds after a killed driver, while the
        # resumed sweep trains the same trial.
        die_with_parent()
        # The driver blocks signals while it starts Ray, and everything started then inherits that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._streams: tuple[int, int] | None = None
        self._failed = self._is_away = False
        self._results: Iterator[dict[str, Any]] = iter(())
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
            One JSON text under ``payload``, as the driver or the preflight takes it.
        """
        if self._failed:
            raise RuntimeError("this attempt has failed, and its process is not to be used again")
        bridge.name_process(self._title)
        try:
            result = next(self._results, None) or {"ended": True}
        except (Exception, SystemExit) as error:
            result = {"failed": self._describe(error)}
            self._failed = True
            # The traceback holds the frames and these the tensors that memory ran out for.
            traceback.clear_frames(error.__traceback__)
            self._free()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        return {"payload": json.dumps(result)}

    def __repr__(self) -> str:
        """Return the trial's name, which Ray's dashboard shows for the worker."""
        return getattr(self, "_title", type(self).__name__)

    def _begin(self, config: dict[str, Any]) -> None:
        payload = json.loads(config["payload"])
        self._title = str(payload["title"])
        self._machine = f"{socket.gethostname()}: " if payload.get("way") else ""
        self._failed = False
        if payload["kind"] == "preflight":
            self._results = self._prepare(payload)
        else:
            # Nothing happens before the first step: Tune may give the attempt to another worker.
            self._results = self._train(payload)

    def _prepare(self, payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the results of a preflight task."""
        pulse = Pulse()
        with heartbeat.telling(payload["heartbeat"], pulse):
            yield from run_task(
                payload["runner"],
                payload["jobs"],
                payload["measure"],
                payload["students"],
                payload["gpus"],
                payload["num_heads"],
                payload["teachers"],
                pulse,
            )

    def _train(self, payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the results of one attempt."""
        way = None if payload["way"] is None else Way.from_json(payload["way"])
        self._is_away = way is not None and not way.word.is_seen()
        places = payload["folders"], payload["cohort_dir"], payload["fence"]
        pulse = Pulse()
        with heartbeat.telling(payload["heartbeat"], pulse):
            pulse("fetching the trial")
            with workplace(*places, way) as here:
                yield from self._train_there(payload, here, pulse)

    def _train_there(
        self, payload: dict[str, Any], here: Workplace, pulse: Pulse
    ) -> Iterator[dict[str, Any]]:
        folders, cohort_dir = here.folders, here.cohort_dir
        self._redirect(cohort_dir.log)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        print(
            f"--- {self._title}, attempt {payload['attempt']}: {started}, process {os.getpid()} "
            f"on {socket.gethostname()}",
            flush=True,
        )
        _log_to_stdout()
        jobs = [Job.model_validate_json(json.dumps(job)) for job in payload["jobs"]]
        trials: list[int] = payload["trials"]
        epoch = 0

        def leaving() -> list[int]:
            stopped = stop_signal.read(payload["stop_signal"], epoch) if len(trials) > 1 else ()
            return [trials.index(trial) for trial in stopped]

        if payload["way"] is not None or payload["gpus"]:
            yield {"machine": socket.gethostname(), "gpus": bridge.own_gpus()}
        if 0 < payload["gpus"] < 1:
            from kdsweep.trial.gpu_memory import keep_to_share

            keep_to_share(payload["gpus"])
        with _alone_in(cohort_dir):
            cohort = load_runner(payload["runner"]).run_jobs(
                jobs,
                folders,
                cohort_dir=cohort_dir,
                device=payload["device"],
                num_threads=payload["cpus"],
                metric=payload["metric"],
                score_test=payload["score_test"],
                miou_over=payload["miou_over"],
                leaving=leaving,
                pulse=pulse,
            )
            with contextlib.closing(cohort):
                for outcomes in cohort:
                    result: dict[str, Any] = {"reports": {}, "left": {}}
                    for place, outcome in outcomes.items():
                        if isinstance(outcome, TrainingError):
                            result["left"][trials[place]] = failure(outcome, outcome.traceback)
                        else:
                            result["reports"][trials[place]] = outcome.to_json()
                            epoch = outcome.epoch
                    sys.stdout.flush()
                    # Whatever the ledger has of an epoch, the experiment's folder has as well.
                    here.deliver()
                    yield {**result, "epoch": epoch}

    def _describe(self, error: BaseException) -> dict[str, Any]:
        text = error.traceback if isinstance(error, TrainingError) else ""
        text = text or "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):  # the log may be on a disk that is full
            print(text, file=sys.stderr, flush=True)
        told: dict[str, Any] = dict(failure(error, text))
        if problem := disk_problem(error):
            reason, remedy = problem
            told["disk"] = [f"{self._machine}{reason}", remedy]
            # Not where the experiment is, which Ray writes to.
            if self._is_away and not any(isinstance(e, RayError) for e in causes(error)):
                told["node"] = bridge.own_node()
        return told

    def _leave(self) -> None:
        self._free()
        if self._streams is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            for saved, descriptor in zip(self._streams, (1, 2), strict=True):
                os.dup2(saved, descriptor)

    def _free(self) -> None:
        results, self._results = self._results, iter(())
        with contextlib.suppress(Exception):
            results.close()  # type: ignore[attr-defined]
        del results
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


def failure(error: BaseException, traceback_text: str) -> dict[str, str]:
    """Return what the driver is told of an error."""
    message = str(error).strip() or type(error).__name__
    return {"class": str(classify(error)), "message": message, "traceback": traceback_text}


def classify(error: BaseException) -> Failure:
    """Return the class of a failure."""
    if is_out_of_memory(error):
        return Failure.OOM
    if isinstance(error, NonFiniteLossError):
        return Failure.NAN
    if _LOADER_DIED.search(str(error)):
        return Failure.CRASH
    return Failure.ERROR


def _log_to_stdout() -> None:
    """Let kdsweep's own log lines reach the trial's log; once a process."""
    if not _LOGGER.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        _LOGGER.addHandler(handler)
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False


@contextlib.contextmanager
def _alone_in(folder: TrialFolder) -> Iterator[None]:
    """Hold the trial's folder while no worker of a killed driver is about to end there.

    One that does not end, because it is cut off and does not know, is not waited for: behind the
    fence of this attempt it can write nothing more.
    """
    with folder.lock.open("w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    _LOGGER.warning("an older attempt is still there; it can write nothing more")
                    break
                time.sleep(0.1)
        yield
