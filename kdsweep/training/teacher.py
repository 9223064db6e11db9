"""The teacher of a cohort: what students learn from, and whether and how that moves."""

from __future__ import annotations

from typing import Any

import torch

from kdsweep.models import SegmentationNetwork
from kdsweep.training.average import RunningAverage
from kdsweep.training.learner import Learner


class Teacher:
    """A network that trains beside its students, a running average of it, or one that stands still.

    Args:
        learner: The network that trains.
        average: The running average of the network, if that is what students learn from;
            ``None`` lets them learn from the network itself.
        head_start_epochs: Epochs that the teacher trains before its students begin.
        frozen: The teacher stops training when its students begin.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        average: RunningAverage | None = None,
        head_start_epochs: int = 0,
        frozen: bool = False,
    ) -> None:
        self.learner = learner
        self.average = average
        self.head_start_epochs = head_start_epochs
        self.head_start_done = 0
        self.head_start_s = 0.0
        self.frozen = frozen

    @property
    def in_head_start(self) -> bool:
        """Whether it still trains alone."""
        return self.head_start_done < self.head_start_epochs

    @property
    def trains(self) -> bool:
        """Whether it learns from the next batch."""
        return self.in_head_start or not self.frozen

    @property
    def network(self) -> SegmentationNetwork:
        """The network that students learn from, and that is scored as the teacher."""
        return self.learner.network if self.average is None else self.average.network

    def to(self, device: torch.device) -> None:
        """Move everything to a device; call before the first step."""
        self.learner.to(device)
        if self.average is not None:
            self.average.network.to(device)

    def train_mode(self) -> None:
        """Training behaviour of dropout and batch norm where the teacher trains."""
        if self.trains:
            self.learner.train_mode()
        else:
            self.learner.network.eval()

    def update(self, epoch: float) -> None:
        """One optimiser step on the gradients gathered since the last one.

        Args:
            epoch: Time of the step since the teacher began, for its schedule.
        """
        self.learner.update(epoch)
        if self.average is not None:
            self.average.follow(self.learner.network)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        state: dict[str, Any] = {
            "head_start_done": self.head_start_done,
            "head_start_s": self.head_start_s,
        }
        if self.trains:
            state["learner"] = self.learner.state_dict()
        else:
            state["network"] = self.learner.network.state_dict()
        if self.average is not None:
            state |= self.average.state_dict()
        return state

    def weights_state(self) -> dict[str, Any]:
        """The weights that students learn from, at their place in :meth:`state_dict`."""
        if self.average is not None:
            return self.average.state_dict()
        return {"network": self.learner.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.head_start_done = int(state["head_start_done"])
        self.head_start_s = float(state["head_start_s"])
        if self.trains:
            self.learner.load_state_dict(state["learner"])
        else:
            self.learner.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state)
