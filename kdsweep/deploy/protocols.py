"""Predictions of a split beside the labels they are scored against, at either size.

Shape legend: B batch, K classes, H W size that is scored at, C RGB channels, N frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdsweep.config.metrics import RESIZED, Protocol
from kdsweep.data import EvalLoader
from kdsweep.deploy.tta import precision
from kdsweep.deploy.windows import Windows, require_size, sliding_logits
from kdsweep.training.evaluation import enlarged

if TYPE_CHECKING:
    from kdsweep.data.source import SplitName
    from kdsweep.deploy.trained_student import TrainedStudent


class Scorable(NamedTuple):
    """A frame's prediction and what is true of it.

    Attributes:
        true_HW: uint8 class ids, 255 = void.
        labels_HW: uint8 class ids.
        confidence_HW: float32, the probability of each predicted label.
    """

    true_HW: np.ndarray
    labels_HW: np.ndarray
    confidence_HW: np.ndarray


@torch.inference_mode()
def predictions(
    student: TrainedStudent,
    split: SplitName,
    protocol: Protocol = RESIZED,
    windows: Windows | None = None,
) -> Iterator[Scorable]:
    """Predict a split in its order.

    Whole images go through the network as validation takes them: same batches, same precision.

    Args:
        student: The student.
        split: Name of a split that its data have.
        protocol: The size to score at.
        windows: Look at the files' own pixels in windows; always native.

    Raises:
        ConfigError: The student does not take windows of this size.
    """
    frames = student.split(split)
    if windows is not None:
        logits = partial(_logits, student)
        require_size(logits, windows)
        for image_HWC, true_HW in student.data.native[split]:
            found_KHW = sliding_logits(logits, image_HWC, windows)
            yield from _scorable(torch.from_numpy(found_KHW)[None], [true_HW])
        return
    own_sizes = None if protocol == RESIZED else iter(student.data.native[split].labels)
    for images_BHWC, labels_BHW, _ in EvalLoader(frames, student.batch_size):
        with precision(student):
            logits_BKHW = student.network(images_BHWC.to(student.device)).logits_BKHW
        if own_sizes is None:
            yield from _scorable(logits_BKHW, labels_BHW.numpy())
            continue
        for logits_1KHW in logits_BKHW.split(1):
            true_HW = next(own_sizes)
            yield from _scorable(enlarged(logits_1KHW, true_HW.shape), [true_HW])


def _logits(student: TrainedStudent, images_NHWC: np.ndarray) -> np.ndarray:
    with precision(student):
        found = student.network(torch.from_numpy(images_NHWC).to(student.device)).logits_BKHW
    return np.asarray(found.float().cpu().numpy())


def _scorable(logits_BKHW: Tensor, true_BHW: np.ndarray | list[np.ndarray]) -> Iterator[Scorable]:
    labels_BHW = logits_BKHW.argmax(1)
    sure_BHW = logits_BKHW.float().softmax(1).gather(1, labels_BHW[:, None])[:, 0]
    found = labels_BHW.to(torch.uint8).cpu().numpy(), sure_BHW.cpu().numpy()
    yield from (Scorable(*one) for one in zip(true_BHW, *found, strict=True))
