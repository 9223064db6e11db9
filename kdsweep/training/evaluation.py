"""Scoring networks on a split.

Shape legend: B batch, K classes, H W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdsweep.config.metrics import LABELLED, MiouOver
from kdsweep.labels import VOID
from kdsweep.models import SegmentationNetwork
from kdsweep.training.metrics import Scores, SegmentationScore
from kdsweep.training.step import StepSettings

if TYPE_CHECKING:
    from kdsweep.data import Batch

Predictions = dict[str, dict[int, np.ndarray]]


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gave, by network.

    Attributes:
        predictions: Kept predictions (uint8, H×W) by frame.
        agreement: Share of the labelled pixels where it predicts the same class as the network
            it was compared with; NaN without labelled pixels.
    """

    scores: dict[str, Scores]
    predictions: Predictions
    agreement: dict[str, float]


def evaluate(
    networks: Mapping[str, SegmentationNetwork],
    loader: Iterable[Batch],
    *,
    num_classes: int,
    device: torch.device,
    settings: StepSettings,
    keep: Collection[int] = (),
    compare_with: str | None = None,
    over: MiouOver = LABELLED,
    native: Iterable[np.ndarray] | None = None,
) -> Evaluation:
    """Score several networks in one pass over a split.

    Args:
        networks: Networks by name; they are left in evaluation mode.
        loader: Batches of the split.
        num_classes: K.
        device: Where the networks are.
        settings: Precision of the forward pass.
        keep: Frames whose predictions are returned.
        compare_with: The network that the others' predictions are compared with.
        over: The classes that count in mIoU.
        native: Labels of the frames (uint8, of any H×W each) in the loader's order, to be scored
            against in place of the loader's; logits are enlarged to their size. Kept predictions
            have the loader's size all the same.
    """
    scores = {name: SegmentationScore(num_classes, device, over) for name in networks}
    predictions: Predictions = {name: {} for name in networks}
    num_equal = {name: torch.zeros((), dtype=torch.int64, device=device) for name in networks}
    num_labelled = torch.zeros((), dtype=torch.int64, device=device)
    own_sizes = None if native is None else iter(native)
    # The network that others are compared with goes first.
    order = sorted(networks, key=lambda name: name != compare_with)
    for network in networks.values():
        network.eval()
    # Not inference mode, which is no faster here: networks that are compiled in it do not always
    # train afterwards (pytorch/pytorch#135892).
    with torch.no_grad():
        for images_BHWC, labels_BHW, indices_B in loader:
            images_BHWC = images_BHWC.to(device, non_blocking=True)
            kept = [(row, i) for row, i in enumerate(indices_B.tolist()) if i in keep]
            # One batch, or single frames where each may have a size of its own.
            targets = [labels_BHW]
            if own_sizes is not None:
                targets = [torch.from_numpy(next(own_sizes))[None] for _ in indices_B]
            targets = [target_BHW.to(device, non_blocking=True) for target_BHW in targets]
            labelled = [target_BHW != VOID for target_BHW in targets]
            for labelled_BHW in labelled:
                num_labelled += labelled_BHW.sum()
            reference: list[Tensor] | None = None
            for name in order:
                with settings.precision():
                    logits_BKHW = networks[name](images_BHWC).logits_BKHW
                if own_sizes is None:
                    found = [logits_BKHW.argmax(1)]
                else:
                    found = [
                        enlarged(logits_BKHW[row : row + 1], target_BHW.shape[1:]).argmax(1)
                        for row, target_BHW in enumerate(targets)
                    ]
                for predicted_BHW, target_BHW in zip(found, targets, strict=True):
                    scores[name].update(predicted_BHW, target_BHW)
                for row, index in kept:
                    small_HW = logits_BKHW[row].argmax(0)
                    predictions[name][index] = small_HW.to(torch.uint8).cpu().numpy()
                if name == compare_with:
                    reference = found
                elif reference is not None:
                    for ours, theirs, labelled_BHW in zip(found, reference, labelled, strict=True):
                        num_equal[name] += ((ours == theirs) & labelled_BHW).sum()
    agreement = {
        name: int(num_equal[name]) / int(num_labelled) if num_labelled else float("nan")
        for name in order
        if compare_with in networks and name != compare_with
    }
    return Evaluation({n: s.compute() for n, s in scores.items()}, predictions, agreement)


def enlarged(logits_BKHW: Tensor, size: Sequence[int]) -> Tensor:
    """Logits at another size, by linear interpolation between the middles of pixels.

    Args:
        logits_BKHW: Of any precision.
        size: Height and width.

    Returns:
        float32.
    """
    return F.interpolate(logits_BKHW.float(), tuple(size), mode="bilinear", align_corners=False)
