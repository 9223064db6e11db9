"""A loss on the class scores."""

import torch.nn.functional as F
from torch import Tensor

from kdsweep.distill.base import Activations, DistillationLoss
from kdsweep.distill.masking import masked_mean, pool_valid
from kdsweep_extra.keys import CosineConfig


class Cosine(DistillationLoss[CosineConfig]):
    """``1 − cos(s, t)`` of the class scores (B, K, H, W) at each pixel."""

    def forward(self, student: Activations, teacher: Activations, labels_BHW: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.forward`."""
        student_BKhw, valid_Bhw = pool_valid(student.logits_BKHW, labels_BHW, self.keys.stride)
        teacher_BKhw, _ = pool_valid(teacher.logits_BKHW, labels_BHW, self.keys.stride)
        if self.keys.centred:
            student_BKhw = student_BKhw - student_BKhw.mean(1, keepdim=True)
            teacher_BKhw = teacher_BKhw - teacher_BKhw.mean(1, keepdim=True)
        return masked_mean(1 - F.cosine_similarity(student_BKhw, teacher_BKhw), valid_Bhw)
