"""Epochs of few batches, whose parts are timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from kdsweep.data import Batch, Split, TrainLoader, UnlabelledBatch, UnlabelledLoader
from kdsweep.data.unlabelled import HostUnlabelled
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import learns_unlabelled
from kdsweep.training.report import EpochReport
from kdsweep.training.teacher import Teacher
from kdsweep.trial.batches import random_crop
from kdsweep.trial.cohort import Cohort

if TYPE_CHECKING:
    from kdsweep.config.job import Job


class TimedEpochs:
    """Epochs of a cohort, of few batches and validation frames; serves and times the batches.

    Args:
        job: Whose batches.
        cohort: Whose data and settings.
        device: Where the networks are.
        teacher: The teacher that trains.
        students: The students that train.
        num_frames: Frames in a batch.
        is_end: Whether the batches are the last of an epoch, with one in which gradients are
            measured, and as many frames are scored as a validation scores at once.
    """

    def __init__(
        self,
        job: Job,
        cohort: Cohort,
        device: torch.device,
        teacher: Teacher | None,
        students: Sequence[Learner],
        num_frames: int,
        *,
        is_end: bool = False,
    ) -> None:
        data = cohort.data
        val = slice(2 * num_frames if is_end else 1)
        self.num_frames = num_frames
        self._is_end = is_end
        # More batches to an update would tell little more of what it costs each.
        self._num_batches = min(job.train.accumulate, 2)
        self._device = device
        self._loader = TrainLoader(
            data.train,
            num_frames,
            job.data.augment,
            seed=0,
            device=cohort.loader.device,
            crop=random_crop(job),
        )
        self._unlabelled = None
        if data.unlabelled is not None:
            self._unlabelled = UnlabelledLoader(
                data.unlabelled,
                max(1, round(num_frames * job.train.unlabelled_ratio)),
                job.data.unlabelled_augment,
                seed=0,
                device=cohort.loader.device,
                crop=random_crop(job),
            )
        self._next: UnlabelledBatch | None = None
        frames = Split(data.val.images_NHWC[val], data.val.labels_NHW[val], data.val.names[val])
        self._num_val = len(frames)
        self.engine = Engine(
            teacher=teacher,
            students=students,
            batches=self,
            validation=cohort.frames(frames),
            settings=cohort.engine.settings,
            num_classes=len(data.classes),
            epochs=job.train.epochs,
            accumulate=self._num_batches,
            device=device,
            unlabelled=None if self._unlabelled is None else self,
        )
        self.step_s: list[float] = []
        self.making_s: list[float] = []
        self.finishing_s: list[float] = []
        self.frame_s: list[float] = []

    def train(self) -> None:
        """Train an epoch."""
        # Always the first: terms may end later, and none begins.
        self.engine.epochs_done = 0
        report = next(self.engine.epochs())[0]
        if not isinstance(report, EpochReport):
            raise report
        self.frame_s.append(report.metrics["time/val_s"] / self._num_val)

    def __len__(self) -> int:
        # Short of the end, a last batch is awaited that never comes.
        return self._num_batches if self._is_end else self._num_batches + 1

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Serve the batches."""
        step_s = 0.0
        for number in range(self._num_batches):
            asked = self._now()
            made = next(self._loader.host_batches(number))
            without_labels = self._made_without_labels(number)
            taken = self._now()
            batch = self._loader.finished(made)
            if self._unlabelled is not None and without_labels is not None:
                self._next = self._unlabelled.finished(without_labels)
            given = self._now()
            yield batch
            step_s += self._now() - given
            self.making_s.append(taken - asked)
            self.finishing_s.append(given - taken)
        self.step_s.append(step_s / self._num_batches)

    def _made_without_labels(self, number: int) -> HostUnlabelled | None:
        if self._unlabelled is None or not any(map(learns_unlabelled, self.engine.students)):
            return None
        return next(self._unlabelled.host_steps(number, 1))

    def steps(self, first: int, num: int) -> Iterator[UnlabelledBatch]:
        """Serve what was made, and timed, together with the batches."""
        for _ in range(min(num, self._num_batches)):
            assert self._next is not None
            yield self._next

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
