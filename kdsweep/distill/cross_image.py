"""Relations between the pixels of different images of a batch.

Shape legend: B batch, A and D images of it, C channels, h w feature map size, N M nodes of an
image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from kdsweep.config.losses import CrossImageConfig
from kdsweep.distill.base import (
    Activations,
    DistillationLoss,
    tapped,
)
from kdsweep.distill.masking import pool_nodes, valid_fraction
from kdsweep.distill.projection import match_size


class CrossImage(DistillationLoss[CrossImageConfig]):
    """``KL(q(t)_and ‖ q(s)_and)``, how node n of image a resembles the nodes of image d; mean.

    ``q(f)_and = softmax_m(cos(f_an, f_dm) / τ)``. Features of shape (B, C, h, w) are averaged over
    square cells to nodes (B, C, N); the similarities of one network have the shape (B, N, B, N),
    whatever its number of channels, so nothing is projected. Features of another size are resized
    to the teacher's first.

    Averaged over:
        The nodes n of image a, by their share of labelled pixels, then all ordered pairs (a, d)
        of images with a label, an image with itself among them. Nodes without a labelled pixel
        are neither rows nor columns. A batch of one image relates to no other and gives zero.

    Defaults:
        Weight 1 and temperature 0.1, as in the authors' code; the divergence is not multiplied by
        τ². At most 12 nodes along each side, 12² · 12² similarities a pair.

    Taps:
        Published on the features that the classifier reads (after DeepLabV3's or PSPNet's head,
        stride 8); ours is ``decoder``, which is that for every architecture.

    Reference:
        Yang et al., Cross-Image Relational Knowledge Distillation for Semantic Segmentation,
        arXiv 2204.06986, mini-batch-based pixel-to-pixel distillation alone: without the memory of
        pixels and regions of earlier batches. Paper and authors' code agree, and divide by the
        number of images squared: an image is paired with itself as well, and so it is here. The
        code can average over cells of 2×2 positions first; the cells here are as large as
        ``max_side`` needs.
    """

    @override
    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        total = student.logits_BKHW.new_zeros((), dtype=torch.float32)
        for tap in self.taps:
            teacher_BChw = tapped(teacher, tap)
            student_BChw = match_size(tapped(student, tap), teacher_BChw.shape[-2:])
            weight_Bhw = valid_fraction(labels_BHW, teacher_BChw.shape[-2:])
            student_BNC, weight_BN = self._nodes(student_BChw, weight_Bhw)
            teacher_BNC, _ = self._nodes(teacher_BChw, weight_Bhw)
            if len(labels_BHW) == 1:
                total = total + 0.0 * student_BNC.sum()
            else:
                total = total + self._divergence(student_BNC, teacher_BNC, weight_BN)
        return total

    def _nodes(self, features_BChw: Tensor, weight_Bhw: Tensor) -> tuple[Tensor, Tensor]:
        nodes_BChw, weight_Bhw = pool_nodes(features_BChw, weight_Bhw, self.keys.max_side)
        unit_BNC = F.normalize(nodes_BChw.flatten(2).transpose(1, 2), dim=2)
        return unit_BNC, weight_Bhw.flatten(1).to(unit_BNC.dtype)

    def _divergence(self, student_BNC: Tensor, teacher_BNC: Tensor, weight_BN: Tensor) -> Tensor:
        log_student_ANDM = self._log_relations(student_BNC, weight_BN > 0)
        log_teacher_ANDM = self._log_relations(teacher_BNC, weight_BN > 0)
        gap_ANDM = log_teacher_ANDM - log_student_ANDM
        divergence_AND = (log_teacher_ANDM.exp() * gap_ANDM).sum(3)
        num_nodes_B = weight_BN.sum(1)
        labelled_B = (num_nodes_B > 0).to(weight_BN.dtype)
        weight_BN = weight_BN / torch.where(num_nodes_B > 0, num_nodes_B, 1.0).unsqueeze(1)
        pairs = (divergence_AND * weight_BN.unsqueeze(2)).sum((0, 1)) @ labelled_B
        return pairs / labelled_B.sum().square().clamp(min=1.0)

    def _log_relations(self, unit_BNC: Tensor, valid_BN: Tensor) -> Tensor:
        batch, num_nodes, _ = unit_BNC.shape
        rows_RC = unit_BNC.flatten(0, 1)
        # Low enough below all others, which are at least −1/τ, for a share of exactly zero, and
        # finite, so that an image without a label gives no NaN.
        floor = -1.0 / self.keys.temperature - 1e4
        bias_1R = torch.where(valid_BN, 0.0, floor).view(1, -1).to(rows_RC.dtype)
        similarity_RR = torch.addmm(bias_1R, rows_RC / self.keys.temperature, rows_RC.T)
        return F.log_softmax(similarity_RR.view(batch, num_nodes, batch, num_nodes), dim=3)
