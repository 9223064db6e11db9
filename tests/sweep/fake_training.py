"""A stand-in for ``kdsweep.trial``: trials without torch that do as their job's options say.

``teacher.options`` of a job may hold ``behave`` (``oom``, ``nan``, ``error``, ``exit``, ``kill``,
``loader``), ``at`` (the epoch in which it happens, default 2), ``times`` (how often, default
always), and ``seconds`` (length of an epoch). Each epoch that is trained adds a line to
``trained.txt`` in the trial's folder.
"""

import json
import math
import os
import signal
import time

from kdsweep.errors import NonFiniteLossError, SpecError
from kdsweep.store.atomic import write_text
from kdsweep.training.report import EpochReport

DATA = {
    "source": "roadscenes",
    "embedded": True,
    "notice": "made-up numbers",
    "classes": ["road", "car"],
    "palette": [[0, 0, 0], [1, 1, 1]],
    "num_train": 2,
    "num_val": 2,
    "num_test": 0,
    "image_size": [32, 32],
}


def check_job(job):
    if job.student.encoder == "unheard-of":
        raise SpecError("unknown encoder", path=("student", "encoder"), value="unheard-of")


def prepare(jobs):
    time.sleep(float(os.environ.get("FAKE_PREPARE_SECONDS", "0")))
    return DATA


def value_of(job, epoch):
    """A learning curve that depends on the job alone, with its best learning rate at 3e-3."""
    quality = 0.7 - 0.1 * abs(math.log10(job.train.lr) + 2.5)
    quality += 0.02 * (job.student.encoder == "resnet34") + 0.05 * (job.teacher is not None)
    return quality * (1 - math.exp(-epoch / 3)) + 0.01 * math.sin(1e4 * job.train.lr + epoch)


def run_job(job, folder, *, device, num_threads, metric):
    options = {} if job.teacher is None else job.teacher.options
    saved = folder.checkpoint / "state.json"
    first = 1
    if saved.exists():
        report = EpochReport.from_json(json.loads(saved.read_text()))
        first = report.epoch + 1
        yield report
    for epoch in range(first, job.train.epochs + 1):
        print(f"epoch {epoch} begins", flush=True)
        seconds = options.get("seconds", 0.0)
        if job.teacher is None:
            seconds = job.student.options.get("seconds", 0.0)
        time.sleep(seconds)
        if epoch == options.get("at", 2):
            misbehave(options, folder)
        with (folder.path / "trained.txt").open("a") as file:
            file.write(f"{epoch} {job.train.batch_size}x{job.train.accumulate} {os.getpid()}\n")
        report = EpochReport(
            epoch, {metric: value_of(job, epoch)}, {"student": [0.5, None]}, seconds
        )
        folder.checkpoint.mkdir(exist_ok=True)
        write_text(saved, json.dumps(report.to_json()))
        folder.best.mkdir(exist_ok=True)
        yield report


def misbehave(options, folder):
    behave = options.get("behave")
    if behave is None:
        return
    memory = folder.path / "misbehaved"
    already = len(memory.read_text()) if memory.exists() else 0
    if already >= options.get("times", 99):
        return
    memory.write_text("x" * (already + 1))
    if behave == "oom":
        raise MemoryError("no memory left")
    if behave == "nan":
        raise NonFiniteLossError("loss is nan")
    if behave == "error":
        raise ValueError("a bug in the training")
    if behave == "loader":
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    if behave == "exit":
        os._exit(7)
    if behave == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(behave)
