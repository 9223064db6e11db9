"""The sum of a student's distillation terms, with their ramps and the gate.

Shape legend: B batch, H W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdsweep.distill.base import Activations, DistillationLoss, TapChannels, build_loss
from kdsweep.distill.gate import LeadGate
from kdsweep.distill.ramp import Ramp


class DistillationObjective(nn.Module):
    """``g · Σ_k r_k(epoch) · λ_k · L_k(student, teacher)``.

    With unlabelled frames it is ``Σ_p w_p`` of that over both parts p of a batch, where losses
    that need labels see the labelled part only.

    Args:
        terms: Losses by name.
        weights: λ of each.
        ramps: r of each; 1 where there is none.
        gate: g; 1 if left out.
        labelled_weight: w of the labelled frames.
        unlabelled_weight: w of the unlabelled frames.
        confidence_threshold: Least probability of the teacher's first choice with which a pixel of
            an unlabelled frame counts.
    """

    def __init__(
        self,
        terms: Mapping[str, DistillationLoss],
        weights: Mapping[str, float],
        *,
        ramps: Mapping[str, Ramp] | None = None,
        gate: LeadGate | None = None,
        labelled_weight: float = 1.0,
        unlabelled_weight: float = 1.0,
        confidence_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self._label_free = {n: term for n, term in terms.items() if not term.keys.needs_labels}
        self.weights = dict(weights)
        self.ramps = {name: (ramps or {}).get(name, Ramp()) for name in terms}
        self.gate = gate
        self.labelled_weight = labelled_weight
        self.unlabelled_weight = unlabelled_weight
        self.confidence_threshold = confidence_threshold

    def factors(self, epoch: float) -> dict[str, float]:
        """``r_k · λ_k`` of every term at a point of time.

        Args:
            epoch: Epochs since the student began, with the fraction of the current one.
        """
        return {name: self.ramps[name].at(epoch) * self.weights[name] for name in self.terms}

    @property
    def reciprocal(self) -> list[str]:
        """Terms from which the teacher learns as well."""
        return [name for name, term in self.terms.items() if term.reciprocal]

    @property
    def learns_unlabelled(self) -> bool:
        """Whether any term is to see frames without labels."""
        return self.unlabelled_weight > 0 and bool(self._label_free)

    def forward(
        self, student: Activations, teacher: Activations, labels_BHW: Tensor
    ) -> dict[str, Tensor]:
        """Raw value of every term, a scalar each."""
        return {name: term(student, teacher, labels_BHW) for name, term in self.terms.items()}

    def unlabelled(
        self, student: Activations, teacher: Activations, inside_BHW: Tensor
    ) -> dict[str, Tensor]:
        """Raw value of every term that needs no labels, a scalar each.

        Args:
            student: Of frames without labels.
            teacher: Likewise.
            inside_BHW: 0 where a pixel counts, 255 (void) where not.
        """
        return {name: term(student, teacher, inside_BHW) for name, term in self._label_free.items()}


def build_objective(
    terms: Mapping[str, Mapping[str, Any]],
    channels: TapChannels,
    *,
    ramps: Mapping[str, Ramp] | None = None,
    gate: bool = False,
    **parts: float,
) -> DistillationObjective:
    """Build an objective from names and options.

    Args:
        terms: For each loss by name its options and ``weight``.
        channels: Channels of both networks at every tap.
        ramps: Course of the weights; those without one are constant.
        gate: Whether weights follow the teacher's lead.
        **parts: Keys of a :class:`DistillationObjective` for batches with unlabelled frames.

    Raises:
        ConfigError: No such loss.
    """
    losses, weights = {}, {}
    for name, options in terms.items():
        losses[name] = build_loss(name, channels, options)
        weights[name] = float(options["weight"])
    return DistillationObjective(
        losses, weights, ramps=ramps, gate=LeadGate() if gate else None, **parts
    )
