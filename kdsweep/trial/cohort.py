"""From jobs that share a teacher to an engine that trains them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdsweep.data import (
    EvalLoader,
    SegmentationData,
    TrainLoader,
    class_frequencies,
)
from kdsweep.distill import TapChannels, build_objective
from kdsweep.errors import SpecError
from kdsweep.models import (
    SegmentationNetwork,
    build_network,
)
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import StepSettings
from kdsweep.training.optimizers import Schedule, build_optimizer
from kdsweep.training.seeding import derive_seed
from kdsweep.training.supervised import SupervisedLoss, inverse_log_weights

if TYPE_CHECKING:
    from kdsweep.spec.job import Job
    from kdsweep.spec.model import ModelSpec


NUM_SAMPLES = 4


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


def _student(job: Job, teacher: Learner | None, num_classes: int, device: torch.device) -> Learner:
    network = _network(job.student, num_classes, job.train.seed, "student", _taps(job))
    terms = {name: term.model_dump() for name, term in job.distill.terms().items()}
    objective = None
    if job.teacher is not None and terms:
        assert teacher is not None
        channels = TapChannels(network.tap_channels(), teacher.network.tap_channels())
        # Projections have a seed of their own: the student's initial weights are its control's.
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(job.train.seed, "student", "projections"))
            objective = build_objective(terms, channels, warmup_epochs=job.distill.warmup_epochs)
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

    if train.channels_last is not False:  # faster on CPUs and on CUDA alike
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
        class_weights=class_weights(job, data),
    )


def class_weights(job: Job, data: SegmentationData) -> tuple[float, ...] | None:
    """The weight of each class, or ``None``.

    Raises:
        SpecError: Their number is not that of the classes.
    """
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
