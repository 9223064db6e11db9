"""One batch of online distillation.

Shape legend: B batch, U batch of unlabelled frames, H W image size.

The teacher learns from the labels; each student learns from the labels and from the teacher's
activations, cut off from the graph. The teacher therefore never notices its students (but for
mutual learning, which has one student only), and a student never notices its siblings: it takes
the steps it would take alone.

Of unlabelled frames the teacher only says what they show, in evaluation mode: it trains as if they
were not there. A student sees them in one forward pass with the labelled ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdsweep.errors import StepError
from kdsweep.models import Activations, SegmentationNetwork
from kdsweep.training.failures import concerns_all, step_error
from kdsweep.training.gradients import GradientShares
from kdsweep.training.learner import Learner
from kdsweep.training.seeding import derive_seed
from kdsweep.training.step import Lesson, StepSettings, TrainingBatch, Values
from kdsweep.training.teacher import Teacher
from kdsweep.training.terms import gate_of, labelled_terms, unlabelled_terms

SUPERVISED = "supervised"


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
        ``ramp/<term>`` (ramp times gate). A term on unlabelled frames is ``unlabelled/<term>``, and
        ``confident`` is the share of their pixels that count. The teacher has terms in mutual
        learning only. In place of a student's scalars, the error that its turn ended with, if the
        others go on.
    """
    if teacher is None:
        return {}, _turns(students, None, batch, settings, {})
    lesson = _teach(teacher, batch, settings)
    if any(learns_unlabelled(student) and student.average is None for student in students):
        lesson.unlabelled = _seen_without_labels(teacher.network, batch, settings)
    teacher_values: Values = {"supervised": lesson.supervised}
    reciprocal = any(s.objective is not None and s.objective.reciprocal for s in students)
    if not reciprocal:
        # Before the students' turn: the teacher's graph need not live beside theirs.
        _propagate(teacher, lesson, batch, teacher_values)
    values = _turns(students, lesson, batch, settings, teacher_values)
    if reciprocal:
        _propagate(teacher, lesson, batch, teacher_values)
    return teacher_values, values


def _teach(teacher: Teacher, batch: TrainingBatch, settings: StepSettings) -> Lesson:
    activations = loss = None
    if teacher.trains:
        network = teacher.learner.network
        activations = _forward(network, batch.images_BHWC, batch, settings, "teacher")
        loss = settings.supervised(activations.logits_BKHW, batch.labels_BHW)
        if teacher.average is None or teacher.in_head_start:
            target = settings.kept(activations.detach())
            return Lesson(target, loss.detach(), activations, loss)
    with torch.no_grad():
        found = _forward(teacher.network, batch.images_BHWC, batch, settings, "target")
        target = settings.kept(found)
        supervised = settings.supervised(target.logits_BKHW, batch.labels_BHW)
    return Lesson(target, supervised, activations, loss)


def learns_unlabelled(student: Learner) -> bool:
    """Whether a student learns from frames without labels, where there are any."""
    return student.objective is not None and student.objective.learns_unlabelled


@torch.no_grad()
def _seen_without_labels(
    network: SegmentationNetwork, batch: TrainingBatch, settings: StepSettings
) -> Activations | None:
    if batch.unlabelled is None:
        return None
    trains = network.training
    network.eval()
    found = _forward(network, batch.unlabelled.weak_BHWC, batch, settings, "unlabelled")
    network.train(trains)
    return settings.kept(found.detach())


@torch.no_grad()
def _own_lesson(
    network: SegmentationNetwork, batch: TrainingBatch, settings: StepSettings
) -> Lesson:
    """What a student's own average says."""
    target = settings.kept(_forward(network, batch.images_BHWC, batch, settings, "target"))
    supervised = settings.supervised(target.logits_BKHW, batch.labels_BHW)
    unlabelled = _seen_without_labels(network, batch, settings)
    return Lesson(target, supervised, unlabelled=unlabelled)


def _propagate(teacher: Teacher, lesson: Lesson, batch: TrainingBatch, values: Values) -> None:
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
    lesson: Lesson | None,
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
    lesson: Lesson | None,
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
    lesson: Lesson | None,
    batch: TrainingBatch,
    settings: StepSettings,
    teacher_values: Values,
) -> Values:
    if student.average is not None and student.objective is not None:
        lesson = _own_lesson(student.average.network, batch, settings)
    images_BHWC, unlabelled = batch.images_BHWC, None
    if lesson is not None and lesson.unlabelled is not None and learns_unlabelled(student):
        assert batch.unlabelled is not None
        images_BHWC = torch.cat([images_BHWC, batch.unlabelled.strong_BHWC])
    activations = _forward(student.network, images_BHWC, batch, settings, "student")
    if len(images_BHWC) > len(batch.images_BHWC):
        activations, unlabelled = activations.split(len(batch.images_BHWC))
    supervised = settings.supervised(activations.logits_BKHW, batch.labels_BHW)
    values: Values = {"supervised": supervised.detach()}
    parts = {SUPERVISED: supervised}
    if student.objective is not None and lesson is not None:
        gate = gate_of(student.objective, lesson, values)
        if student.objective.labelled_weight > 0:
            parts |= labelled_terms(
                student.objective, gate, activations, lesson, batch, values, teacher_values
            )
        if unlabelled is not None:
            parts |= unlabelled_terms(student.objective, gate, unlabelled, lesson, batch, values)
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


def _forward(
    network: SegmentationNetwork,
    images_BHWC: Tensor,
    batch: TrainingBatch,
    settings: StepSettings,
    role: str,
) -> Activations:
    # Dropout draws from a stream of its own for each network and step: students in one cohort
    # draw what they would draw alone, and resuming needs no random state.
    torch.manual_seed(derive_seed(settings.seed, role, "dropout", batch.step))
    with settings.precision():
        activations: Activations = network(images_BHWC)
    return activations
