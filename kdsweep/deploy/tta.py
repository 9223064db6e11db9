"""What networks say of a frame: one view of it, or the mean over several views and two networks.

Shape legend: B batch, C colour channels, K classes, H W image size, h w size of a view.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.deploy.trained_student import TrainedStudent
from kdsweep.models import SegmentationNetwork


@dataclass(frozen=True)
class Views:
    """How a frame is looked at.

    Attributes:
        flip: Also mirrored left to right.
        scale: Also enlarged and reduced by this factor; 1 does neither.
        teacher: Weight of the teacher's probabilities in the mean, the student having the rest.
    """

    flip: bool = False
    scale: float = 1.0
    teacher: float = 0.0


class FramePredictor:
    """Probabilities of single frames.

    Args:
        teacher: The network that :attr:`Views.teacher` is about, where there is one.
    """

    def __init__(self, student: TrainedStudent, teacher: SegmentationNetwork | None = None) -> None:
        self._student = student
        self._teacher = teacher

    def probabilities(self, image_HWC: np.ndarray, views: Views) -> tuple[np.ndarray, float]:
        """Class probabilities of a frame.

        Args:
            image_HWC: uint8 RGB.
            views: How to look at it.

        Returns:
            float32 of (H, W, K), and the milliseconds that it took.
        """
        begun = time.perf_counter()
        student = self._student
        networks = [(student.network, 1.0 - views.teacher)]
        if views.teacher:
            assert self._teacher is not None, "no step asks for a teacher that is not there"
            networks.append((self._teacher, views.teacher))
        with torch.inference_mode():
            image_1CHW = (
                torch.from_numpy(np.array(image_HWC)).to(student.device).permute(2, 0, 1)[None]
            )
            found_1KHW = sum(w * _mean_of_views(n, image_1CHW, views, student) for n, w in networks)
            assert isinstance(found_1KHW, Tensor)
            # Copied to the processor, which waits until it is there.
            probabilities_HWK = found_1KHW[0].permute(1, 2, 0).contiguous().cpu().numpy()
        return probabilities_HWK, 1000 * (time.perf_counter() - begun)


def _mean_of_views(
    network: SegmentationNetwork, image_1CHW: Tensor, views: Views, student: TrainedStudent
) -> Tensor:
    """Mean probabilities, of (1, K, H, W), over all sizes and, where asked for, mirrored."""
    scales = [1.0] if views.scale == 1.0 else [1.0, views.scale, 1.0 / views.scale]
    size = (image_1CHW.shape[2], image_1CHW.shape[3])
    found = []
    for scale in scales:
        view_1Chw = image_1CHW
        if scale != 1.0:
            multiple = network.stride
            target = [max(multiple, round(s * scale / multiple) * multiple) for s in size]
            view_1Chw = F.interpolate(
                image_1CHW.float(),
                target,
                mode="bilinear",
                antialias=scale < 1,
                align_corners=False,
            ).round()
            view_1Chw = view_1Chw.clamp(0, 255).to(torch.uint8)
        for mirrored in (False, True) if views.flip else (False,):
            seen_1Chw = view_1Chw.flip(3) if mirrored else view_1Chw
            with precision(student):
                logits_1Khw = network(seen_1Chw.permute(0, 2, 3, 1)).logits_BKHW
            told_1Khw = logits_1Khw.float().softmax(1)
            if mirrored:
                told_1Khw = told_1Khw.flip(3)
            if scale != 1.0:
                told_1Khw = F.interpolate(told_1Khw, size, mode="bilinear")
            found.append(told_1Khw)
    return torch.stack(found).mean(0)


def precision(student: TrainedStudent) -> AbstractContextManager[object]:
    """Return the precision of its forward passes, as a context."""
    if student.autocast is None:
        return nullcontext()
    return torch.autocast(student.device.type, dtype=student.autocast)
