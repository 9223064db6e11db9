"""What every distillation loss is, and how one is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from kdsweep.config.losses import LOSSES, LossConfig


class Activations(Protocol):
    """What a loss sees of a network's forward pass.

    Shapes: B batch, K classes, H W image size, C channels, h w feature map size.
    """

    @property
    def logits_BKHW(self) -> Tensor:
        """Class scores at the size of the image."""

    @property
    def taps(self) -> Mapping[str, Tensor]:
        """Feature maps by tap name, each of shape (B, C, h, w)."""


def precise(values: Tensor) -> Tensor:
    """``values`` in float32 at least.

    Under autocast activations come in half precision, which squares and softmaxes cannot bear.
    float64 stays: the tests compare formulas in it.
    """
    return values if values.dtype == torch.float64 else values.float()


def tapped(activations: Activations, tap: str) -> Tensor:
    """The feature map at a tap, or the logits, in float32 at least."""
    return precise(activations.logits_BKHW if tap == "logits" else activations.taps[tap])


@dataclass(frozen=True)
class TapChannels:
    """Channels of the feature maps at each tap, for the networks of one pair."""

    student: Mapping[str, int]
    teacher: Mapping[str, int]


K = TypeVar("K", bound=LossConfig)


class DistillationLoss(nn.Module, ABC, Generic[K]):
    """One term of what a student learns from its teacher.

    A loss is a module because some learn projections; these belong to the student's optimiser
    and never ship. It returns a float32 scalar, gives no gradient to the teacher (its activations
    come detached), and leaves void pixels (label 255) out.

    Its docstring is what ``kdsweep losses NAME`` prints: the formula with tensor shapes, then the
    sections ``Averaged over``, ``Defaults`` (weight and temperature, with their source), ``Taps``
    (the paper's and ours) and ``Reference`` (with what is followed where paper and authors' code
    differ). Its parameters are its keys in ``distill:``, and are written there
    (:mod:`kdsweep.config.losses`).

    Args:
        channels: Channels of both networks at every tap, for losses with projections.

    Attributes:
        taps: Feature maps that both networks must return; ``logits`` counts as one.
    """

    def __init__(self, channels: TapChannels, keys: K) -> None:
        super().__init__()
        self.keys = keys
        self.taps: Sequence[str] = getattr(keys, "taps", ("logits",))

    @property
    def reciprocal(self) -> bool:
        """Whether the teacher learns from the student by the same formula, with roles exchanged."""
        return self.keys.reciprocal

    @abstractmethod
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        """Distance of the student from the teacher.

        Args:
            student: Activations with gradients.
            teacher: Activations without.
            labels_BHW: Class ids, 255 = void.

        Returns:
            Scalar, unweighted.
        """


def build_loss(
    name: str, channels: TapChannels, options: Mapping[str, Any]
) -> DistillationLoss[Any]:
    """Return the loss of a name in ``distill:``; of its keys, those left out have their defaults.

    Raises:
        ConfigError: There is none of this name, or it cannot be loaded.
    """
    path = ("distill", name)
    config = LOSSES.get(name, path[:1])
    loss: DistillationLoss[Any] = config.load_implementation(path)(
        channels, config.model_validate(dict(options))
    )
    return loss
