"""One batch of online distillation.

Shape legend: B batch, H W image size.

The teacher learns from the labels; each student learns from the labels and from the teacher's
activations, cut off from the graph. The teacher therefore never notices its students (but for
mutual learning, which has one student only), and a student never notices its siblings: it takes
the steps it would take alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from kdsweep.errors import StepError
from kdsweep.models import Activations, SegmentationNetwork
from kdsweep.training.failures import concerns_all, step_error
from kdsweep.training.gradients import GradientShares
from kdsweep.training.learner import Learner
from kdsweep.training.seeding import derive_seed
from kdsweep.training.supervised import SupervisedLoss
from kdsweep.training.teacher import Teacher

Values = dict[str, Tensor]
SUPERVISED = "supervised"


@dataclass(frozen=True)
class StepSettings:
    """What all steps of a training share.

    Attributes:
        supervised: Loss against the labels.
        autocast: Lower precision of the forward passes, ``None`` for float32.
        device_type: ``cpu`` or ``cuda``.
        seed: Seed of dropout and the like.
        overwrites: Whether a network's forward pass may overwrite what another one's gave before,
            as replayed CUDA graphs do.
    """

    supervised: SupervisedLoss
    autocast: torch.dtype | None
    device_type: str
    seed: int
    overwrites: bool = False

    def kept(self, activations: Activations) -> Activations:
        """Activations that last beyond the next forward pass, whichever network's that is."""
        if not self.overwrites:
            return activations
        taps = {name: tap.clone() for name, tap in activations.taps.items()}
        return Activations(activations.logits_BKHW.clone(), taps)

    def precision(self) -> AbstractContextManager[object]:
        """Context of a forward pass."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.autocast)


@dataclass(frozen=True)
class TrainingBatch:
    """A batch on the device, and its place in the training.

    Attributes:
        images_BHWC: uint8 RGB.
        labels_BHW: int64, 255 = void.
        epoch: Epochs since the students began, for the ramps.
        step: Number of the batch since the start; dropout depends on it and the seed alone.
        share: Part of an optimiser step that this batch is, below 1 with gradient accumulation.
        measure: Whether to measure the terms' shares of the gradient; the networks must not hold
            gradients of an earlier batch then.
        update_at: Time of the optimisers' step that ends with this batch, in epochs since the
            students began; ``None`` where more batches add their gradients first.
        ahead: Epochs by which the teacher's clock is ahead of the students'.
    """

    images_BHWC: Tensor
    labels_BHW: Tensor
    epoch: float
    step: int
    share: float = 1.0
    measure: bool = False
    update_at: float | None = None
    ahead: float = 0.0


@dataclass
class _Lesson:
    """What the teacher's forward passes gave.

    Attributes:
        target: What students learn from, detached.
        supervised: Loss of the target against the labels, detached.
        activations: Of the network that trains, with their graph; ``None`` where none trains.
        loss: Its loss, not yet propagated.
    """

    target: Activations
    supervised: Tensor
    activations: Activations | None = None
    loss: Tensor | None = None


def online_step(
    teacher: Teacher | None,
    students: Sequence[Learner],
    batch: TrainingBatch,
    settings: StepSettings,
) -> tuple[Values, list[Values | StepError]]:
    """Add the gradients of one batch to every network, and let the optimisers take their step.

    Students go one after another, and each one's graph and gradients are freed before the next, so
    that memory holds one of them whatever their number. (While batches are gathered, every network
    keeps its gradients.)

    Args:
        teacher: The teacher, or ``None`` when only controls train.
        students: The students; none of them in the teacher's head start.
        batch: The batch.
        settings: What all steps share.

    Returns:
        Detached scalars of the teacher and of each student: ``loss``, ``supervised``,
        ``distill/<term>`` (raw), ``weighted/<term>`` (with λ, ramp and gate), ``gate`` where there
        is one, and in a measured batch ``grad_share/<term>``, ``grad_share/supervised`` and
        ``ramp/<term>`` (ramp times gate). The teacher has terms in mutual learning only. In place
        of a student's scalars, the error that its turn ended with, if the others go on.
    """
    if teacher is None:
        return {}, _turns(students, None, batch, settings, {})
    lesson = _teach(teacher, batch, settings)
    teacher_values: Values = {"supervised": lesson.supervised}
    reciprocal = any(s.objective is not None and s.objective.reciprocal for s in students)
    if not reciprocal:
        # Before the students' turn: the teacher's graph need not live beside theirs.
        _propagate(teacher, lesson, batch, teacher_values)
    values = _turns(students, lesson, batch, settings, teacher_values)
    if reciprocal:
        _propagate(teacher, lesson, batch, teacher_values)
    return teacher_values, values


def _teach(teacher: Teacher, batch: TrainingBatch, settings: StepSettings) -> _Lesson:
    activations = loss = None
    if teacher.trains:
        activations = _forward(teacher.learner.network, batch, settings, "teacher")
        loss = settings.supervised(activations.logits_BKHW, batch.labels_BHW)
        if teacher.average is None or teacher.in_head_start:
            target = settings.kept(activations.detach())
            return _Lesson(target, loss.detach(), activations, loss)
    with torch.no_grad():
        target = settings.kept(_forward(teacher.network, batch, settings, "target"))
        supervised = settings.supervised(target.logits_BKHW, batch.labels_BHW)
    return _Lesson(target, supervised, activations, loss)


def _propagate(teacher: Teacher, lesson: _Lesson, batch: TrainingBatch, values: Values) -> None:
    if lesson.loss is not None:
        values["loss"] = lesson.loss.detach()
        (lesson.loss * batch.share if batch.share != 1.0 else lesson.loss).backward()
    else:
        values["loss"] = lesson.supervised
    lesson.activations = lesson.loss = None
    if batch.update_at is not None and teacher.trains:
        teacher.update(batch.update_at + batch.ahead)


def _turns(
    students: Sequence[Learner],
    lesson: _Lesson | None,
    batch: TrainingBatch,
    settings: StepSettings,
    teacher_values: Values,
) -> list[Values | StepError]:
    """One student after another; what goes wrong with one is no fault of the others."""
    found: list[Values | StepError] = []
    for student in students:
        try:
            found.append(_student_turn(student, lesson, batch, settings, teacher_values))
        except Exception as error:
            if len(students) == 1 or concerns_all(error):
                raise
            found.append(step_error(error))
    return found


def _student_turn(
    student: Learner,
    lesson: _Lesson | None,
    batch: TrainingBatch,
    settings: StepSettings,
    teacher_values: Values,
) -> Values:
    values = _student_gradients(student, lesson, batch, settings, teacher_values)
    if batch.update_at is not None:
        student.update(batch.update_at)
    return values


def _student_gradients(
    student: Learner,
    lesson: _Lesson | None,
    batch: TrainingBatch,
    settings: StepSettings,
    teacher_values: Values,
) -> Values:
    activations = _forward(student.network, batch, settings, "student")
    supervised = settings.supervised(activations.logits_BKHW, batch.labels_BHW)
    values: Values = {"supervised": supervised.detach()}
    parts = {SUPERVISED: supervised}
    if student.objective is not None and lesson is not None:
        parts |= _distill(student, activations, lesson, batch, values, teacher_values)
    loss = supervised
    for name, part in parts.items():
        loss = loss if name == SUPERVISED else loss + part
    values["loss"] = loss.detach()
    if batch.share != 1.0:
        loss = loss * batch.share
    if not (batch.measure and len(parts) > 1):
        loss.backward()
        return values
    scaled = {name: part * batch.share for name, part in parts.items()}
    shares = GradientShares(list(student.network.parameters()), scaled, rest=SUPERVISED)
    loss.backward()
    values |= {f"grad_share/{name}": share for name, share in shares.after_backward().items()}
    return values


def _distill(
    student: Learner,
    activations: Activations,
    lesson: _Lesson,
    batch: TrainingBatch,
    values: Values,
    teacher_values: Values,
) -> dict[str, Tensor]:
    """Weighted terms of the student's loss; the teacher's share of them goes to the lesson."""
    objective = student.objective
    assert objective is not None
    gate = None
    if objective.gate is not None:
        gate = objective.gate(values["supervised"], lesson.supervised)
        values["gate"] = gate
    factors = objective.factors(batch.epoch)
    # Terms that count for nothing, before the ramp or after its end, are still reported.
    with nullcontext() if any(factors.values()) else torch.no_grad():
        raws = objective(activations, lesson.target, batch.labels_BHW)
    parts = {}
    for name, raw in raws.items():
        factor = factors[name] if gate is None else factors[name] * gate
        weighted = factor * raw
        values[f"distill/{name}"] = raw.detach()
        values[f"weighted/{name}"] = weighted.detach()
        if factors[name]:
            parts[name] = weighted
        if batch.measure:
            ramp = raw.new_tensor(objective.ramps[name].at(batch.epoch))
            values[f"ramp/{name}"] = ramp if gate is None else ramp * gate
        if name in objective.reciprocal and lesson.activations is not None:
            back = objective.terms[name](lesson.activations, activations.detach(), batch.labels_BHW)
            assert lesson.loss is not None
            lesson.loss = lesson.loss + factor * back
            teacher_values[f"distill/{name}"] = back.detach()
            teacher_values[f"weighted/{name}"] = (factor * back).detach()
    return parts


def _forward(
    network: SegmentationNetwork, batch: TrainingBatch, settings: StepSettings, role: str
) -> Activations:
    # Dropout draws from a stream of its own for each network and step: students in one cohort
    # draw what they would draw alone, and resuming needs no random state.
    torch.manual_seed(derive_seed(settings.seed, role, "dropout", batch.step))
    with settings.precision():
        activations: Activations = network(batch.images_BHWC)
    return activations
