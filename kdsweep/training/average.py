"""A running average of a network's weights, which others learn from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.models import SegmentationNetwork


class RunningAverage:
    """A copy of a network that follows it step by step; it is always in evaluation mode.

    Args:
        network: The copy.
        decay: Share of the old average kept at each step. It starts lower, at
            ``(1 + n) / (10 + n)`` in step n, so that the random initial weights are soon forgotten.

    Attributes:
        network: As given.
        num_updates: Steps so far.

    Reference:
        Tarvainen & Valpola, Mean teachers, arXiv 1703.01780.
    """

    def __init__(self, network: SegmentationNetwork, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.num_updates = 0
        network.requires_grad_(False)
        network.eval()

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move all weights and running statistics a share of the way to the network's."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(_floats(self.network), _floats(network), 1.0 - decay)
        self.num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {"num_updates": self.num_updates, "average": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.num_updates = int(state["num_updates"])
        self.network.load_state_dict(state["average"])


def _floats(network: nn.Module) -> list[Tensor]:
    # Batch norm's running means and variances are buffers; its step counter is an integer.
    values = [*network.parameters(), *network.buffers()]
    return [value for value in values if value.is_floating_point()]
