"""Scoring networks on a split.

Shape legend: B batch, H W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdsweep.config.metrics import LABELLED, MiouOver
from kdsweep.labels import VOID
from kdsweep.models import SegmentationNetwork
from kdsweep.training.metrics import Scores, SegmentationScore
from kdsweep.training.online_step import StepSettings

if TYPE_CHECKING:
    from kdsweep.data import Batch

Predictions = dict[str, dict[int, np.ndarray]]


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gave, by network.

    Attributes:
        scores: Its scores.
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
    """
    scores = {name: SegmentationScore(num_classes, device, over) for name in networks}
    predictions: Predictions = {name: {} for name in networks}
    num_equal = {name: torch.zeros((), dtype=torch.int64, device=device) for name in networks}
    num_labelled = torch.zeros((), dtype=torch.int64, device=device)
    # The network that others are compared with goes first.
    order = sorted(networks, key=lambda name: name != compare_with)
    for network in networks.values():
        network.eval()
    # Not inference mode, which is no faster here: networks that are compiled in it do not always
    # train afterwards (pytorch/pytorch#135892).
    with torch.no_grad():
        for images_BHWC, labels_BHW, indices_B in loader:
            images_BHWC = images_BHWC.to(device, non_blocking=True)
            labels_BHW = labels_BHW.to(device, non_blocking=True)
            kept = [(row, i) for row, i in enumerate(indices_B.tolist()) if i in keep]
            labelled_BHW = labels_BHW != VOID
            num_labelled += labelled_BHW.sum()
            reference_BHW: Tensor | None = None
            for name in order:
                with settings.precision():
                    logits_BKHW = networks[name](images_BHWC).logits_BKHW
                predicted_BHW = logits_BKHW.argmax(1)
                scores[name].update(predicted_BHW, labels_BHW)
                for row, index in kept:
                    predictions[name][index] = predicted_BHW[row].to(torch.uint8).cpu().numpy()
                if name == compare_with:
                    reference_BHW = predicted_BHW
                elif reference_BHW is not None:
                    num_equal[name] += ((predicted_BHW == reference_BHW) & labelled_BHW).sum()
    agreement = {
        name: int(num_equal[name]) / int(num_labelled) if num_labelled else float("nan")
        for name in order
        if compare_with in networks and name != compare_with
    }
    return Evaluation({n: s.compute() for n, s in scores.items()}, predictions, agreement)
