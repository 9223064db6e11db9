"""Whether the trials that share a GPU fit into its memory, told before any of them starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from kdsweep.data import count_frames
from kdsweep.errors import ResourceError
from kdsweep.plain_text import counted
from kdsweep.training.learner import Learner
from kdsweep.trial.cohort import autocast_dtype
from kdsweep.trial.extremes import smallest_and_largest
from kdsweep.trial.machine import this_machine
from kdsweep.trial.training_memory import activation_bytes, gradient_bytes, module_bytes
from kdsweep.trial.untrained import untrained_cohort

if TYPE_CHECKING:
    from kdsweep.config.job import Job

# What a process takes on a GPU before its first tensor: the driver's context, and the code of
# cuDNN and cuBLAS. Nothing here can measure it; 0.3 to 0.7 GB is usual.
CONTEXT_BYTES = 600_000_000
# Work space of kernels, and memory in pieces, on top of what tensors hold.
WORK_SPACE = 0.1


@dataclass(frozen=True)
class MemoryEstimate:
    """What training needs on a GPU, counted on networks without values.

    Attributes:
        weights_bytes: Weights and buffers of all networks and projections.
        moments_bytes: What optimisers keep.
        gradient_bytes: Gradients that live at the same time.
        activation_bytes: What the larger of the passes keeps for its backward pass, in float32.
        cast_bytes: Copies of weights in lower precision that a pass keeps.
        half: Whether passes run in 16 bits, so that about half of the activations' bytes are left.
        compiled: Whether networks are compiled, which may keep less than is counted.
    """

    weights_bytes: int
    moments_bytes: int
    gradient_bytes: int
    activation_bytes: int
    cast_bytes: int
    half: bool
    compiled: bool

    @property
    def certain_bytes(self) -> int:
        """What it cannot do without."""
        # A pass keeps its activations while there are no gradients yet.
        passing = 0 if self.compiled else self._activations
        return self.weights_bytes + self.moments_bytes + max(self.gradient_bytes, passing)

    @property
    def bytes(self) -> int:
        """What it should need at its peak, the process's own share of the GPU included."""
        tensors = self.weights_bytes + self.moments_bytes + self.gradient_bytes
        tensors += self._activations + self.cast_bytes
        return int((1 + WORK_SPACE) * tensors) + CONTEXT_BYTES

    @property
    def _activations(self) -> int:
        return self.activation_bytes // 2 if self.half else self.activation_bytes


def estimate_memory(job: Job, *, half: bool, students: int = 1) -> MemoryEstimate:
    """Return what a job needs on a GPU.

    Its networks are built and run once without memory for what they compute, so that it takes
    seconds, and no GPU.

    Args:
        job: The job.
        half: Whether passes run in 16 bits.
        students: Students of its teacher, controls that ride along counted.
    """
    counts = count_frames(job.data)
    cohort = untrained_cohort(job, counts)
    meta = torch.device("meta")
    engine = cohort.engine
    teacher = engine.teacher
    try:
        if teacher is not None:
            teacher.to(meta)
        for learner in engine.students:
            learner.to(meta)
        engine.settings.supervised.to(meta)
        shape_BHW = (min(job.train.batch_size, counts.num_train), *job.data.train_size)
        unlabelled = 0 if cohort.unlabelled is None else cohort.unlabelled.batch_size
        activations = activation_bytes(engine, shape_BHW, meta, unlabelled)
        if teacher is not None and teacher.in_head_start:
            teacher.head_start_done = teacher.head_start_epochs
            activations = max(activations, activation_bytes(engine, shape_BHW, meta, unlabelled))
    finally:
        cohort.close()
    (student,) = engine.students
    trained = [student]
    weights = students * _weights(student)
    if student.average is not None:
        weights += students * module_bytes(student.average.network)
    moments = students * _moments(student)
    if teacher is not None:
        weights += _weights(teacher.learner)
        if teacher.average is not None:
            weights += module_bytes(teacher.average.network)
        if not teacher.frozen or teacher.head_start_epochs:
            trained.append(teacher.learner)
            moments += _moments(teacher.learner)
    gradients = [gradient_bytes(learner) for learner in trained]
    gathered = job.train.accumulate > 1 or job.distill.is_mutual
    return MemoryEstimate(
        weights_bytes=weights,
        moments_bytes=moments,
        # Each network's are freed before the next one's turn, unless batches are gathered.
        gradient_bytes=sum(gradients) + (students - 1) * gradients[0]
        if gathered
        else max(gradients),
        activation_bytes=activations,
        cast_bytes=max(map(_weights, trained)) // 2 if half else 0,
        half=half,
        compiled=job.train.compile_mode is not None,
    )


def _weights(learner: Learner) -> int:
    return sum(map(module_bytes, learner.modules))


def _moments(learner: Learner) -> int:
    optimizer = learner.optimizer
    if isinstance(optimizer, torch.optim.SGD):
        return gradient_bytes(learner) * bool(optimizer.defaults["momentum"])
    return 2 * gradient_bytes(learner)


@dataclass(frozen=True)
class PackedTrials:
    """Trials that share a GPU, against its memory.

    Attributes:
        label: The largest of them, in words.
        batch_size: Its frames.
        trials: Trials on one GPU at a time.
        certain_bytes: What each cannot do without.
        trial_bytes: What each should need.
        gpu_bytes: Memory of the smallest GPU.
    """

    label: str
    batch_size: int
    trials: int
    certain_bytes: int
    trial_bytes: int
    gpu_bytes: int

    @property
    def fits(self) -> bool:
        """Whether they should fit."""
        return self.trials * self.trial_bytes <= self.gpu_bytes

    @property
    def cannot_fit(self) -> bool:
        """Whether they certainly do not."""
        return self.trials * self.certain_bytes > self.gpu_bytes

    def __str__(self) -> str:
        return (
            f"{self._trials} on a GPU of {_gb(self.gpu_bytes)}, each about {_gb(self.trial_bytes)} "
            f"({self._largest}), {_gb(self.trials * self.trial_bytes)} in all"
        )

    @property
    def _trials(self) -> str:
        return counted(self.trials, "trial")

    @property
    def _largest(self) -> str:
        return f"{self.label}, batch size {self.batch_size}"

    @property
    def advice(self) -> str:
        """What to do where they do not fit."""
        most = max(1, self.gpu_bytes // self.trial_bytes)
        fewer = f"resources.gpus_per_trial: {1 / most:.3g}, or " if most < self.trials else ""
        return f"{fewer}a train.batch_size below {self.batch_size}"

    def as_measured(self, tensor_bytes: int) -> PackedTrials:
        """The same with the most that the allocator gave a trial in place of the estimate."""
        return replace(self, trial_bytes=tensor_bytes + CONTEXT_BYTES)

    def error(self) -> ResourceError:
        """The error about trials that certainly do not fit."""
        return ResourceError(
            f"resources.gpus_per_trial: {self._trials} on one GPU cannot fit into its memory\n"
            f"  value:   {self.trials} × {_gb(self.certain_bytes)} for weights, optimiser and "
            f"activations alone ({self._largest}); with all else about {_gb(self.trial_bytes)} "
            "each\n"
            f"  there:   {_gb(self.gpu_bytes)}\n"
            f"  try:     {self.advice}"
        )

    @property
    def warning(self) -> str:
        """What to say of trials that may not fit."""
        return f"warning: memory may run out: {self}\n  try:     {self.advice}"


def trials_per_gpu(gpus_per_trial: float) -> int:
    """Trials that share one GPU."""
    return max(1, math.floor(1 / gpus_per_trial + 1e-6))


def pack(job: Job, *, gpus_per_trial: float, gpu_bytes: int, students: int = 1) -> PackedTrials:
    """Trials of a job on one GPU, against its memory.

    Args:
        job: The job.
        gpus_per_trial: Each one's share of a GPU.
        gpu_bytes: The GPU's memory.
        students: As for :func:`estimate_memory`.
    """
    half = autocast_dtype(job.train.precision, torch.device("cuda")) is not None
    estimate = estimate_memory(job, half=half, students=students)
    return PackedTrials(
        label=job.label,
        batch_size=job.train.batch_size,
        trials=trials_per_gpu(gpus_per_trial),
        certain_bytes=estimate.certain_bytes,
        trial_bytes=estimate.bytes,
        gpu_bytes=gpu_bytes,
    )


def check_memory(jobs: Sequence[Job], gpus_per_trial: float, students: int = 1) -> str | None:
    """Look whether trials fit on this machine's GPUs.

    Args:
        jobs: Jobs that together show every choice of a search space.
        gpus_per_trial: Each trial's share of a GPU; 0 where there is none.
        students: As for :func:`estimate_memory`.

    Returns:
        What to warn of, if memory may run out.

    Raises:
        ResourceError: It certainly does.
    """
    gpu_bytes = this_machine().gpu_bytes
    if not gpus_per_trial or not gpu_bytes:
        return None
    _, largest = smallest_and_largest(jobs)
    packed = pack(largest, gpus_per_trial=gpus_per_trial, gpu_bytes=gpu_bytes, students=students)
    if packed.cannot_fit:
        raise packed.error()
    return None if packed.fits else packed.warning


def keep_to_share(gpus_per_trial: float) -> None:
    """Let this process take no more than its share of its GPU, so that its neighbours have theirs.

    Torch raises an out-of-memory error at the limit, as at the GPU's own.

    Args:
        gpus_per_trial: The share; nothing is limited at 1 and above, or without a GPU.
    """
    if not 0 < gpus_per_trial < 1 or not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(0).total_memory
    # The context is not torch's, and no limit of its allocator counts it.
    own = gpus_per_trial * total - CONTEXT_BYTES
    if own > 0:
        torch.cuda.set_per_process_memory_fraction(own / total, 0)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e9 else f"{size / 1e9:.1f} GB"
