"""Scoring networks on a split.

Shape legend: B batch, H W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdsweep.models import SegmentationNetwork
from kdsweep.training.metrics import Scores, SegmentationScore
from kdsweep.training.online_step import StepSettings

if TYPE_CHECKING:
    from kdsweep.data import Batch

Predictions = dict[str, dict[int, np.ndarray]]


def evaluate(
    networks: Mapping[str, SegmentationNetwork],
    loader: Iterable[Batch],
    *,
    num_classes: int,
    device: torch.device,
    settings: StepSettings,
    keep: Collection[int] = (),
) -> tuple[dict[str, Scores], Predictions]:
    """Score several networks in one pass over a split.

    Args:
        networks: Networks by name; they are left in evaluation mode.
        loader: Batches of the split.
        num_classes: K.
        device: Where the networks are.
        settings: Precision of the forward pass.
        keep: Frames whose predictions are returned.

    Returns:
        Scores by network, and kept predictions (uint8, H×W) by network and frame.
    """
    scores = {name: SegmentationScore(num_classes, device) for name in networks}
    predictions: Predictions = {name: {} for name in networks}
    for network in networks.values():
        network.eval()
    with torch.inference_mode():
        for images_BHWC, labels_BHW, indices_B in loader:
            images_BHWC = images_BHWC.to(device, non_blocking=True)
            labels_BHW = labels_BHW.to(device, non_blocking=True)
            kept = [(row, i) for row, i in enumerate(indices_B.tolist()) if i in keep]
            for name, network in networks.items():
                with settings.precision():
                    logits_BKHW = network(images_BHWC).logits_BKHW
                predicted_BHW = logits_BKHW.argmax(1)
                scores[name].update(predicted_BHW, labels_BHW)
                for row, index in kept:
                    predictions[name][index] = predicted_BHW[row].to(torch.uint8).cpu().numpy()
    return {name: score.compute() for name, score in scores.items()}, predictions
