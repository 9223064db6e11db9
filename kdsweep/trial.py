"""The composition root of one job: from its spec to data, networks, objective and engine. No Ray.

``check_job`` and ``prepare`` say before anything starts what would go wrong; ``run_job`` trains a
job in a folder and can be ended and called again at any time.
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from kdsweep.data import (
    EvalLoader,
    SegmentationData,
    TrainLoader,
    class_frequencies,
    open_data,
)
from kdsweep.distill import TapChannels, build_objective
from kdsweep.errors import CheckpointError, SpecError
from kdsweep.models import (
    SegmentationNetwork,
    build_network,
    check_taps,
    fetch_weights,
    inspect_network,
)
from kdsweep.spec import dump_yaml
from kdsweep.store.atomic import new_directory, write_bytes, write_text
from kdsweep.training.checkpoint import load_state, save_state
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import StepSettings
from kdsweep.training.optimizers import Schedule, build_optimizer
from kdsweep.training.report import EpochReport
from kdsweep.training.samples import sample_sheet
from kdsweep.training.seeding import derive_seed
from kdsweep.training.supervised import SupervisedLoss, inverse_log_weights

if TYPE_CHECKING:
    from kdsweep.spec.job import Job
    from kdsweep.spec.model import ModelSpec
    from kdsweep.store.layout import TrialFolder

NUM_SAMPLES = 4
STUDENT_WEIGHTS = "student.safetensors"
STUDENT_CARD = "student.json"
_CHECKPOINT_NAME = re.compile(r"epoch-(\d+)$")


# ---------------------------------------------------------------------------------------------
# Before anything starts


def check_job(job: Job) -> None:
    """Refuse a job whose networks, taps or sizes do not fit together.

    Networks are built without memory for their weights and run on images without pixels, so this
    takes a fraction of a second whatever their size.

    Raises:
        SpecError: With the place in the job.
    """
    networks = {}
    for role, model in (("teacher", job.teacher), ("student", job.student)):
        if model is not None:
            try:
                networks[role] = _inspect(job, model)
            except SpecError as error:
                if error.path and error.path[0] in type(model).model_fields:
                    error.path = (role, *error.path)
                raise
    for name, term in job.distill.terms().items():
        taps = getattr(term, "taps", ())
        for role, network in networks.items():
            check_taps(taps, network.tap_channels(), role, ("distill", name, "taps"))


def _inspect(job: Job, model: ModelSpec) -> SegmentationNetwork:
    # The number of classes is not known before the data are opened, and does not matter here.
    network = inspect_network(
        model.arch,
        model.encoder,
        num_classes=2,
        encoder_weights=model.encoder_weights,
        options=model.options,
    )
    height, width = job.data.image_size
    stride = network.stride
    if height % stride or width % stride:
        near = [max(stride, round(side / stride) * stride) for side in (height, width)]
        raise SpecError(
            f"{model.arch} with encoder {model.encoder} needs sizes that are multiples of {stride}",
            path=("data", "image_size"),
            value=[height, width],
            hint=f"image_size: [{near[0]}, {near[1]}]",
        )
    try:
        with torch.no_grad():
            shape = (job.train.batch_size, height, width, 3)
            network.train()(torch.zeros(shape, dtype=torch.uint8, device="meta"))
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(
            f"{model.arch} with encoder {model.encoder} cannot train on batches of "
            f"{job.train.batch_size} images of {height}×{width}: {reason}",
            path=("data", "image_size"),
            value=[height, width],
            hint="a larger image_size, or a train.batch_size above 1",
        ) from error
    return network


def prepare(jobs: Sequence[Job]) -> dict[str, Any]:
    """Do once what all trials would do: build decode caches, fetch pretrained weights.

    Args:
        jobs: Jobs that together show every data set and encoder of a sweep; at least one.

    Returns:
        What the ledger keeps of the first job's data: source, classes, palette, sizes.

    Raises:
        DataError: A data set is missing or damaged.
        WeightsError: Pretrained weights cannot be had.
        SpecError: A job asks for what the data do not have.
    """
    opened: dict[str, SegmentationData] = {}
    for job in jobs:
        key = job.data.model_dump_json()
        if key not in opened:
            opened[key] = open_data(job.data)
        data = opened[key]
        _class_weights(job, data)
        if len(data.train) < 1:
            raise SpecError("no training frames", path=("data",))
    wanted = {
        (model.encoder, model.encoder_weights)
        for job in jobs
        for model in (job.teacher, job.student)
        if model is not None and model.encoder_weights is not None
    }
    for encoder, weights in sorted(wanted):
        assert weights is not None
        fetch_weights(encoder, weights)
    first = opened[jobs[0].data.model_dump_json()]
    return {
        "source": jobs[0].data.source,
        "embedded": first.embedded,
        "notice": first.notice,
        "classes": list(first.classes),
        "palette": np.asarray(first.palette).tolist(),
        "num_train": len(first.train),
        "num_val": len(first.val),
        "num_test": 0 if first.test is None else len(first.test),
        "image_size": list(jobs[0].data.image_size),
    }


# ---------------------------------------------------------------------------------------------
# Building


@dataclass(frozen=True)
class Cohort:
    """A teacher and its students, ready to train.

    Attributes:
        engine: Trains them.
        data: What they train on.
        sample_frames: Validation frames whose predictions the engine keeps.
    """

    engine: Engine
    data: SegmentationData
    sample_frames: tuple[int, ...]
    loader: TrainLoader

    def close(self) -> None:
        """End loader processes."""
        self.loader.close()


def build_cohort(
    jobs: Sequence[Job], data: SegmentationData, *, device: torch.device | str = "cpu"
) -> Cohort:
    """Build the networks of jobs that share a teacher, and the engine that trains them together.

    A job without a teacher is a control; it may ride in a cohort with a teacher.

    Args:
        jobs: One job per student. They agree in everything but ``name``, ``student``,
            ``distill``, ``train.student`` and whether there is a teacher.
        data: Opened from the jobs' data spec.
        device: Where to train.

    Raises:
        SpecError: The jobs do not agree, or ask for what the networks do not have.
    """
    _check_agreement(jobs)
    device = torch.device(device)
    train = jobs[0].train
    num_classes = len(data.classes)
    teacher_model = next((job.teacher for job in jobs if job.teacher is not None), None)
    teacher = None
    if teacher_model is not None:
        taps = {tap for job in jobs for tap in _taps(job)}
        network = _network(teacher_model, num_classes, train.seed, "teacher", taps)
        teacher = _learner(jobs[0], network, "teacher", device)
    students = [_student(job, teacher, num_classes, device) for job in jobs]
    frames = np.linspace(0, len(data.val) - 1, min(NUM_SAMPLES, len(data.val)))
    sample_frames = tuple(dict.fromkeys(int(index) for index in frames.round()))
    workers = _num_workers(jobs[0], device)
    pin = device.type == "cuda"
    loader = TrainLoader(
        data.train,
        batch_size=train.batch_size,
        augment=jobs[0].data.augment,
        seed=derive_seed(train.seed, "batches"),
        workers=workers,
        pin_memory=pin,
    )
    engine = Engine(
        teacher=teacher,
        students=students,
        batches=loader,
        validation=EvalLoader(data.val, batch_size=2 * train.batch_size, pin_memory=pin),
        settings=StepSettings(
            supervised=_supervised(jobs[0], data),
            autocast=_autocast(train.precision, device),
            device_type=device.type,
            seed=train.seed,
        ),
        num_classes=num_classes,
        epochs=train.epochs,
        accumulate=train.accumulate,
        device=device,
        keep=sample_frames,
    )
    return Cohort(engine, data, sample_frames, loader)


def _check_agreement(jobs: Sequence[Job]) -> None:
    first = _shared_part(jobs[0])
    teachers = {job.teacher.model_dump_json() for job in jobs if job.teacher is not None}
    for job in jobs[1:]:
        if _shared_part(job) != first or len(teachers) > 1:
            raise SpecError(
                "the jobs of a cohort must agree in data, teacher and train (but train.student)"
            )


def _shared_part(job: Job) -> dict[str, Any]:
    return {
        "data": job.data.model_dump(),
        "train": job.train.model_dump(exclude={"student"}),
    }


def _taps(job: Job) -> set[str]:
    return {tap for term in job.distill.terms().values() for tap in getattr(term, "taps", ())}


def _network(
    model: ModelSpec, num_classes: int, seed: int, role: str, taps: set[str]
) -> SegmentationNetwork:
    return build_network(
        model.arch,
        model.encoder,
        num_classes,
        encoder_weights=model.encoder_weights,
        options=model.options,
        taps=sorted(taps),
        seed=derive_seed(seed, role, "weights"),
    )


def _student(
    job: Job, teacher: Learner | None, num_classes: int, device: torch.device
) -> Learner:
    network = _network(job.student, num_classes, job.train.seed, "student", _taps(job))
    terms = {name: term.model_dump() for name, term in job.distill.terms().items()}
    objective = None
    if job.teacher is not None and terms:
        assert teacher is not None
        channels = TapChannels(network.tap_channels(), teacher.network.tap_channels())
        # Projections have a seed of their own: the student's initial weights are its control's.
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(job.train.seed, "student", "projections"))
            objective = build_objective(
                terms, channels, warmup_epochs=job.distill.warmup_epochs
            )
    return _learner(job, network, "student", device, objective)


def _learner(
    job: Job,
    network: SegmentationNetwork,
    role: str,
    device: torch.device,
    objective: Any = None,
) -> Learner:
    train = job.train
    own = train.teacher if role == "teacher" else train.student

    def setting(name: str) -> Any:
        value = getattr(own, name)
        return getattr(train, name) if value is None else value

    channels_last = train.channels_last
    if channels_last is None:
        channels_last = True
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    network = network.to(device)
    if train.compile:
        network.compile()
    if objective is not None:
        objective = objective.to(device)
    modules = [network] if objective is None else [network, objective]
    return Learner(
        network,
        build_optimizer(
            setting("optimizer"),
            modules,
            lr=setting("lr"),
            weight_decay=setting("weight_decay"),
            momentum=setting("momentum"),
        ),
        Schedule(setting("schedule"), setting("lr"), train.epochs, setting("warmup_epochs")),
        clip_norm=setting("clip_norm"),
        objective=objective,
    )


def _supervised(job: Job, data: SegmentationData) -> SupervisedLoss:
    spec = job.train.supervised
    return SupervisedLoss(
        ce=spec.ce.weight if spec.ce else 0.0,
        label_smoothing=spec.ce.label_smoothing if spec.ce else 0.0,
        dice=spec.dice.weight if spec.dice else 0.0,
        focal=spec.focal.weight if spec.focal else 0.0,
        gamma=spec.focal.gamma if spec.focal else 0.0,
        class_weights=_class_weights(job, data),
    )


def _class_weights(job: Job, data: SegmentationData) -> tuple[float, ...] | None:
    weights = job.train.supervised.class_weights
    if weights == "inverse_log":
        return inverse_log_weights(class_frequencies(data.train, len(data.classes)).tolist())
    if weights is not None and len(weights) != len(data.classes):
        raise SpecError(
            f"{len(weights)} class weights for {len(data.classes)} classes",
            path=("train", "supervised", "class_weights"),
            value=list(weights),
            allowed=f"one positive number for each of {', '.join(data.classes)}; or inverse_log",
        )
    return weights


def _autocast(precision: str, device: torch.device) -> torch.dtype | None:
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return None


def _num_workers(job: Job, device: torch.device) -> int:
    if job.data.workers is not None:
        return job.data.workers
    # On a CPU, loader processes would only take cores from the training they feed.
    return 0 if device.type == "cpu" else max(1, min(4, torch.get_num_threads() - 1))


# ---------------------------------------------------------------------------------------------
# Running


def run_job(
    job: Job,
    folder: TrialFolder,
    *,
    device: str = "auto",
    num_threads: int | None = None,
    keep_checkpoints: int = 2,
    metric: str = "student/miou",
) -> Iterator[EpochReport]:
    """Train a job in a folder, going on from its last checkpoint if there is one.

    The report of an epoch is stored inside its checkpoint. A resumed job yields that report again
    first, in case it was lost on its way to the consumer, and then only new epochs. Closing the
    iterator frees networks and loader processes.

    Args:
        job: What to train.
        folder: Where checkpoints, the best student and samples go.
        device: ``auto`` is CUDA where there is any, else the CPU.
        num_threads: CPU threads; the process's setting if left out.
        keep_checkpoints: Checkpoints left in the folder, at least 1.
        metric: Key of the report that says which epoch is best (higher is better).

    Yields:
        The report of each epoch.

    Raises:
        CheckpointError: The folder holds checkpoints of another job.
        NonFiniteLossError: Training diverged.
    """
    folder.create()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    write_text(folder.job_yaml, dump_yaml(job))
    checkpoints = Checkpoints(folder.checkpoint, fingerprint(job), keep_checkpoints)
    saved = checkpoints.load_latest()
    best = -float("inf")
    if saved is not None:
        best = float(saved["best"])
        report = EpochReport.from_json(saved["report"])
        yield report
        if report.epoch >= job.train.epochs:
            return
    data = open_data(job.data)
    cohort = build_cohort([job], data, device=device)
    try:
        if saved is not None:
            cohort.engine.load_state_dict(saved["engine"])
            saved = None
        for (report,) in cohort.engine.epochs():
            value = report.metrics.get(metric, float("nan"))
            if value > best:
                best = value
                _save_best(folder, job, cohort, report)
            checkpoints.save(
                report.epoch,
                {
                    "engine": cohort.engine.state_dict(),
                    "report": report.to_json(),
                    "best": best,
                },
            )
            yield report
    finally:
        cohort.close()
        del cohort
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


class Checkpoints:
    """The last few checkpoints of one job, each put in place whole.

    Args:
        folder: Where they lie.
        fingerprint: Of the job they belong to.
        keep: How many stay.
    """

    def __init__(self, folder: Path, fingerprint: str, keep: int) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.keep = max(1, keep)

    def _numbered(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        found = ((_CHECKPOINT_NAME.match(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match.group(1)), path) for match, path in found if match)

    def load_latest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or ``None`` if there is none.

        Raises:
            CheckpointError: None of them can be read, or they belong to another job.
        """
        problem: CheckpointError | None = None
        for _, path in reversed(self._numbered()):
            try:
                state = load_state(path)
            except CheckpointError as error:
                problem = problem or error
                continue
            if state.get("fingerprint") != self.fingerprint:
                raise CheckpointError(
                    f"{path}: this checkpoint belongs to another job; train into another folder, "
                    f"or delete {self.folder} to start anew"
                )
            return state
        if problem is not None:
            raise problem
        return None

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Put the checkpoint of an epoch in place, then drop the oldest ones."""
        with new_directory(self.folder / f"epoch-{epoch:04d}") as temporary:
            save_state(temporary, {"fingerprint": self.fingerprint, **state})
        for _, path in self._numbered()[: -self.keep]:
            shutil.rmtree(path, ignore_errors=True)


def fingerprint(job: Job) -> str:
    """What must be equal for a checkpoint of one job to go on in another.

    Batch size and accumulation may differ (a trial that ran out of memory goes on with half the
    batch), and so may where the data lie and how many processes load them.
    """
    relevant = job.model_dump(mode="json", exclude={"name": True})
    for key in ("path", "cache", "workers"):
        relevant["data"].pop(key, None)
    for key in ("batch_size", "accumulate", "compile", "precision", "channels_last"):
        relevant["train"].pop(key, None)
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def _save_best(folder: TrialFolder, job: Job, cohort: Cohort, report: EpochReport) -> None:
    from safetensors.torch import save

    engine, data = cohort.engine, cohort.data
    network = engine.students[0].network
    card = {
        "model": job.student.model_dump(mode="json"),
        "classes": list(data.classes),
        "palette": np.asarray(data.palette).tolist(),
        "image_size": list(job.data.image_size),
        "mean": [m / 255.0 for m in network.shift_C11.flatten().tolist()],
        "std": [1.0 / (255.0 * s) for s in network.scale_C11.flatten().tolist()],
        "epoch": report.epoch,
        "miou": report.metrics.get("student/miou"),
        "source": job.data.source,
        "notice": data.notice,
    }
    with new_directory(folder.best) as temporary:
        (temporary / STUDENT_WEIGHTS).write_bytes(save(engine.students[0].weights()))
        (temporary / STUDENT_CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
    _save_samples(folder, cohort)


def _save_samples(folder: TrialFolder, cohort: Cohort) -> None:
    frames, data = cohort.sample_frames, cohort.data
    columns = {"teacher": "teacher", "student0": "student"}
    predictions = {
        shown: [cohort.engine.predictions[name][frame] for frame in frames]
        for name, shown in columns.items()
        if name in cohort.engine.predictions
    }
    sheet = sample_sheet(
        [np.asarray(data.val.images_NHWC[frame]) for frame in frames],
        [np.asarray(data.val.labels_NHW[frame]) for frame in frames],
        predictions,
        np.asarray(data.palette, np.uint8),
    )
    encoded, png = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert encoded
    with suppress(OSError):  # a picture less must not end a training
        write_bytes(folder.samples, png.tobytes())
