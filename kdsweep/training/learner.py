"""A network with everything that trains it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.distill import DistillationObjective
from kdsweep.models import SegmentationNetwork
from kdsweep.training.average import RunningAverage
from kdsweep.training.optimizers import Schedule


class Learner:
    """One network of a cohort with its own optimiser, schedule and gradient clipping.

    Args:
        optimizer: Over the network's parameters and those of ``objective``.
        schedule: Of the learning rate.
        clip_norm: Gradient norm above which gradients are scaled down; ``None`` never.
        objective: What a student learns from the teacher; ``None`` for a teacher or a control.
        average: The running average of the network, where a student learns from that in place of a
            teacher.

    Attributes:
        costs: What a frame costs the network at inference, where that was measured; every report
            repeats it.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        clip_norm: float | None = None,
        objective: DistillationObjective | None = None,
        average: RunningAverage | None = None,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.objective = objective
        self.average = average
        self.costs: dict[str, float] = {}
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    @property
    def modules(self) -> list[nn.Module]:
        """The network and, for a distilled student, its projections."""
        return [self.network] if self.objective is None else [self.network, self.objective]

    def to(self, device: torch.device) -> None:
        """Move everything that trains to a device; call before the first step."""
        for module in self.modules:
            module.to(device)
        if self.average is not None:
            self.average.network.to(device)

    def train_mode(self) -> None:
        """Training behaviour of dropout and batch norm."""
        for module in self.modules:
            module.train()

    def update(self, epoch: float) -> None:
        """One optimiser step, at a time in epochs, on the gradients gathered since the last one."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.clip_norm)
        lr = self.schedule.at(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.follow(self.network)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.objective is not None:
            state["objective"] = self.objective.state_dict()
        if self.average is not None:
            state |= self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.network.load_state_dict(state["network"])
        if self.objective is not None:
            self.objective.load_state_dict(state.get("objective", {}))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        """The learned weights of the network alone, on the CPU: what ships."""
        return {
            name: value.detach().cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }
