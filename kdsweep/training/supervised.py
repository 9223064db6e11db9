"""Losses against the labels, and their sum.

Shape legend: B batch, K classes, H W image size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdsweep.labels import VOID


class SupervisedLoss(nn.Module):
    """Weighted sum of cross-entropy, soft Dice and focal loss, void pixels left out.

    A batch without a labelled pixel gives zero.

    Args:
        ce: Weight of cross-entropy; 0 leaves it out.
        label_smoothing: For cross-entropy.
        dice: Weight of the soft Dice loss (mean over the classes present in the batch).
        focal: Weight of the focal loss.
        gamma: Exponent of the focal loss's modulating factor.
        class_weights: One weight per class for cross-entropy and focal loss.

    Reference:
        Dice: Milletari et al., arXiv 1606.04797, without squares in the denominator. Focal: Lin et
        al., arXiv 1708.02002.
    """

    class_weights_K: Tensor | None

    def __init__(
        self,
        *,
        ce: float = 1.0,
        label_smoothing: float = 0.0,
        dice: float = 0.0,
        focal: float = 0.0,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.ce = ce
        self.label_smoothing = label_smoothing
        self.dice = dice
        self.focal = focal
        self.gamma = gamma
        weights = None if class_weights is None else torch.tensor(class_weights).float()
        self.register_buffer("class_weights_K", weights, persistent=False)

    def forward(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """The loss.

        Args:
            logits_BKHW: Class scores; used in float32 whatever their type.
            labels_BHW: int64 class ids, 255 = void.

        Returns:
            float32 scalar.
        """
        logits_BKHW = logits_BKHW.float()
        total = logits_BKHW.new_zeros(())
        if self.ce:
            total = total + self.ce * self._cross_entropy(logits_BKHW, labels_BHW)
        if self.dice:
            total = total + self.dice * _soft_dice(logits_BKHW, labels_BHW)
        if self.focal:
            total = total + self.focal * self._focal(logits_BKHW, labels_BHW)
        return total

    def _cross_entropy(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        summed = F.cross_entropy(
            logits_BKHW,
            labels_BHW,
            weight=self.class_weights_K,
            ignore_index=VOID,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        # reduction="mean" divides by zero where everything is void.
        return summed / self._total_weight(labels_BHW)

    def _focal(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        entropy_BHW = F.cross_entropy(logits_BKHW, labels_BHW, ignore_index=VOID, reduction="none")
        loss_BHW = (1 - torch.exp(-entropy_BHW)).pow(self.gamma) * entropy_BHW
        if self.class_weights_K is not None:
            valid_BHW = labels_BHW != VOID
            loss_BHW = loss_BHW * self.class_weights_K[torch.where(valid_BHW, labels_BHW, 0)]
        return loss_BHW.sum() / self._total_weight(labels_BHW)

    def _total_weight(self, labels_BHW: Tensor) -> Tensor:
        valid_BHW = labels_BHW != VOID
        if self.class_weights_K is None:
            return valid_BHW.sum().clamp(min=1)
        weights_BHW = self.class_weights_K[torch.where(valid_BHW, labels_BHW, 0)]
        total = torch.where(valid_BHW, weights_BHW, 0.0).sum()
        return torch.where(total > 0, total, torch.ones_like(total))


def _soft_dice(logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    num_classes = logits_BKHW.shape[1]
    valid_BHW = labels_BHW != VOID
    probability_BKHW = logits_BKHW.softmax(1) * valid_BHW.unsqueeze(1)
    one_hot_BKHW = F.one_hot(torch.where(valid_BHW, labels_BHW, 0), num_classes).permute(0, 3, 1, 2)
    truth_BKHW = one_hot_BKHW * valid_BHW.unsqueeze(1)
    overlap_K = (probability_BKHW * truth_BKHW).sum((0, 2, 3))
    size_K = (probability_BKHW + truth_BKHW).sum((0, 2, 3))
    present_K = truth_BKHW.sum((0, 2, 3)) > 0
    loss_K = torch.where(present_K, 1 - 2 * overlap_K / size_K.clamp(min=1e-6), 0.0)
    return loss_K.sum() / present_K.sum().clamp(min=1)


def inverse_log_weights(frequencies: Sequence[float]) -> tuple[float, ...]:
    """Class weights ``1 / ln(1.02 + frequency)``, scaled to a mean of one.

    Reference:
        Paszke et al., ENet, arXiv 1606.02147, section 5.2.
    """
    weights = 1.0 / torch.log(1.02 + torch.tensor(list(frequencies), dtype=torch.float64))
    return tuple((weights / weights.mean()).tolist())
