"""One batch of online distillation.

Shape legend: B batch, H W image size.

The teacher learns from the labels; each student learns from the labels and from the teacher's
activations of the same forward pass, cut off from the graph. The teacher therefore never notices
its students, and a student never notices its siblings: it takes the steps it would take alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from kdsweep.models import Activations
from kdsweep.training.learner import Learner
from kdsweep.training.seeding import derive_seed
from kdsweep.training.supervised import SupervisedLoss

Values = dict[str, Tensor]


@dataclass(frozen=True)
class StepSettings:
    """What all steps of a training share.

    Attributes:
        supervised: Loss against the labels.
        autocast: Lower precision of the forward passes, ``None`` for float32.
        device_type: ``cpu`` or ``cuda``.
        seed: Seed of dropout and the like.
    """

    supervised: SupervisedLoss
    autocast: torch.dtype | None
    device_type: str
    seed: int

    def precision(self) -> AbstractContextManager[object]:
        """Context of a forward pass."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.autocast)


def online_step(
    teacher: Learner | None,
    students: Sequence[Learner],
    images_BHWC: Tensor,
    labels_BHW: Tensor,
    *,
    settings: StepSettings,
    epoch: float,
    step: int,
    share: float = 1.0,
) -> tuple[Values, list[Values]]:
    """Add the gradients of one batch to every network.

    Students go one after another and each one's graph is freed before the next, so that memory
    holds one of them whatever their number.

    Args:
        teacher: The teacher, or ``None`` when only controls train.
        students: The students.
        images_BHWC: uint8 RGB.
        labels_BHW: int64, 255 = void.
        settings: What all steps share.
        epoch: Epochs since the start, for the ramp.
        step: Number of the batch since the start; dropout depends on it and the seed alone.
        share: Part of an optimiser step that this batch is, below 1 with gradient accumulation.

    Returns:
        Detached scalars of the teacher and of each student: ``loss``, ``supervised``,
        ``distill/<term>`` (raw) and ``weighted/<term>`` (with λ and the ramp).
    """
    teacher_values: Values = {}
    target: Activations | None = None
    if teacher is not None:
        activations = _forward(teacher, images_BHWC, settings, "teacher", step)
        loss = settings.supervised(activations.logits_BKHW, labels_BHW)
        (loss * share if share != 1.0 else loss).backward()
        teacher_values = {"loss": loss.detach(), "supervised": loss.detach()}
        target = activations.detach()
        del activations, loss
    student_values = [
        _student_step(student, target, images_BHWC, labels_BHW, settings, epoch, step, share)
        for student in students
    ]
    return teacher_values, student_values


def _student_step(
    student: Learner,
    target: Activations | None,
    images_BHWC: Tensor,
    labels_BHW: Tensor,
    settings: StepSettings,
    epoch: float,
    step: int,
    share: float,
) -> Values:
    activations = _forward(student, images_BHWC, settings, "student", step)
    supervised = settings.supervised(activations.logits_BKHW, labels_BHW)
    values: Values = {"supervised": supervised.detach()}
    loss = supervised
    objective = student.objective
    if objective is not None and target is not None:
        ramp = objective.ramp(epoch)
        for name, raw in objective(activations, target, labels_BHW).items():
            weighted = objective.weights[name] * ramp * raw
            loss = loss + weighted
            values[f"distill/{name}"] = raw.detach()
            values[f"weighted/{name}"] = weighted.detach()
    values["loss"] = loss.detach()
    (loss * share if share != 1.0 else loss).backward()
    return values


def _forward(
    learner: Learner, images_BHWC: Tensor, settings: StepSettings, role: str, step: int
) -> Activations:
    # Dropout draws from a stream of its own for each network and step: students in one cohort
    # draw what they would draw alone, and resuming needs no random state.
    torch.manual_seed(derive_seed(settings.seed, role, "dropout", step))
    with settings.precision():
        activations: Activations = learner.network(images_BHWC)
    return activations
