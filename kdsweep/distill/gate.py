"""Listening to the teacher only as far as it is ahead."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HORIZON = 50  # steps that the running means look back
FULL_LEAD = 0.1  # relative lead at which the gate is fully open


class LeadGate(nn.Module):
    """``clip((ℓ_s − ℓ_t) / (0.1 · ℓ_s), 0, 1)`` of running means of both networks' training losses.

    ℓ is the loss against the labels of the same training batches, averaged with a horizon of 50
    steps. A teacher whose loss is a tenth lower than the
    student's is fully heard, one that is no better not at all: a student has nothing to gain from
    predictions that are worse than its own. Everything stays on the device.
    """

    means_2: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means_2", torch.zeros(2))

    @torch.no_grad()
    def forward(self, student_loss: Tensor, teacher_loss: Tensor) -> Tensor:
        """Take in the losses of a step.

        Args:
            student_loss: Scalar, against the labels of a training batch.
            teacher_loss: Scalar, of the network that students learn from, on the same batch.

        Returns:
            Factor between 0 and 1, scalar.
        """
        keep = 1.0 - 1.0 / HORIZON
        self.means_2.mul_(keep).add_(torch.stack([student_loss, teacher_loss]), alpha=1.0 - keep)
        # Both means start at zero; the correction for it is the same and drops out of the ratio.
        student, teacher = self.means_2
        lead = (student - teacher) / student.clamp(min=torch.finfo(torch.float32).tiny)
        return (lead / FULL_LEAD).clamp(0.0, 1.0)
