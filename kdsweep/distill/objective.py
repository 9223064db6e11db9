"""The sum of a student's distillation terms, with its ramp.

Shape legend: B batch, H W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdsweep.distill.base import (
    DISTILLATION_LOSSES,
    Activations,
    DistillationLoss,
    TapChannels,
)


class DistillationObjective(nn.Module):
    """``r(epoch) · Σ_k λ_k · L_k(student, teacher)``.

    Args:
        terms: Losses by name.
        weights: λ of each.
        warmup_epochs: Length of the linear ramp r from 0 to 1.
    """

    def __init__(
        self,
        terms: Mapping[str, DistillationLoss],
        weights: Mapping[str, float],
        *,
        warmup_epochs: float = 0.0,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = dict(weights)
        self.warmup_epochs = warmup_epochs

    def ramp(self, epoch: float) -> float:
        """R at a point of time.

        Args:
            epoch: Epochs since the start, with the fraction of the current one.
        """
        return 1.0 if self.warmup_epochs <= 0 else min(1.0, epoch / self.warmup_epochs)

    def forward(
        self, student: Activations, teacher: Activations, labels_BHW: Tensor
    ) -> dict[str, Tensor]:
        """Raw value of every term, a scalar each."""
        return {name: term(student, teacher, labels_BHW) for name, term in self.terms.items()}


def build_objective(
    terms: Mapping[str, Mapping[str, Any]],
    channels: TapChannels,
    *,
    warmup_epochs: float = 0.0,
) -> DistillationObjective:
    """Build an objective from names and options.

    Args:
        terms: For each loss by name its options and ``weight``.
        channels: Channels of both networks at every tap.
        warmup_epochs: Length of the ramp.

    Raises:
        SpecError: No such loss.
    """
    losses, weights = {}, {}
    for name, options in terms.items():
        arguments = {key: value for key, value in options.items() if key != "weight"}
        losses[name] = DISTILLATION_LOSSES.get(name, ("distill",))(channels, **arguments)
        weights[name] = float(options["weight"])
    return DistillationObjective(losses, weights, warmup_epochs=warmup_epochs)
