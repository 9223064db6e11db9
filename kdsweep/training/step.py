"""What a training step is given, and what passes between its parts.

Shape legend: B batch, U batch of unlabelled frames, H W image size.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdsweep.models import Activations
from kdsweep.training.supervised import SupervisedLoss

if TYPE_CHECKING:
    from kdsweep.data import UnlabelledBatch

Values = dict[str, Tensor]


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
        unlabelled: Frames without labels, for the students that learn from them.
    """

    images_BHWC: Tensor
    labels_BHW: Tensor
    epoch: float
    step: int
    share: float = 1.0
    measure: bool = False
    update_at: float | None = None
    ahead: float = 0.0
    unlabelled: UnlabelledBatch | None = None


@dataclass
class Lesson:
    """What the teacher's forward passes gave.

    Attributes:
        target: What students learn from, detached.
        unlabelled: Likewise of the unlabelled frames, where a student learns from them.
        supervised: Loss of the target against the labels, detached.
        activations: Of the network that trains, with their graph; ``None`` where none trains.
        loss: Its loss, not yet propagated.
    """

    target: Activations
    supervised: Tensor
    activations: Activations | None = None
    loss: Tensor | None = None
    unlabelled: Activations | None = None
