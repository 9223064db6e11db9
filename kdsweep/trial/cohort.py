"""From jobs that share a teacher to an engine that trains them together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdsweep.config.distill import PART_KEYS, TEACHER_KEYS
from kdsweep.config.metrics import LABELLED, NATIVE, MiouOver
from kdsweep.data import (
    EvalLoader,
    SegmentationData,
    Split,
    TrainLoader,
    UnlabelledLoader,
)
from kdsweep.distill import DistillationObjective, Ramp, TapChannels, build_objective
from kdsweep.errors import ConfigError
from kdsweep.models import (
    SegmentationNetwork,
    build_network,
)
from kdsweep.pulse import Pulse
from kdsweep.training.average import RunningAverage
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.metrics import Scores
from kdsweep.training.optimizers import Schedule, build_optimizer
from kdsweep.training.seeding import derive_seed
from kdsweep.training.step import StepSettings
from kdsweep.training.teacher import Teacher
from kdsweep.trial.batches import training_batches
from kdsweep.trial.compiling import Compilation, choose_compilation
from kdsweep.trial.supervision import supervised_loss
from kdsweep.trial.trained_model import load_checkpoint

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.config.model import ModelConfig


NUM_SAMPLES = 4


@dataclass(frozen=True)
class Cohort:
    """A teacher and its students, ready to train.

    Attributes:
        engine: Trains them.
        data: What they train on.
        sample_frames: Validation frames whose predictions the engine keeps.
        loader: Makes the training batches.
        unlabelled: Makes those without labels, if there are any.
        frames: Serves a split as it is, for scoring.
        compilation: How its networks are compiled.
        is_native: Whether frames are scored at the size of their label files.
    """

    engine: Engine
    data: SegmentationData
    sample_frames: tuple[int, ...]
    loader: TrainLoader
    unlabelled: UnlabelledLoader | None
    frames: Callable[[Split], EvalLoader]
    compilation: Compilation
    is_native: bool = False

    def score_test(self, network: SegmentationNetwork) -> Scores | None:
        """Score a network on the test split, if there is one, as the validation does."""
        test = self.data.test
        if test is None:
            return None
        native = self.data.native["test"].labels if self.is_native else None
        return self.engine.score(network, self.frames(test), native)

    def close(self) -> None:
        """End loader processes, and give back what compiled networks hold beyond their weights."""
        self.loader.close()
        if self.unlabelled is not None:
            self.unlabelled.close()
        self.compilation.close()


def build_cohort(
    jobs: Sequence[Job],
    data: SegmentationData,
    *,
    device: torch.device | str = "cpu",
    over: MiouOver = LABELLED,
    pulse: Pulse | None = None,
) -> Cohort:
    """Build the networks of jobs that share a teacher, and the engine that trains them together.

    A job without a teacher is a control; it may ride in a cohort with a teacher.

    Args:
        jobs: One job per student. They agree in everything but ``name``, ``student``,
            ``train.student``, the losses in ``distill``, and whether there is a teacher.
        data: Opened from the jobs' data section.
        device: Where to train.
        over: The classes that count in mIoU.
        pulse: Told of each step.

    Raises:
        ConfigError: The jobs do not agree, or ask for what the networks do not have.
    """
    _check_agreement(jobs)
    device = torch.device(device)
    _prepare(device)
    train = jobs[0].train
    compilation = choose_compilation(jobs, device)
    num_classes = len(data.classes)
    taught = [job for job in jobs if job.teacher is not None]
    teacher = None
    if taught:
        taps = {tap for job in taught for tap in _taps(job)}
        teacher = _teacher(taught[0], num_classes, taps, device, compilation)
    students = [_student(job, teacher, num_classes, device, compilation) for job in jobs]
    frames = np.linspace(0, len(data.val) - 1, min(NUM_SAMPLES, len(data.val)))
    sample_frames = tuple(dict.fromkeys(int(index) for index in frames.round()))
    loader, unlabelled = training_batches(jobs[0], data, device)
    pin = device.type == "cuda"
    is_native = train.validate_at == NATIVE
    # Without gradients twice the frames fit.
    served = partial(EvalLoader, batch_size=2 * train.batch_size, pin_memory=pin)
    engine = Engine(
        teacher=teacher,
        students=students,
        batches=loader,
        validation=served(data.val),
        settings=StepSettings(
            supervised=supervised_loss(jobs[0], data),
            autocast=autocast_dtype(train.precision, device),
            device_type=device.type,
            seed=train.seed,
            overwrites=compilation.cuda_graphs,
        ),
        num_classes=num_classes,
        epochs=train.epochs,
        accumulate=train.accumulate,
        device=device,
        keep=sample_frames,
        over=over,
        native=data.native["val"].labels if is_native else None,
        unlabelled=unlabelled,
        pulse=pulse,
    )
    return Cohort(engine, data, sample_frames, loader, unlabelled, served, compilation, is_native)


def _prepare(device: torch.device) -> None:
    if device.type == "cuda":
        # All batches have one size: the fastest kernels for it are looked for once.
        torch.backends.cudnn.benchmark = True


def _check_agreement(jobs: Sequence[Job]) -> None:
    first = _shared_part(jobs[0])
    taught = [job for job in jobs if job.teacher is not None]
    if any(_shared_part(job) != first for job in jobs) or any(
        _teacher_part(job) != _teacher_part(taught[0]) for job in taught
    ):
        raise ConfigError(
            "the jobs of a cohort must agree in data, teacher and train (but train.student)"
        )
    mutual = [job for job in taught if job.distill.is_mutual]
    if mutual and len(taught) > 1:
        raise ConfigError(
            "a teacher that learns from its student can have one student only",
            path=("distill", "mutual"),
            allowed="one job with a teacher in the cohort; controls may ride along",
        )


def _shared_part(job: Job) -> dict[str, Any]:
    return {
        "data": job.data.model_dump(),
        "train": job.train.model_dump(exclude={"student"}),
    }


def _teacher_part(job: Job) -> dict[str, Any]:
    """All that decides how the teacher trains, of the job's own words."""
    assert job.teacher is not None
    own = {name: getattr(job.distill, name) for name in TEACHER_KEYS}
    return {"model": job.teacher.model_dump(), **own}


def _taps(job: Job) -> set[str]:
    return {tap for term in job.distill.terms().values() for tap in getattr(term, "taps", ())}


def build_role(
    job: Job,
    model: ModelConfig,
    num_classes: int,
    role: str,
    taps: Collection[str] = (),
) -> SegmentationNetwork:
    """Build a job's teacher or student as its training begins with it, but for a checkpoint."""
    return build_network(
        model.arch,
        model.encoder,
        num_classes,
        encoder_weights=model.encoder_weights,
        encoder_pixels=model.encoder_pixels,
        options=model.options,
        image_size=job.data.image_size,
        taps=sorted(taps),
        seed=derive_seed(job.train.seed, role, "weights"),
    )


def _teacher(
    job: Job,
    num_classes: int,
    taps: set[str],
    device: torch.device,
    compilation: Compilation,
) -> Teacher:
    assert job.teacher is not None
    distill = job.distill
    network = build_role(job, job.teacher, num_classes, "teacher", taps)
    if distill.checkpoint is not None:
        load_checkpoint(network, distill.checkpoint, job.teacher)
    average = None
    if distill.teacher == "ema":
        average = _average(job, network, device, compilation)
    frozen = distill.teacher == "frozen"
    num_epochs = distill.head_start_epochs + (0 if frozen else job.train.epochs)
    return Teacher(
        _learner(job, network, "teacher", device, compilation, num_epochs=num_epochs),
        average=average,
        head_start_epochs=distill.head_start_epochs,
        frozen=frozen,
    )


def _average(
    job: Job, network: SegmentationNetwork, device: torch.device, compilation: Compilation
) -> RunningAverage:
    # Copied before it is compiled, which a copy would not survive.
    copied = _placed(copy.deepcopy(network), job, device, compilation)
    return RunningAverage(copied, job.distill.ema_decay)


def _student(
    job: Job,
    teacher: Teacher | None,
    num_classes: int,
    device: torch.device,
    compilation: Compilation,
) -> Learner:
    network = build_role(job, job.student, num_classes, "student", _taps(job))
    configs = job.distill.terms()
    terms = {
        name: {"weight": config.weight, **config.options()} for name, config in configs.items()
    }
    ramps = {name: Ramp(*job.distill.course(config)) for name, config in configs.items()}
    objective = average = None
    if terms:
        taught_by = network
        if job.teacher is not None:
            assert teacher is not None
            taught_by = teacher.network
        else:
            average = _average(job, network, device, compilation)
        channels = TapChannels(network.tap_channels(), taught_by.tap_channels())
        # Projections have a seed of their own: the student's initial weights are its control's.
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(job.train.seed, "student", "projections"))
            gate = job.distill.gate == "lead"
            parts = {name: getattr(job.distill, name) for name in PART_KEYS}
            objective = build_objective(terms, channels, ramps=ramps, gate=gate, **parts)
    return _learner(
        job,
        network,
        "student",
        device,
        compilation,
        num_epochs=job.train.epochs,
        objective=objective,
        average=average,
    )


def _learner(
    job: Job,
    network: SegmentationNetwork,
    role: str,
    device: torch.device,
    compilation: Compilation,
    *,
    num_epochs: int,
    objective: DistillationObjective | None = None,
    average: RunningAverage | None = None,
) -> Learner:
    train = job.train
    own = train.teacher if role == "teacher" else train.student

    def setting(name: str) -> Any:
        value = getattr(own, name)
        return getattr(train, name) if value is None else value

    network = _placed(network, job, device, compilation)
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
        Schedule(setting("schedule"), setting("lr"), num_epochs, setting("warmup_epochs")),
        clip_norm=setting("clip_norm"),
        objective=objective,
        average=average,
    )


def _placed(
    network: SegmentationNetwork, job: Job, device: torch.device, compilation: Compilation
) -> SegmentationNetwork:
    if job.train.channels_last is not False:  # faster on CPUs and on CUDA alike
        network = network.to(memory_format=torch.channels_last)
    network = network.to(device)
    compilation.apply(network)
    return network


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return what the forward passes of a job are lowered to on a device; ``None`` is float32."""
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return None
