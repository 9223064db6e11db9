"""Two networks that learn from each other.

Shape legend: B batch, K classes, H W logits size, h w pooled size.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import MutualConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
)
from kdsweep.distill.masking import masked_mean, pool_valid
from kdsweep.distill.pixel_kl import softened_kl


class Mutual(DistillationLoss[MutualConfig]):
    """``T² · Σ_k p_t log(p_t / p_s)`` for the student, and with the roles exchanged the teacher.

    Logits are (B, K, H, W), ``p = softmax_k(z / T)``. The student's term is that of ``pixel_kl``.
    The teacher gets ``T² · Σ_k p_s log(p_s / p_t)`` with the same weight and ramp. Each sees the
    other's output cut off from the graph.

    Averaged over:
        Labelled pixels (cells) of the batch, after the sum over classes.

    Defaults:
        weight 1, temperature 1, as in the paper, which adds the divergence to the cross-entropy
        unweighted and unsoftened. stride 1, as for ``pixel_kl``.

    Taps:
        Published on the class scores of an image, here on the logits of every pixel.

    Reference:
        Zhang et al., Deep Mutual Learning, arXiv 1706.00384. The paper updates the networks in
        turn, recomputing the first one's output for the second; here both learn at once from one
        forward pass each, as its re-implementations do: a forward pass cheaper, and the order of
        the networks does not matter. Pixels as in ``pixel_kl``.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        student_BKhw, valid_Bhw = pool_valid(student.logits_BKHW, labels_BHW, self.keys.stride)
        teacher_BKhw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.keys.stride)
        divergence_Bhw = softened_kl(student_BKhw, teacher_BKhw, self.keys.temperature)
        return masked_mean(divergence_Bhw, valid_Bhw)
