"""Optimisers by name and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

CYCLIC_RATIO = 100.0
POLY_POWER = 0.9


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of time alone, so that resuming needs no state.

    Attributes:
        course: ``poly`` (power 0.9), ``cosine``, ``cyclic`` (one triangle an epoch between
            lr / 100 and lr) or ``constant``.
        lr: Peak learning rate.
        warmup_epochs: Linear warm-up from near zero.
    """

    course: str
    lr: float
    epochs: int
    warmup_epochs: float = 0.0

    def at(self, epoch: float) -> float:
        """Learning rate at a point of time.

        Args:
            epoch: Epochs since the start, with the fraction of the current one; the middle of a
                step stands for the step, so that neither first nor last rate is zero.
        """
        if epoch < self.warmup_epochs:
            return self.lr * epoch / self.warmup_epochs
        return self.lr * _COURSES[self.course](epoch, self.warmup_epochs, self.epochs)


def _remaining(epoch: float, start: float, end: float) -> float:
    return max(0.0, 1.0 - (epoch - start) / max(end - start, 1e-9))


def _poly(epoch: float, start: float, end: float) -> float:
    return _remaining(epoch, start, end) ** POLY_POWER


def _cosine(epoch: float, start: float, end: float) -> float:
    return 0.5 - 0.5 * math.cos(math.pi * _remaining(epoch, start, end))


def _cyclic(epoch: float, start: float, end: float) -> float:
    height = 1.0 - abs(2.0 * (epoch % 1.0) - 1.0)
    return 1.0 / CYCLIC_RATIO + (1.0 - 1.0 / CYCLIC_RATIO) * height


def _constant(epoch: float, start: float, end: float) -> float:
    return 1.0


_COURSES: dict[str, Callable[[float, float, float], float]] = {
    "poly": _poly,
    "cosine": _cosine,
    "cyclic": _cyclic,
    "constant": _constant,
}


def build_optimizer(
    name: str,
    modules: Iterable[nn.Module],
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """Build an optimiser over the parameters of some modules.

    Norm scales and biases (parameters with one axis) are not decayed, as is usual for networks
    with batch norm.

    Args:
        name: ``adamw``, ``adam`` or ``sgd``.
        modules: Modules to train; a student's projections among them.
        lr: Initial learning rate; the engine sets it anew before every step.
        weight_decay: Decoupled for ``adamw``, an L2 term for the others.
        momentum: For ``sgd``.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One kernel for all parameters, on CPU and CUDA alike.
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    optimizer = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return optimizer(groups, lr=lr, fused=True)
