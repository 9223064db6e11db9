"""A chain of post-processing steps, applied to the frames of a split."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kdsweep.data import Split
from kdsweep.deploy.steps import Steps, views_of
from kdsweep.deploy.tta import FramePredictor, Views


@dataclass(frozen=True, eq=False)
class Found:
    """What a chain of steps made of a frame.

    Attributes:
        labels_HW: uint8 class ids.
        confidence_HW: What the networks gave the label, as a probability.
        ms: How long it took, from uint8 pixels to labels.
    """

    labels_HW: np.ndarray
    confidence_HW: np.ndarray
    ms: float


def apply_chains(
    predictor: FramePredictor, split: Split, chains: Sequence[Steps]
) -> Iterator[tuple[int, list[Found]]]:
    """Apply several chains to each frame; networks look at it once for all that look alike.

    Frames go through one at a time, so that memory does not grow with the split.

    Yields:
        Of each frame its number and what each chain found.
    """
    for index in range(len(split)):
        image_HWC = split.images_NHWC[index]
        told: dict[Views, tuple[np.ndarray, float]] = {}
        found = []
        for chain in chains:
            views = views_of(chain)
            if views not in told:
                told[views] = predictor.probabilities(image_HWC, views)
            found.append(_filtered(image_HWC, *told[views], chain))
        yield index, found


def warm_up(predictor: FramePredictor, split: Split, chains: Sequence[Steps]) -> None:
    """Run the first frame through, so that what is loaded only once is in nobody's time."""
    next(iter(apply_chains(predictor, split, chains)))


def median_ms(times: Iterable[float]) -> float:
    """The median, which a pause of the machine does not move."""
    return float(np.median(list(times)))


def _filtered(image_HWC: np.ndarray, told_HWK: np.ndarray, ms: float, chain: Steps) -> Found:
    begun = time.perf_counter()
    labels_HW = told_HWK.argmax(axis=2).astype(np.uint8)
    for step in chain:
        if (apply := step.kind.filter) is not None:
            told_HWK, labels_HW = apply(image_HWC, told_HWK, labels_HW, step.amount)
    ms += 1000 * (time.perf_counter() - begun)
    sure_HW = np.take_along_axis(told_HWK, labels_HW[..., None].astype(np.int64), axis=2)[..., 0]
    return Found(labels_HW, sure_HW, ms)
