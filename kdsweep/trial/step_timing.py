"""Times a job's training on noise, before anything of it is trained.

Whole steps of the engine are timed, with a student, with two, and with a control alone, and the end
of an epoch with a student and with the control. What two of these differ in, a student or the
teacher, costs what their times differ by.
"""

from __future__ import annotations

import operator
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from kdsweep.data import (
    FrameCounts,
    count_frames,
)
from kdsweep.ledger.layout import TrialFolder
from kdsweep.models.inference_cost import device_name, measure_inference
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.step_cost import StepCost
from kdsweep.trial.cohort import Cohort
from kdsweep.trial.cohort_checkpoint import CohortCheckpoint
from kdsweep.trial.extremes import smallest_and_largest
from kdsweep.trial.freed_memory import keep_freed_memory
from kdsweep.trial.machine import this_machine
from kdsweep.trial.timed_epochs import TimedEpochs
from kdsweep.trial.training_memory import activation_bytes, learner_bytes, teacher_bytes
from kdsweep.trial.untrained import untrained_cohort

if TYPE_CHECKING:
    from kdsweep.config.job import Job

# Fewer frames measure a slow step well enough on a CPU; fewer than two are no batch.
_LEAST_FRAMES = 2
_LEAST_ROUNDS = 2
# A whole batch is measured even if that takes so much longer than it should.
_PATIENCE = 4
# About what the first rounds take, in steps of a teacher with a student, and of a control alone.
_PAIR_ROUND, _CONTROL_ROUND = 6, 3


def measure_step_cost(
    job: Job,
    *,
    device: str,
    num_threads: int | None = None,
    num_rounds: int = 8,
    seconds: float = 5.0,
    scratch: Path | None = None,
) -> StepCost:
    """Time a few steps of a job.

    Each step is timed ``num_rounds`` times or for about so many ``seconds``, whichever comes first.
    On a CPU, batches that would take a multiple of that by themselves are measured with fewer
    frames, whose number their time goes with.

    Args:
        job: The job.
        device: ``cpu`` or ``cuda``.
        num_threads: CPU threads; the process's setting if left out.
        num_rounds: Rounds at most.
        seconds: Time for the rounds; building the networks comes on top.
        scratch: Folder for a checkpoint that is written to be timed and deleted again.

    Raises:
        DataError: The job's data set is missing or laid out differently.
        ConfigError: The job asks for what the data or networks do not have.
    """
    counts = count_frames(job.data)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    keep_freed_memory(torch.device(device))
    # A worker that has built such networks before is faster.
    untrained_cohort(job, counts, device=device).close()
    started = time.perf_counter()
    cohort = _begun(job, counts, device)
    start_s = time.perf_counter() - started
    try:
        cost = _timed(job, cohort, counts, torch.device(device), num_rounds, seconds, scratch)
        return replace(cost, start_s=start_s)
    finally:
        cohort.close()
        del cohort
        if device == "cuda":
            torch.cuda.empty_cache()


def measure(
    jobs: Sequence[Job],
    *,
    device: str,
    num_threads: int | None,
    share: float,
    each: bool = False,
) -> dict[str, Any]:
    """Time a few steps of the largest job that jobs with the sections of these could be.

    Args:
        jobs: The jobs.
        device: As for :func:`measure_step_cost`.
        num_threads: As for :func:`measure_step_cost`.
        share: A trial's share of the GPU's memory, or the machine's.
        each: Whether to time each job instead.

    Returns:
        Plain JSON: ``costs``, of each of the jobs in their order; or else ``cost``. Each is a
        :class:`~kdsweep.training.step_cost.StepCost`. Beside ``cost`` stands
        ``memory_bytes``, what a trial may use, ``None`` if that is not known.
    """
    if each:
        costs = [measure_step_cost(job, device=device, num_threads=num_threads) for job in jobs]
        return {"costs": [cost.to_json() for cost in costs]}
    _, largest = smallest_and_largest(jobs)
    cost = measure_step_cost(largest, device=device, num_threads=num_threads)
    machine = this_machine()
    memory = machine.gpu_bytes if device.startswith("cuda") else machine.memory_bytes
    return {
        "cost": cost.to_json(),
        "memory_bytes": None if memory is None else int(memory * share),
    }


def _begun(job: Job, counts: FrameCounts, device: str) -> Cohort:
    """A cohort before its first step."""
    cohort = untrained_cohort(job, counts, device=device)
    teacher, engine = cohort.engine.teacher, cohort.engine
    for learner in [*engine.students, *([] if teacher is None else [teacher.learner])]:
        precision = engine.settings.precision
        measure_inference(learner.network, job.data.image_size, precision=precision)
    return cohort


def _timed(
    job: Job,
    cohort: Cohort,
    counts: FrameCounts,
    device: torch.device,
    num_rounds: int,
    seconds: float,
    scratch: Path | None,
) -> StepCost:
    teacher, (student,) = cohort.engine.teacher, cohort.engine.students
    if teacher is not None:  # a head start is timed by itself
        teacher.head_start_done = teacher.head_start_epochs
    batch_size = min(job.train.batch_size, counts.num_train)
    epochs = partial(TimedEpochs, job, cohort, device)
    num_frames = batch_size
    if device.type == "cpu":
        few = epochs(teacher, [student], min(batch_size, _LEAST_FRAMES))
        num_frames = _affordable_frames(few, batch_size, seconds)
    scale = batch_size / num_frames
    # The same network, learning from its labels alone.
    control = Learner(
        student.network, student.optimizer, student.schedule, clip_norm=student.clip_norm
    )
    one = alone = epochs(None, [control], num_frames)
    if student.average is not None:
        one = epochs(None, [student], num_frames)
    end = alone_end = epochs(None, [control], num_frames, is_end=True)
    steps, ends = [one, alone] if one is not alone else [alone], [alone_end]
    if teacher is not None:
        one = epochs(teacher, [student], num_frames)
        # One student twice works like two, and takes no more memory.
        two = epochs(teacher, [student, student], num_frames)
        end = epochs(teacher, [student], num_frames, is_end=True)
        steps, ends = [one, two, alone], [end, alone_end]
    rounds = 0
    started = time.perf_counter()
    while rounds < num_rounds and (
        rounds < _LEAST_ROUNDS or time.perf_counter() - started < seconds
    ):
        # The ends come first, to warm up.
        for kind in [*ends, *steps] if rounds < _LEAST_ROUNDS else steps:
            kind.train()
        rounds += 1
    one_s, control_s = scale * median(one.step_s), scale * median(alone.step_s)
    student_s, shares_s, head_start_s = max(one_s, control_s), 0.0, 0.0
    if teacher is not None:
        # Round by round, so that what slowed the machine for both does not count.
        student_s = scale * median(map(operator.sub, two.step_s, one.step_s))
        student_s = min(max(student_s, control_s), one_s)
        shares_s = end.step_s[-1] - one.step_s[_LEAST_ROUNDS - 1]
        shares_s = scale * len(end) * max(shares_s, 0.0)
        if teacher.head_start_epochs:
            first = epochs(teacher, [], num_frames)
            for _ in range(_LEAST_ROUNDS):
                teacher.head_start_done = teacher.head_start_epochs - 1
                next(first.engine.head_start())
            head_start_s = scale * min(first.step_s)
    shape_BHW = (num_frames, *job.data.train_size)
    unlabelled = 0 if cohort.unlabelled is None else cohort.unlabelled.batch_size
    unlabelled = round(unlabelled / scale)
    # The first time warms up.
    pair_val_s, student_val_s = min(end.frame_s), min(alone_end.frame_s)
    student_save_s = _save(job, alone.engine, scratch)
    pair_save_s = student_save_s if teacher is None else _save(job, one.engine, scratch)
    making_s, workers = scale * median(one.making_s), cohort.loader.workers
    if workers:  # they are at work while the step is
        making_s = max(0.0, making_s / workers - one_s)
    return StepCost(
        start_s=0.0,
        teacher_s=max(one_s - student_s, 0.0),
        head_start_s=head_start_s,
        student_s=student_s,
        control_s=control_s,
        shares_s=shares_s,
        batch_s=making_s + scale * median(one.finishing_s),
        teacher_val_s=max(pair_val_s - student_val_s, 0.0),
        student_val_s=student_val_s,
        teacher_save_s=max(pair_save_s - student_save_s, 0.0),
        student_save_s=student_save_s,
        num_batches=counts.num_train // batch_size,
        num_val=counts.num_val,
        teacher_bytes=teacher_bytes(teacher),
        student_bytes=learner_bytes(student),
        activation_bytes=int(scale * activation_bytes(one.engine, shape_BHW, device, unlabelled)),
        num_frames=num_frames,
        num_rounds=rounds,
        spread=_spread(one.step_s),
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def _affordable_frames(few: TimedEpochs, most: int, seconds: float) -> int:
    """Frames with which the first rounds take about as long as they may."""
    for _ in range(2):  # the first time warms up
        few.train()
    round_s = (_CONTROL_ROUND if few.engine.teacher is None else _PAIR_ROUND) * few.step_s[-1]
    wanted = int(_PATIENCE * seconds / _LEAST_ROUNDS / (round_s / few.num_frames))
    return min(max(wanted, few.num_frames), most)


def _save(job: Job, engine: Engine, scratch: Path | None) -> float:
    """Time of a checkpoint."""
    state = engine.state_dict()
    (learner,) = state.pop("students")
    seconds = []
    with tempfile.TemporaryDirectory(prefix=".kdsweep-", dir=scratch) as name:
        folder = TrialFolder(Path(name))
        checkpoint = CohortCheckpoint(folder, keep=2)
        for epoch in range(2):
            started = time.perf_counter()
            checkpoint.save(epoch, state, [(job, folder, {"learner": learner})])
            seconds.append(time.perf_counter() - started)
    return min(seconds)


def _spread(times: Sequence[float]) -> float:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / median(times)
