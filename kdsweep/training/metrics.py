"""Segmentation metrics from one confusion matrix over the whole split.

Shape legend: B batch, K classes, H W image size; matrices are indexed [label, prediction].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kdsweep.config.metrics import LABELLED, SEEN, MiouOver, counts
from kdsweep.labels import VOID

_COPIES = 32


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
        miou: Mean IoU over the classes that counted; NaN if none did.
        ious: IoU of each class; ``None`` where a class did not count.
        num_classes: Classes that counted.
        pixel_accuracy: Share of labelled pixels predicted right; NaN without labelled pixels.
        seed_compat_iou: Mean over frames of each frame's own mean IoU. It is what the notebook
            this project began with reported, flatters classes that are rarely present, and must
            not be compared with mIoU.
        confusion_KK: Numbers of pixels, int64, that all of these but ``seed_compat_iou`` are
            computed from.
    """

    miou: float
    ious: list[float | None]
    num_classes: int
    pixel_accuracy: float
    seed_compat_iou: float
    confusion_KK: np.ndarray = field(repr=False, compare=False)


class SegmentationScore:
    """Counts predictions frame by frame, on the device, without synchronising.

    Args:
        num_classes: K.
        device: Where the counts live.
        over: The classes that count.
    """

    def __init__(
        self,
        num_classes: int,
        device: torch.device | str = "cpu",
        over: MiouOver = LABELLED,
    ) -> None:
        self.num_classes = num_classes
        self._over = over
        self.confusion_KK = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        self._frame_iou_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._num_frames = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, predictions_BHW: Tensor, labels_BHW: Tensor) -> None:
        """Count a batch.

        Args:
            predictions_BHW: Class ids, integer.
            labels_BHW: Class ids, integer, 255 = void.
        """
        num_frames, k = labels_BHW.shape[0], self.num_classes
        # Void gets a bin of its own, dropped below; selecting the valid pixels instead would
        # need their number, and so a synchronisation.
        labels_BHW = torch.where(labels_BHW == VOID, k, labels_BHW.long())
        frame_B11 = torch.arange(num_frames, device=labels_BHW.device).view(-1, 1, 1)
        cell_BHW = (frame_B11 * (k + 1) + labels_BHW) * k + predictions_BHW.long()
        found = _count(cell_BHW.flatten(), num_frames * (k + 1) * k)
        confusion_BKK = found.view(num_frames, k + 1, k)[:, :k]
        self.confusion_KK += confusion_BKK.sum(0)
        iou_BK, counted_BK = _ious(confusion_BKK, SEEN)  # as the notebook had it
        counted_B = counted_BK.sum(1)
        mean_B = torch.where(counted_BK, iou_BK, 0.0).sum(1) / counted_B.clamp(min=1)
        self._frame_iou_sum += mean_B.sum()
        self._num_frames += (counted_B > 0).sum()

    def compute(self) -> Scores:
        """The scores of all frames so far."""
        iou_K, counted_K = _ious(self.confusion_KK, self._over)
        ious = [
            value if counted else None
            for value, counted in zip(iou_K.tolist(), counted_K.tolist(), strict=True)
        ]
        counted = [value for value in ious if value is not None]
        total = int(self.confusion_KK.sum())
        num_frames = int(self._num_frames)
        return Scores(
            miou=sum(counted) / len(counted) if counted else float("nan"),
            ious=ious,
            num_classes=len(counted),
            pixel_accuracy=int(self.confusion_KK.trace()) / total if total else float("nan"),
            seed_compat_iou=float(self._frame_iou_sum) / num_frames if num_frames else float("nan"),
            confusion_KK=self.confusion_KK.cpu().numpy().copy(),
        )


def _count(cells: Tensor, num_cells: int) -> Tensor:
    """How often each number below ``num_cells`` occurs, int64."""
    if cells.device.type == "cpu":
        return torch.bincount(cells, minlength=num_cells)
    return count_without_waiting(cells, num_cells)


def count_without_waiting(cells: Tensor, num_cells: int) -> Tensor:
    """The same on devices where ``bincount`` would wait for the largest number."""
    # Neighbours, which are mostly equal, count into different copies: on a GPU those that count
    # into the same place do so one after another.
    copy = torch.arange(len(cells), device=cells.device) % _COPIES
    counts = torch.zeros(_COPIES * num_cells, dtype=torch.int64, device=cells.device)
    counts.scatter_add_(0, copy * num_cells + cells, torch.ones_like(cells))
    return counts.view(_COPIES, num_cells).sum(0)


def _ious(confusion: Tensor, over: MiouOver) -> tuple[Tensor, Tensor]:
    """IoU of each class and which classes counted, for matrices of shape (..., K, K)."""
    hits = confusion.diagonal(dim1=-2, dim2=-1).double()
    labelled, predicted = confusion.sum(-1), confusion.sum(-2)
    union = labelled + predicted - hits
    return hits / union.clamp(min=1), counts(labelled, predicted, over)
