"""The distillation terms of a student's loss in one step, weighted and written down.

Shape legend: B batch, U batch of unlabelled frames, H W image size.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from kdsweep.distill import DistillationObjective
from kdsweep.labels import VOID
from kdsweep.models import Activations
from kdsweep.training.step import Lesson, TrainingBatch, Values


def gate_of(objective: DistillationObjective, lesson: Lesson, values: Values) -> Tensor | None:
    """Return how far the teacher is listened to; ``None`` where there is no gate."""
    if objective.gate is None:
        return None
    gate: Tensor = objective.gate(values["supervised"], lesson.supervised)
    values["gate"] = gate
    return gate


def labelled_terms(
    objective: DistillationObjective,
    gate: Tensor | None,
    activations: Activations,
    lesson: Lesson,
    batch: TrainingBatch,
    values: Values,
    teacher_values: Values,
) -> dict[str, Tensor]:
    """Weighted terms of the student's loss; the teacher's share of them goes to the lesson."""
    factors = objective.factors(batch.epoch)
    # Terms that count for nothing, before the ramp or after its end, are still reported.
    with nullcontext() if any(factors.values()) else torch.no_grad():
        raws = objective(activations, lesson.target, batch.labels_BHW)
    factors = {name: factor * objective.labelled_weight for name, factor in factors.items()}
    parts = _weighted(objective, gate, factors, raws, batch, values)
    for name in objective.reciprocal:
        if lesson.activations is not None:
            back = objective.terms[name](lesson.activations, activations.detach(), batch.labels_BHW)
            assert lesson.loss is not None
            lesson.loss = lesson.loss + factors[name] * back
            teacher_values[f"distill/{name}"] = back.detach()
            teacher_values[f"weighted/{name}"] = (factors[name] * back).detach()
    return parts


def unlabelled_terms(
    objective: DistillationObjective,
    gate: Tensor | None,
    activations: Activations,
    lesson: Lesson,
    batch: TrainingBatch,
    values: Values,
) -> dict[str, Tensor]:
    """Weighted terms of the student's loss on frames without labels."""
    assert lesson.unlabelled is not None
    assert batch.unlabelled is not None
    factors = objective.factors(batch.epoch)
    inside_UHW = batch.unlabelled.inside_BHW
    if objective.confidence_threshold > 0:
        sureness_UHW = lesson.unlabelled.logits_BKHW.float().softmax(1).amax(1)
        is_sure_UHW = sureness_UHW >= objective.confidence_threshold
        values["confident"] = is_sure_UHW.float().mean()
        inside_UHW = torch.where(is_sure_UHW, inside_UHW, VOID)
    with nullcontext() if any(factors.values()) else torch.no_grad():
        raws = objective.unlabelled(activations, lesson.unlabelled, inside_UHW)
    factors = {name: factor * objective.unlabelled_weight for name, factor in factors.items()}
    return _weighted(objective, gate, factors, raws, batch, values, "unlabelled/")


def _weighted(
    objective: DistillationObjective,
    gate: Tensor | None,
    factors: dict[str, float],
    raws: dict[str, Tensor],
    batch: TrainingBatch,
    values: Values,
    prefix: str = "",
) -> dict[str, Tensor]:
    parts = {}
    for name, raw in raws.items():
        factor = factors[name] if gate is None else factors[name] * gate
        weighted = factor * raw
        values[f"distill/{prefix}{name}"] = raw.detach()
        values[f"weighted/{prefix}{name}"] = weighted.detach()
        if factors[name]:
            parts[prefix + name] = weighted
        if batch.measure:
            ramp = raw.new_tensor(objective.ramps[name].at(batch.epoch))
            values[f"ramp/{prefix}{name}"] = ramp if gate is None else ramp * gate
    return parts
