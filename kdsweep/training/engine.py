"""Trains one teacher and its students on the same batches, and yields a report an epoch.

Shape legend: B batch, H W image size.

The engine is a generator: stopping, pruning and checkpointing are decisions of whoever consumes
it, between two reports.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from kdsweep.errors import NonFiniteLossError
from kdsweep.training.evaluation import Predictions, evaluate
from kdsweep.training.learner import Learner
from kdsweep.training.metrics import Scores
from kdsweep.training.online_step import StepSettings, Values, online_step
from kdsweep.training.report import EpochReport

if TYPE_CHECKING:
    from kdsweep.data import Batch

# Looking at a loss stops the host until the device has caught up, so it is done rarely; a run
# that has diverged then wastes at most this many steps.
STEPS_BETWEEN_CHECKS = 200


class BatchSource(Protocol):
    """Where training batches come from: a train loader, or tensors in memory in benchmarks."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0."""


class Engine:
    """One cohort in training.

    Args:
        teacher: The teacher, or ``None`` when only controls train.
        students: The students; a control is one without an objective.
        batches: Training batches.
        validation: Validation frames.
        settings: Losses and precision.
        num_classes: K.
        epochs: Epochs in all.
        accumulate: Batches per optimiser step.
        device: Where to train; the networks are moved there.
        keep: Validation frames whose latest predictions are kept in :attr:`predictions`.
    """

    def __init__(
        self,
        *,
        teacher: Learner | None,
        students: Sequence[Learner],
        batches: BatchSource,
        validation: Iterable[Batch],
        settings: StepSettings,
        num_classes: int,
        epochs: int,
        accumulate: int = 1,
        device: torch.device | str = "cpu",
        keep: Collection[int] = (),
    ) -> None:
        self.teacher = teacher
        self.students = list(students)
        self.epochs_done = 0
        self.predictions: Predictions = {}
        self._batches = batches
        self._validation = validation
        self._settings = settings
        self._num_classes = num_classes
        self._epochs = epochs
        self._accumulate = accumulate
        self._device = torch.device(device)
        self._keep = frozenset(keep)
        for learner in self._learners():
            learner.to(self._device)
        settings.supervised.to(self._device)

    def _learners(self) -> list[Learner]:
        return [*([] if self.teacher is None else [self.teacher]), *self.students]

    def epochs(self) -> Iterator[tuple[EpochReport, ...]]:
        """Train the epochs that are left.

        Yields:
            One report per student, in the order of the students, after each epoch.

        Raises:
            NonFiniteLossError: A loss became NaN or infinite.
        """
        while self.epochs_done < self._epochs:
            started = time.perf_counter()
            teacher_values, student_values = self._train_epoch(self.epochs_done)
            trained = time.perf_counter()
            scores = self._validate()
            ended = time.perf_counter()
            self.epochs_done += 1
            timing = {
                "time/train_s": trained - started,
                "time/val_s": ended - trained,
                "time/images_per_s": self._num_images / (trained - started),
            }
            shared = timing | self._metrics("teacher", self.teacher, teacher_values, scores)
            yield tuple(
                self._report(index, values, scores, shared, ended - started)
                for index, values in enumerate(student_values)
            )

    def _train_epoch(self, epoch: int) -> tuple[dict[str, float], list[dict[str, float]]]:
        for learner in self._learners():
            learner.train_mode()
        num_batches = len(self._batches)
        totals = _Totals(len(self.students))
        self._num_images = 0
        for index, (images_BHWC, labels_BHW, _) in enumerate(self._batches.epoch(epoch)):
            self._num_images += len(images_BHWC)
            # The last group of an epoch may be smaller; its batches then count for more.
            group_start = index - index % self._accumulate
            group_size = min(self._accumulate, num_batches - group_start)
            now = epoch + (index + 0.5) / num_batches
            teacher_values, student_values = online_step(
                self.teacher,
                self.students,
                images_BHWC.to(self._device, non_blocking=True),
                labels_BHW.to(self._device, non_blocking=True).long(),
                settings=self._settings,
                epoch=now,
                step=epoch * num_batches + index,
                share=1.0 / group_size,
            )
            if index + 1 == group_start + group_size:
                middle = epoch + (group_start + group_size / 2) / num_batches
                for learner in self._learners():
                    learner.update(middle)
            totals.add(teacher_values, student_values)
            if (index + 1) % STEPS_BETWEEN_CHECKS == 0:
                totals.check(epoch)
        totals.check(epoch)
        return totals.means()

    def _validate(self) -> dict[str, Scores]:
        networks = {f"student{i}": s.network for i, s in enumerate(self.students)}
        if self.teacher is not None:
            networks["teacher"] = self.teacher.network
        scores, self.predictions = evaluate(
            networks,
            self._validation,
            num_classes=self._num_classes,
            device=self._device,
            settings=self._settings,
            keep=self._keep,
        )
        return scores

    def _metrics(
        self,
        prefix: str,
        learner: Learner | None,
        values: dict[str, float],
        scores: dict[str, Scores],
        name: str | None = None,
    ) -> dict[str, float]:
        if learner is None:
            return {}
        score = scores[name or prefix]
        metrics = {
            "miou": score.miou,
            "pixel_accuracy": score.pixel_accuracy,
            "num_classes": float(score.num_classes),
            "seed_compat_iou": score.seed_compat_iou,
            "lr": float(learner.optimizer.param_groups[0]["lr"]),
            "params_m": learner.network.num_parameters() / 1e6,
            **values,
        }
        return {f"{prefix}/{key}": value for key, value in metrics.items()}

    def _report(
        self,
        index: int,
        values: dict[str, float],
        scores: dict[str, Scores],
        shared: dict[str, float],
        seconds: float,
    ) -> EpochReport:
        name = f"student{index}"
        own = self._metrics("student", self.students[index], values, scores, name)
        classes = {"student": scores[name].ious}
        if self.teacher is not None:
            classes["teacher"] = scores["teacher"].ious
        return EpochReport(
            epoch=self.epochs_done, metrics=own | shared, classes=classes, seconds=seconds
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on; random streams depend on the epoch alone."""
        return {
            "epochs_done": self.epochs_done,
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "students": [student.state_dict() for student in self.students],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        for student, saved in zip(self.students, state["students"], strict=True):
            student.load_state_dict(saved)
        self.epochs_done = int(state["epochs_done"])


class _Totals:
    """Sums of loss values over an epoch, kept on the device."""

    def __init__(self, num_students: int) -> None:
        self._sums: list[dict[str, Tensor]] = [{} for _ in range(num_students + 1)]
        self._num_steps = 0

    def add(self, teacher_values: Values, student_values: Sequence[Values]) -> None:
        self._num_steps += 1
        for sums, values in zip(self._sums, (teacher_values, *student_values), strict=True):
            for key, value in values.items():
                sums[key] = sums[key] + value if key in sums else value.clone()

    def check(self, epoch: int) -> None:
        """Raise if a loss was not finite since the epoch began (a sum keeps NaN and infinity)."""
        for number, means in enumerate(self._all_means()):
            for key, mean in means.items():
                if not math.isfinite(mean):
                    who = "teacher" if number == 0 else "student"
                    raise NonFiniteLossError(
                        f"the {who}'s loss {key!r} became {mean} in epoch {epoch + 1}; "
                        f"try a smaller train.lr, a smaller distillation weight, or train.clip_norm"
                    )

    def means(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Mean over the epoch's batches, of the teacher and of each student."""
        teacher, *students = self._all_means()
        return teacher, students

    def _all_means(self) -> list[dict[str, float]]:
        # One transfer for all values instead of one each.
        flat = [value for sums in self._sums for value in sums.values()]
        numbers = iter(torch.stack(flat).tolist()) if flat else iter(())
        return [{key: next(numbers) / self._num_steps for key in sums} for sums in self._sums]
