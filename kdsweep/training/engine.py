"""Trains one teacher and its students on the same batches, and yields a report an epoch.

Shape legend: B batch, H W image size.

The engine is a generator: stopping, pruning and checkpointing are decisions of whoever consumes
it, between two reports.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kdsweep.config.metrics import LABELLED, SEEN, MiouOver
from kdsweep.errors import NonFiniteLossError, StepError, TrainingError
from kdsweep.models import SegmentationNetwork
from kdsweep.pulse import TRAINING, VALIDATING, Pulse
from kdsweep.training.evaluation import Evaluation, Predictions, evaluate
from kdsweep.training.learner import Learner
from kdsweep.training.metrics import Scores
from kdsweep.training.online_step import learns_unlabelled, online_step
from kdsweep.training.report import EpochReport
from kdsweep.training.step import StepSettings, TrainingBatch, Values
from kdsweep.training.teacher import Teacher

if TYPE_CHECKING:
    from kdsweep.data import Batch, UnlabelledBatch

# Looking at a loss stops the host until the device has caught up, so it is done rarely; a run
# that has diverged then wastes at most this many steps.
STEPS_BETWEEN_CHECKS = 200


TEACHER = "teacher"


class BatchSource(Protocol):
    """Where training batches come from: a train loader, or tensors in memory in benchmarks."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0."""


class UnlabelledSource(Protocol):
    """Where batches without labels come from."""

    def steps(self, first: int, num: int) -> Iterator[UnlabelledBatch]:
        """The batches of ``num`` steps from step ``first`` on."""


class Engine:
    """One cohort in training.

    Args:
        teacher: The teacher, or ``None`` when only controls train.
        students: The students; a control is one without an objective.
        settings: Losses and precision.
        num_classes: K.
        epochs: Epochs in all.
        accumulate: Batches per optimiser step.
        device: Where to train; the networks are moved there.
        keep: Validation frames whose latest predictions are kept in :attr:`predictions`.
        over: The classes that count in mIoU.
        unlabelled: Training frames without labels, for students that learn from them.
        native: Labels of the validation frames at their own size, which are scored against where
            they are given (see :func:`~kdsweep.training.evaluation.evaluate`).
        pulse: Told of each step.

    Attributes:
        confusions: Confusion matrix of each network's latest validation, by the names that
            :attr:`predictions` has too.
    """

    def __init__(
        self,
        *,
        teacher: Teacher | None,
        students: Sequence[Learner],
        batches: BatchSource,
        validation: Iterable[Batch],
        settings: StepSettings,
        num_classes: int,
        epochs: int,
        accumulate: int = 1,
        device: torch.device | str = "cpu",
        keep: Collection[int] = (),
        over: MiouOver = LABELLED,
        native: Iterable[np.ndarray] | None = None,
        unlabelled: UnlabelledSource | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self.teacher = teacher
        self.students = list(students)
        self.epochs_done = 0
        self.predictions: Predictions = {}
        self.confusions: dict[str, np.ndarray] = {}
        self._batches = batches
        self._validation = validation
        self._settings = settings
        self._num_classes = num_classes
        self._epochs = epochs
        self._accumulate = accumulate
        self._device = torch.device(device)
        self._keep = frozenset(keep)
        self._over = over
        self._native = native
        self._unlabelled = unlabelled
        self._pulse = pulse or Pulse()
        for learner in self._all():
            learner.to(self._device)
        settings.supervised.to(self._device)

    @property
    def settings(self) -> StepSettings:
        """What all steps share."""
        return self._settings

    def _all(self) -> list[Teacher | Learner]:
        return [*([] if self.teacher is None else [self.teacher]), *self.students]

    def head_start(self) -> Iterator[dict[str, float]]:
        """Train the teacher alone, as far as it has a head start that is not over.

        The students' first epochs see the batches that they would see without it: the teacher's
        own epochs come from beyond the last of theirs.

        Yields:
            The teacher's mean loss values after each of its epochs.

        Raises:
            NonFiniteLossError: A loss became NaN or infinite.
        """
        while self.teacher is not None and self.teacher.in_head_start:
            started = time.perf_counter()
            done = self.teacher.head_start_done
            values, _ = self._train_epoch(self._epochs + done, [], start=done)
            self.teacher.head_start_done += 1
            self.teacher.head_start_s += time.perf_counter() - started
            yield values

    def epochs(self) -> Iterator[tuple[EpochReport | TrainingError, ...]]:
        """Train the epochs that are left.

        Yields:
            After each epoch the report of each student, in their order; in place of it the error
            of one whose loss became NaN or infinite, or whose step failed. Such a student is out
            of :attr:`students` when the next epoch begins, and the others go on.

        Raises:
            NonFiniteLossError: A loss of the teacher, or of the last student, became NaN or
                infinite.
            StepError: Steps of all students failed. What a student raises that trains alone, or
                what concerns all (memory, the device), is raised as it is.
        """
        for _ in self.head_start():
            pass
        while not self.is_over and self.students:
            started = time.perf_counter()
            teacher_values, student_values = self._train_epoch(
                self.epochs_done, self.students, start=self.epochs_done
            )
            errors = [value for value in student_values if isinstance(value, TrainingError)]
            if len(errors) == len(self.students):
                raise errors[0]
            trained = time.perf_counter()
            trained_well = [not isinstance(v, TrainingError) for v in student_values]
            found = self._validate(trained_well)
            ended = time.perf_counter()
            self.epochs_done += 1
            timing = {
                "time/train_s": trained - started,
                "time/val_s": ended - trained,
                "time/images_per_s": self._num_images / (trained - started),
            }
            seconds = ended - started
            if self.epochs_done == 1 and self.teacher is not None and self.teacher.head_start_s:
                timing["time/head_start_s"] = self.teacher.head_start_s
                seconds += self.teacher.head_start_s
            shared = timing | self._teacher_metrics(teacher_values, found)
            failed = [
                student
                for student, is_well in zip(self.students, trained_well, strict=True)
                if not is_well
            ]
            yield tuple(
                value
                if isinstance(value, TrainingError)
                else self._report(index, value, found, shared, seconds)
                for index, value in enumerate(student_values)
            )
            self.students = [student for student in self.students if student not in failed]

    def leave(self, positions: Collection[int]) -> None:
        """Let students, by place, go between two reports; the others step as they would have."""
        self.students = [s for index, s in enumerate(self.students) if index not in positions]

    def _train_epoch(
        self, stream: int, students: Sequence[Learner], *, start: int
    ) -> tuple[dict[str, float], list[dict[str, float] | TrainingError]]:
        """Train the teacher and some students for one epoch.

        A student that diverges, or whose step fails, takes no further steps.

        Args:
            stream: Which epoch's order of frames, augmentation and dropout.
            students: The students that take part.
            start: Epochs that the students (in a head start, the teacher) have behind them.
        """
        for learner in self._all():
            learner.train_mode()
        teacher = self.teacher
        # The teacher's clock is ahead of its students' by its head start.
        ahead = teacher.head_start_done if teacher is not None and students else 0
        num_batches = len(self._batches)
        # Near the end of the epoch, and first of its group: gradients start from nothing there.
        measured = (num_batches - 1) // self._accumulate * self._accumulate
        totals = _Totals(len(students))
        training = list(range(len(students)))
        errors: dict[int, TrainingError] = {}
        self._num_images = 0
        batches = self._with_unlabelled(stream, students)
        doing = TRAINING if students else "head start of the teacher"
        self._pulse(doing, 0, num_batches, epoch=start + 1)
        for index, ((images_BHWC, labels_BHW, _), unlabelled) in enumerate(batches):
            self._num_images += len(images_BHWC)
            # The last group of an epoch may be smaller; its batches then count for more.
            group_start = index - index % self._accumulate
            group_size = min(self._accumulate, num_batches - group_start)
            ends_group = index + 1 == group_start + group_size
            batch = TrainingBatch(
                images_BHWC.to(self._device, non_blocking=True),
                labels_BHW.to(self._device, non_blocking=True).long(),
                epoch=start + (index + 0.5) / num_batches,
                step=stream * num_batches + index,
                share=1.0 / group_size,
                measure=index == measured,
                update_at=start + (group_start + group_size / 2) / num_batches
                if ends_group
                else None,
                ahead=ahead,
                unlabelled=None if unlabelled is None else unlabelled.to(self._device),
            )
            teacher_values, found = online_step(
                teacher, [students[place] for place in training], batch, self._settings
            )
            values = dict(zip(training, found, strict=True))
            errors |= {p: value for p, value in values.items() if isinstance(value, StepError)}
            totals.add(teacher_values, {p: v for p, v in values.items() if isinstance(v, dict)})
            if (index + 1) % STEPS_BETWEEN_CHECKS == 0:
                errors = {**totals.errors(start), **errors}
            training = [place for place in training if place not in errors]
            self._pulse(doing, index + 1, num_batches, epoch=start + 1, frames=self._num_images)
            if students and not training:
                break
        errors = {**totals.errors(start), **errors}
        teacher_means, student_means = totals.means()
        return teacher_means, [
            errors.get(place, means) for place, means in enumerate(student_means)
        ]

    def _with_unlabelled(
        self, stream: int, students: Sequence[Learner]
    ) -> Iterator[tuple[Batch, UnlabelledBatch | None]]:
        """Each batch of an epoch with one of unlabelled frames, if a student learns from them."""
        batches = self._batches.epoch(stream)
        if self._unlabelled is None or not any(map(learns_unlabelled, students)):
            return zip(batches, repeat(None))
        num = len(self._batches)
        return zip(batches, self._unlabelled.steps(stream * num, num), strict=True)

    def _validate(self, which: Sequence[bool]) -> Evaluation:
        networks = {
            f"student{index}": student.network
            for index, student in enumerate(self.students)
            if which[index]
        }
        if self.teacher is not None:
            networks[TEACHER] = self.teacher.network
        found = evaluate(
            networks,
            self._pulse.through(VALIDATING, self._validation, self.epochs_done + 1),
            num_classes=self._num_classes,
            device=self._device,
            settings=self._settings,
            keep=self._keep,
            compare_with=None if self.teacher is None else TEACHER,
            over=self._over,
            native=self._native,
        )
        self.predictions = found.predictions
        self.confusions = {name: score.confusion_KK for name, score in found.scores.items()}
        return found

    @property
    def over(self) -> MiouOver:
        """The classes that count in mIoU."""
        return self._over

    def score(
        self,
        network: SegmentationNetwork,
        frames: Iterable[Batch],
        native: Iterable[np.ndarray] | None = None,
    ) -> Scores:
        """Scores of a network, on labels at ``native`` size if given, as precise as validation."""
        found = evaluate(
            {"network": network},
            self._pulse.through("scoring", frames),
            num_classes=self._num_classes,
            device=self._device,
            settings=self._settings,
            over=self._over,
            native=native,
        )
        return found.scores["network"]

    def _teacher_metrics(self, values: dict[str, float], found: Evaluation) -> dict[str, float]:
        if self.teacher is None:
            return {}
        metrics = _metrics(self.teacher.learner, values, found.scores[TEACHER])
        if not self.teacher.trains:
            del metrics["lr"]
        return {f"teacher/{key}": value for key, value in metrics.items()}

    def _report(
        self,
        index: int,
        values: dict[str, float],
        found: Evaluation,
        shared: dict[str, float],
        seconds: float,
    ) -> EpochReport:
        name = f"student{index}"
        metrics = _metrics(self.students[index], values, found.scores[name])
        if name in found.agreement:
            metrics["agreement"] = found.agreement[name]
        classes = {"student": found.scores[name].ious}
        if self.teacher is not None:
            classes["teacher"] = found.scores[TEACHER].ious
        own = {f"student/{key}": value for key, value in metrics.items()}
        return EpochReport(
            epoch=self.epochs_done, metrics=own | shared, classes=classes, seconds=seconds
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on; random streams depend on the epoch alone."""
        return {
            "epochs_done": self.epochs_done,
            "miou_over": self._over,
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "students": [student.state_dict() for student in self.students],
        }

    def end_state(self) -> dict[str, Any]:
        """What is worth keeping after the last epoch: no step depends on it any more.

        The teacher's weights, which post-processing can use; a student's best lie elsewhere.
        """
        return {
            "epochs_done": self.epochs_done,
            "miou_over": self._over,
            "teacher": None if self.teacher is None else self.teacher.weights_state(),
            "students": [{} for _ in self.students],
        }

    @property
    def is_over(self) -> bool:
        """Whether the last epoch has been trained."""
        return self.epochs_done >= self._epochs

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        for student, saved in zip(self.students, state["students"], strict=True):
            student.load_state_dict(saved)
        self.epochs_done = int(state["epochs_done"])
        # Checkpoints that do not tell were written when these were the classes.
        self._over = state.get("miou_over", SEEN)


def _metrics(learner: Learner, values: dict[str, float], score: Scores) -> dict[str, float]:
    return {
        "miou": score.miou,
        "pixel_accuracy": score.pixel_accuracy,
        "num_classes": float(score.num_classes),
        "seed_compat_iou": score.seed_compat_iou,
        "lr": float(learner.optimizer.param_groups[0]["lr"]),
        "params_m": learner.network.num_parameters() / 1e6,
        **learner.costs,
        **values,
    }


class _Totals:
    """Sums of loss values over an epoch, kept on the device."""

    def __init__(self, num_students: int) -> None:
        self._sums: list[dict[str, Tensor]] = [{} for _ in range(num_students + 1)]
        self._counts: list[Counter[str]] = [Counter() for _ in self._sums]

    def add(self, teacher_values: Values, student_values: Mapping[int, Values]) -> None:
        """Add what a batch gave to the teacher, and to students by their place."""
        by_number = {0: teacher_values, **{p + 1: v for p, v in student_values.items()}}
        for number, values in by_number.items():
            sums, counts = self._sums[number], self._counts[number]
            counts.update(values.keys())
            for key, value in values.items():
                sums[key] = sums[key] + value if key in sums else value.clone()

    def errors(self, epoch: int) -> dict[int, NonFiniteLossError]:
        """The students with a loss that was not finite since the epoch began, by their place.

        A sum keeps NaN and infinity.

        Raises:
            NonFiniteLossError: The teacher has one.
        """
        found: dict[int, NonFiniteLossError] = {}
        for number, means in enumerate(self._all_means()):
            for key, mean in means.items():
                if not math.isfinite(mean):
                    who = "teacher" if number == 0 else "student"
                    error = NonFiniteLossError(
                        f"the {who}'s loss {key!r} became {mean} in epoch {epoch + 1}; "
                        f"try a smaller train.lr, a smaller distillation weight, or train.clip_norm"
                    )
                    if number == 0:
                        raise error
                    found.setdefault(number - 1, error)
        return found

    def means(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Mean over the epoch's batches that gave the value, of the teacher and each student."""
        teacher, *students = self._all_means()
        return teacher, students

    def _all_means(self) -> list[dict[str, float]]:
        # One transfer for all values instead of one each.
        flat = [value for sums in self._sums for value in sums.values()]
        numbers = iter(torch.stack(flat).tolist()) if flat else iter(())
        return [
            {key: next(numbers) / counts[key] for key in sums}
            for sums, counts in zip(self._sums, self._counts, strict=True)
        ]
