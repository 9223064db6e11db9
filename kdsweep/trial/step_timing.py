"""Times a few steps of a job's training on noise, before anything of it is trained.

The steps are the engine's own. They neither depend on what the pictures show nor on trained
weights, so no frame is decoded for it, and no weights are fetched.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from kdsweep.data import FrameCounts, HostBatch, SegmentationData, Split, TrainLoader, count_frames
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.models.inference_cost import device_name, measure_inference
from kdsweep.training.checkpoint import save_state
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import TrainingBatch, online_step
from kdsweep.training.step_cost import StepCost
from kdsweep.training.teacher import Teacher
from kdsweep.trial.activation_memory import ActivationMeter
from kdsweep.trial.cohort import Cohort, build_cohort
from kdsweep.trial.extremes import smallest_and_largest
from kdsweep.trial.machine import this_machine

if TYPE_CHECKING:
    from kdsweep.spec.job import Job

# Fewer frames measure a slow step well enough on a CPU; fewer than two are no batch.
_LEAST_FRAMES = 2
_LEAST_ROUNDS = 2
# A whole batch is measured even if that takes so much longer than it should.
_PATIENCE = 3


def measure_step_cost(
    job: Job,
    *,
    device: str = "auto",
    num_threads: int | None = None,
    num_rounds: int = 12,
    seconds: float = 5.0,
    scratch: Path | None = None,
) -> StepCost:
    """Time a few steps of a job.

    Each step is timed ``num_rounds`` times or for about so many ``seconds``, whichever comes first.
    On a CPU, batches that would take a multiple of that by themselves are measured with fewer
    frames, whose number their time goes with.

    Args:
        job: The job.
        device: ``auto`` is CUDA where there is any, else the CPU.
        num_threads: CPU threads; the process's setting if left out.
        num_rounds: Rounds at most.
        seconds: Time for the rounds; building the networks comes on top.
        scratch: Folder for a checkpoint that is written to be timed and deleted again.

    Raises:
        DataError: The job's data set is missing or laid out differently.
        SpecError: The job asks for what the data or networks do not have.
    """
    counts = count_frames(job.data)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    threads_before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        data = noise(job, counts)
        jobs = [untrained(job)]
        # A worker that has built such networks before is faster.
        build_cohort(jobs, data, device=device).close()
        started = time.perf_counter()
        cohort = build_cohort(jobs, data, device=device)
        try:
            for learner in _learners(cohort):
                precision = cohort.engine.settings.precision
                measure_inference(learner.network, job.data.image_size, precision=precision)
            start_s = time.perf_counter() - started
            timing = StepTimer(job, cohort, counts, torch.device(device))
            return replace(timing.run(num_rounds, seconds, scratch), start_s=start_s)
        finally:
            cohort.close()
            del cohort
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
    finally:
        torch.set_num_threads(threads_before)


def measure(
    jobs: Sequence[Job], *, device: str, num_threads: int | None, share: float
) -> dict[str, Any]:
    """Time a few steps of the largest job that jobs with the sections of these could be.

    Args:
        jobs: The jobs.
        device: As for :func:`measure_step_cost`.
        num_threads: As for :func:`measure_step_cost`.
        share: A trial's share of the GPU's memory, or the machine's.

    Returns:
        Plain JSON: ``cost``, a :class:`~kdsweep.training.step_cost.StepCost`; and
        ``memory_bytes``, what a trial may use, ``None`` if that is not known.
    """
    _, largest = smallest_and_largest(jobs)
    cost = measure_step_cost(largest, device=device, num_threads=num_threads)
    machine = this_machine()
    memory = machine.gpu_bytes if device.startswith("cuda") else machine.memory_bytes
    return {
        "cost": cost.to_json(),
        "memory_bytes": None if memory is None else int(memory * share),
    }


def untrained(job: Job) -> Job:
    """The job without what would have to be fetched, compiled or learned."""
    plain = {"encoder_weights": None}
    teacher = None if job.teacher is None else job.teacher.model_copy(update=plain)
    same_rate = {"lr": None}
    train = job.train.model_copy(
        update={
            # Noise must not drive the weights to infinity.
            "lr": 1e-6,
            "teacher": job.train.teacher.model_copy(update=same_rate),
            "student": job.train.student.model_copy(update=same_rate),
            "compile": False,
        }
    )
    return job.model_copy(
        update={
            "teacher": teacher,
            "student": job.student.model_copy(update=plain),
            "distill": job.distill.model_copy(update={"checkpoint": None}),
            "train": train,
        }
    )


def noise(job: Job, counts: FrameCounts) -> SegmentationData:
    """As many random frames as the steps need, in memory."""
    rng = np.random.default_rng(0)
    height, width = job.data.image_size

    def split(num: int) -> Split:
        return Split(
            rng.integers(0, 256, (num, height, width, 3), np.uint8),
            rng.integers(0, counts.num_classes, (num, height, width), np.uint8),
            tuple(map(str, range(num))),
        )

    return SegmentationData(
        name=counts.name,
        classes=tuple(f"class {number}" for number in range(counts.num_classes)),
        palette=np.zeros((counts.num_classes, 3), np.uint8),
        train=split(min(counts.num_train, job.train.batch_size)),
        val=split(min(counts.num_val, 2 * job.train.batch_size)),
        test=None,
        embedded=True,
        notice=None,
        source_path=Path(),
    )


class StepTimer:
    """Steps of one cohort, timed."""

    def __init__(self, job: Job, cohort: Cohort, counts: FrameCounts, device: torch.device) -> None:
        self._job = job
        self._cohort = cohort
        self._counts = counts
        self._device = device
        self._teacher: Teacher | None = cohort.engine.teacher
        self._student: Learner = cohort.engine.students[0]
        self._settings = cohort.engine.settings
        self._batch_size = min(job.train.batch_size, counts.num_train)
        self._epoch = self._busiest_epoch()
        self._times: dict[str, list[float]] = {}

    def run(self, num_rounds: int, seconds: float, scratch: Path | None) -> StepCost:
        """Time everything."""
        accumulate = self._job.train.accumulate
        num_frames = self._affordable_frames(seconds)
        batches = self._batches(num_frames)
        head_start_s = self._head_start(batches)
        if num_frames > _LEAST_FRAMES:
            self._round(batches, measured=False)  # warms up
        self._times.clear()
        started = time.perf_counter()
        rounds = 0
        while rounds < num_rounds and (
            rounds < _LEAST_ROUNDS or time.perf_counter() - started < seconds
        ):
            # What the measured batch costs matters once an epoch.
            self._round(batches, measured=rounds == 0)
            rounds += 1
        scale = self._batch_size / num_frames
        control_s = scale * self._median("control") + self._median("student update") / accumulate
        teacher_s = student_s = shares_s = 0.0
        student_s = control_s
        if self._teacher is not None:
            teacher_s = (
                scale * self._median("teacher") + self._median("teacher update") / accumulate
            )
            # Pair by pair, so that what slowed the machine for both does not count.
            taught = scale * self._median("pair", minus="teacher")
            student_s = max(taught + self._median("student update") / accumulate, control_s)
            shares_s = max(scale * self._median("measured", minus="pair"), 0.0)
        teacher_save_s, student_save_s = self._save(scratch)
        teacher_val_s, student_val_s = self._validation(2 * num_frames)
        return StepCost(
            start_s=0.0,
            teacher_s=teacher_s,
            head_start_s=scale * head_start_s,
            student_s=student_s,
            control_s=control_s,
            shares_s=shares_s,
            batch_s=self._wait(scale * self._median("batch"), teacher_s + student_s)
            + scale * self._median("augment"),
            teacher_val_s=teacher_val_s,
            student_val_s=student_val_s,
            teacher_save_s=teacher_save_s,
            student_save_s=student_save_s,
            num_batches=self._counts.num_train // self._batch_size,
            num_val=self._counts.num_val,
            teacher_bytes=self._teacher_bytes(),
            student_bytes=_learner_bytes(self._student),
            activation_bytes=int(scale * self._activation_bytes(batches)),
            num_frames=num_frames,
            num_rounds=rounds,
            spread=_spread(self._times["control" if self._teacher is None else "pair"]),
            device=device_name(self._device),
            threads=torch.get_num_threads(),
        )

    def planned_activation_bytes(self) -> int:
        """What a step keeps for its backward pass at its peak; nothing is timed.

        On a device without memory (``meta``) it takes none.
        """
        batches = self._batches(self._batch_size)
        most = self._activation_bytes(batches)
        teacher = self._teacher
        if teacher is not None and teacher.in_head_start:
            teacher.head_start_done = teacher.head_start_epochs
            most = max(most, self._activation_bytes(batches))
        return most

    # -- what is timed ---------------------------------------------------------------------------

    def _round(self, batches: Iterator[HostBatch], *, measured: bool) -> None:
        made = self._timed("batch", partial(next, batches))
        images_BHWC, labels_BHW, _ = self._timed(
            "augment", partial(self._cohort.loader.finished, made)
        )
        images_BHWC = images_BHWC.to(self._device)
        labels_BHW = labels_BHW.to(self._device).long()
        make = partial(TrainingBatch, images_BHWC, labels_BHW, epoch=self._epoch, step=0)
        teacher, student = self._teacher, self._student
        self._train_mode()
        if teacher is not None:
            self._step("teacher", teacher, [], make())
            self._timed("teacher update", self._update_teacher)
            self._step("pair", teacher, [student], make())
            self._update_teacher()
            student.update(self._epoch)
            if measured:
                self._step("measured", teacher, [student], make(measure=True))
                self._update_teacher()
                student.update(self._epoch)
        self._step("control", None, [student], make())
        self._timed("student update", partial(student.update, self._epoch))

    def _step(
        self,
        name: str,
        teacher: Teacher | None,
        students: Sequence[Learner],
        batch: TrainingBatch,
    ) -> None:
        self._timed(name, partial(online_step, teacher, students, batch, self._settings))

    def _head_start(self, batches: Iterator[HostBatch]) -> float:
        """Time of a teacher's step in its head start; the teacher then has it behind it."""
        teacher = self._teacher
        if teacher is None or not teacher.in_head_start:
            return 0.0
        self._train_mode()
        for _ in range(1 + _LEAST_ROUNDS):
            images_BHWC, labels_BHW, _ = self._cohort.loader.finished(next(batches))
            batch = TrainingBatch(
                images_BHWC.to(self._device), labels_BHW.to(self._device).long(), 0.0, 0
            )
            self._step("head start", teacher, [], batch)
            self._update_teacher()
        teacher.head_start_done = teacher.head_start_epochs
        return statistics.median(self._times["head start"][1:])

    def _validation(self, num_frames: int) -> tuple[float, float]:
        """Time of a validation frame, of the teacher and a student."""
        val = self._cohort.data.val
        split = Split(
            val.images_NHWC[:num_frames], val.labels_NHW[:num_frames], val.names[:num_frames]
        )
        networks = [self._student.network]
        if self._teacher is not None:
            networks.insert(0, self._teacher.network)
        for name, network in zip(("student", "teacher"), reversed(networks), strict=False):
            for _ in range(_LEAST_ROUNDS):
                self._timed(f"{name} frames", partial(self._cohort.score, network, split))
        # The first time warms up.
        student_s = min(self._times["student frames"]) / len(split)
        if self._teacher is None:
            return 0.0, student_s
        return min(self._times["teacher frames"]) / len(split), student_s

    def _save(self, scratch: Path | None) -> tuple[float, float]:
        """Time of a checkpoint, the teacher's part and the student's."""
        state = self._cohort.engine.state_dict()
        with tempfile.TemporaryDirectory(prefix=".kdsweep-", dir=scratch) as folder:
            checkpoints = CheckpointFolder(Path(folder))
            for epoch in range(2):
                write = partial(save_state, state=state)
                self._timed("save", partial(checkpoints.save, epoch, write))
        teacher = _tensor_bytes(state["teacher"])
        share = teacher / max(teacher + _tensor_bytes(state["students"]), 1)
        whole = min(self._times["save"])
        return share * whole, (1 - share) * whole

    # -- how -------------------------------------------------------------------------------------

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        self._finish()
        started = time.perf_counter()
        result = work()
        self._finish()
        self._times.setdefault(name, []).append(time.perf_counter() - started)
        return result

    def _finish(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _median(self, name: str, *, minus: str | None = None) -> float:
        times = self._times[name]
        if minus is not None:
            times = [a - b for a, b in zip(times, self._times[minus], strict=False)]
        return statistics.median(times)

    def _train_mode(self) -> None:
        if self._teacher is not None:
            self._teacher.train_mode()
        self._student.train_mode()

    def _update_teacher(self) -> None:
        if self._teacher is not None and self._teacher.trains:
            self._teacher.update(self._epoch)

    def _busiest_epoch(self) -> float:
        """A time at which most of the student's terms count."""
        objective = self._student.objective
        times = [epoch + 0.5 for epoch in range(self._job.train.epochs)]
        if objective is None:
            return times[0]
        return max(times, key=lambda time: sum(map(bool, objective.factors(time).values())))

    def _affordable_frames(self, seconds: float) -> int:
        """Frames with which the rounds take about as long as they may."""
        most, least = self._batch_size, min(self._batch_size, _LEAST_FRAMES)
        batches = self._batches(least)
        for _ in range(2):  # the first time warms up
            self._round(batches, measured=False)
        if self._device.type != "cpu":
            return most
        spent = sum(times[-1] for name, times in self._times.items() if "update" not in name)
        self._times.clear()
        wanted = int(_PATIENCE * seconds / (1 + _LEAST_ROUNDS) / (spent / least))
        return min(max(wanted, least), most)

    def _batches(self, num_frames: int) -> Iterator[HostBatch]:
        """Batches that are made here, when they are asked for."""
        loader = TrainLoader(
            self._cohort.data.train,
            num_frames,
            self._job.data.augment,
            seed=0,
            workers=0,
            device=self._cohort.loader.device,
        )
        epoch = 0
        while True:
            yield from loader.host_batches(epoch)
            epoch += 1

    def _wait(self, making_s: float, step_s: float) -> float:
        """How long a step waits for its batch."""
        workers = self._cohort.loader.workers
        # Loader processes are at work while the step is.
        return making_s if workers == 0 else max(0.0, making_s / workers - step_s)

    # -- memory ----------------------------------------------------------------------------------

    def _activation_bytes(self, batches: Iterator[HostBatch]) -> int:
        """What a step needs at its peak beyond weights, gradients and optimiser state."""
        images_BHWC, labels_BHW, _ = self._cohort.loader.finished(next(batches))
        batch = TrainingBatch(
            images_BHWC.to(self._device), labels_BHW.to(self._device).long(), self._epoch, 0
        )
        self._train_mode()
        step = partial(online_step, self._teacher, [self._student], batch, self._settings)
        if self._device.type == "cuda":
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            step()
            peak = torch.cuda.max_memory_allocated(self._device)
            gradients = sum(gradient_bytes(learner) for learner in _learners(self._cohort))
            return max(0, peak - before - gradients)
        with ActivationMeter(self._weights()) as meter:
            step()
        return meter.peak_bytes

    def _weights(self) -> list[nn.Module]:
        modules = list(self._student.modules)
        if self._teacher is not None:
            modules += [*self._teacher.learner.modules, self._teacher.network]
        return modules

    def _teacher_bytes(self) -> int:
        teacher = self._teacher
        if teacher is None:
            return 0
        average = 0 if teacher.average is None else module_bytes(teacher.average)
        return _learner_bytes(teacher.learner) + average


def _learners(cohort: Cohort) -> list[Learner]:
    teacher = cohort.engine.teacher
    return [*([] if teacher is None else [teacher.learner]), *cohort.engine.students]


def _learner_bytes(learner: Learner) -> int:
    weights = sum(map(module_bytes, learner.modules))
    return weights + gradient_bytes(learner) + _tensor_bytes(learner.optimizer.state_dict())


def gradient_bytes(learner: Learner) -> int:
    """Bytes of a learner's gradients."""
    trained = (p for module in learner.modules for p in module.parameters() if p.requires_grad)
    return sum(p.nbytes for p in trained)


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights and buffers."""
    return sum(value.nbytes for value in (*module.parameters(), *module.buffers()))


def _tensor_bytes(node: Any) -> int:
    if isinstance(node, torch.Tensor):
        return node.nbytes
    if isinstance(node, dict):
        return sum(map(_tensor_bytes, node.values()))
    return sum(map(_tensor_bytes, node)) if isinstance(node, list | tuple) else 0


def _spread(times: Sequence[float]) -> float:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / statistics.median(times)
