"""A stand-in for ``kdsweep.trial``: trials without torch that do as their job's options say.

``teacher.options`` of a job may hold ``behave`` (``oom``, ``nan``, ``error``, ``exit``, ``kill``,
``loader``, ``stop``), ``at`` (the epoch in which it happens, default 2), ``times`` (how often,
default always), ``seconds`` (length of an epoch), ``noise`` (how far seeds lie apart), ``gain``
(what the teacher brings on top) and ``drop`` (how much of that is lost in the last epoch). Each
epoch that is trained adds a line to ``trained.txt`` in the trial's folder.
"""

import json
import math
import os
import signal
import time

from step_costs import make_cost

from kdsweep.config.job import data_section
from kdsweep.data import open_data
from kdsweep.errors import ConfigError, DataError, NonFiniteLossError, StepError, TrainingError
from kdsweep.ledger.atomic import write_text
from kdsweep.pulse import Pulse
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
        raise ConfigError("unknown encoder", path=("student", "encoder"), value="unheard-of")


def prepare(jobs, progress=None):
    time.sleep(float(os.environ.get("FAKE_PREPARE_SECONDS", "0")))
    if lacking := os.environ.get("FAKE_NO_DATA"):
        raise DataError(lacking)
    if refusal := os.environ.get("FAKE_REFUSAL"):
        return DATA | {"refusal": refusal}
    if all(job.data.source != "folder" for job in jobs):
        return DATA
    # The one thing that is not made up: what the files are.
    found = {}
    for job in jobs:
        data = open_data(job.data)
        section = data_section(job.data.model_dump(mode="json"))
        found[section] = json.dumps(data.identity.to_json())
    return {**DATA, "source": "folder", "classes": list(data.classes), "identities": found}


def score_teachers(jobs, *, device, known=()):
    """Teachers that all score what the environment says."""
    miou = float(os.environ.get("FAKE_TEACHER_MIOU", "0.7"))
    paths = dict.fromkeys(job.distill.checkpoint for job in jobs if job.distill.checkpoint)
    scored = {teacher["checkpoint"]: teacher for teacher in known}
    facts = {"label": device, "num_frames": 2, "num_classes": 2, "own_miou": None}
    return [scored.get(path) or {"checkpoint": path, "miou": miou, **facts} for path in paths]


def check_memory(jobs, gpus_per_trial, students=1):
    return None


def measure(jobs, *, device, num_threads, share, each=False):
    """A teacher that costs as much as its student and their control: four are worth while."""
    cost = make_cost(teacher_s=0.2, student_s=0.1, control_s=0.1)
    if each:
        return {"costs": [cost.to_json() for _ in jobs]}
    return {"cost": cost.to_json(), "memory_bytes": int(share * 2**30)}


def network_bytes(jobs):
    return (int(os.environ.get("FAKE_NETWORK_BYTES", "0")),) * 2


def params_m(job):
    return {"resnet18": 14.0, "resnet34": 24.0, "mobilenet_v2": 6.0}.get(job.student.encoder, 1.0)


def static_costs(jobs, num_classes):
    """Millions of parameters by encoder, and a tenth of that in MACs at 32×32."""
    return [
        {
            "student/params_m": params_m(job),
            "student/macs_g": params_m(job) / 10 * job.data.image_size[0] / 32,
        }
        for job in jobs
    ]


def costs_of(job):
    """What a report says of a student's costs; options may hold ``latency_ms``."""
    latency = job.student.options.get("latency_ms", 2 * params_m(job))
    (static,) = static_costs([job], 2)
    return {**static, "student/latency_ms": latency}


def value_of(job, epoch):
    """A learning curve that depends on the job alone, with its best learning rate at 3e-3."""
    lr = job.train.student.lr or job.train.lr
    quality = 0.7 - 0.1 * abs(math.log10(lr) + 2.5)
    quality += 0.02 * (job.student.encoder == "resnet34") + 0.05 * (job.teacher is not None)
    value = quality * (1 - math.exp(-epoch / 3)) + 0.01 * math.sin(1e4 * lr + epoch)
    if job.teacher is not None:
        options = job.teacher.options
        value += options.get("gain", 0.0)
        value -= options.get("drop", 0.0) * (epoch == job.train.epochs)
        value += options.get("noise", 0.0) * math.sin(7.3 * job.train.seed)
    return value


def run_job(job, folder, *, device, num_threads, metric, pulse):
    options = {} if job.teacher is None else {**job.teacher.options, **job.student.options}
    saved = folder.checkpoint / "state.json"
    first = 1
    print(f"niceness {os.nice(0)}", flush=True)
    if saved.exists():
        report = EpochReport.from_json(json.loads(saved.read_text()))
        first = report.epoch + 1
        yield report
    for epoch in range(first, job.train.epochs + 1):
        print(f"epoch {epoch} begins", flush=True)
        pulse("training", 1, 4, epoch=epoch)
        seconds = options.get("seconds", 0.0)
        if job.teacher is None:
            seconds = job.student.options.get("seconds", 0.0)
        time.sleep(seconds)
        if epoch == options.get("at", 2):
            misbehave(options, folder)
        with (folder.path / "trained.txt").open("a") as file:
            file.write(f"{epoch} {job.train.batch_size}x{job.train.accumulate} {os.getpid()}\n")
        report = EpochReport(
            epoch,
            {metric: value_of(job, epoch), **costs_of(job)},
            {"student": [0.5, None]},
            seconds,
        )
        folder.checkpoint.mkdir(exist_ok=True)
        write_text(saved, json.dumps(report.to_json()))
        folder.best.mkdir(exist_ok=True)
        try:
            yield report
        finally:
            if epoch == job.train.epochs and options.get("stops_when_left"):
                os.kill(os.getpid(), signal.SIGSTOP)


def run_jobs(
    jobs,
    folders,
    *,
    cohort_dir=None,
    device,
    num_threads,
    metric,
    score_test=False,
    miou_over="labelled",
    leaving=tuple,
    pulse=None,
):
    """Jobs in step; one that diverges or whose step fails leaves, any other fault ends all."""
    pulse = pulse or Pulse()
    options = {"device": device, "num_threads": num_threads, "metric": metric, "pulse": pulse}
    cohort = {
        place: run_job(job, folder, **options)
        for place, (job, folder) in enumerate(zip(jobs, folders, strict=True))
    }
    try:
        while cohort:
            outcomes = {}
            for place, reports in cohort.items():
                try:
                    outcomes[place] = next(reports, None)
                except TrainingError as error:
                    if len(cohort) == 1:
                        raise
                    outcomes[place] = error
            if None in outcomes.values():
                return
            yield outcomes
            left = {p for p, found in outcomes.items() if isinstance(found, Exception)}
            left.update(leaving())
            cohort = {p: reports for p, reports in cohort.items() if p not in left}
    finally:
        for reports in cohort.values():
            reports.close()


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
    if behave == "step":
        raise StepError("ValueError: a bug in one loss", "Traceback of the bug")
    if behave == "error":
        raise ValueError("a bug in the training")
    if behave == "loader":
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    if behave == "exit":
        os._exit(7)
    if behave == "stop":
        time.sleep(2)  # until what it does has been told
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    if behave == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(behave)
