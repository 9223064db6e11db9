"""Whether a network is right as often as it says: expected calibration error over pixels.

Reference: Guo et al., On calibration of modern neural networks, ICML 2017: bins of equal width, the
distance between mean confidence and accuracy in each, averaged by how many pixels it holds.

Shape legend: H W image size, N frames, R resamples, B bins.
"""

from __future__ import annotations

import numpy as np

from kdsweep.labels import VOID

NUM_BINS = 15
PIXELS, CONFIDENCE, RIGHT = range(3)
"""What is counted in each bin: pixels, the sum of their confidences, those predicted right."""


def calibration_bins(
    labels_HW: np.ndarray, predicted_HW: np.ndarray, confidence_HW: np.ndarray
) -> np.ndarray:
    """Counts of one frame.

    Args:
        labels_HW: uint8 class ids, 255 = void, which is left out.
        predicted_HW: uint8 class ids.
        confidence_HW: Probability of the predicted class.

    Returns:
        float64 of (3, B): :data:`PIXELS`, :data:`CONFIDENCE`, :data:`RIGHT`. A bin holds its upper
        end and not its lower one.
    """
    valid_HW = labels_HW != VOID
    confidence = confidence_HW[valid_HW].astype(np.float64)
    right = (labels_HW == predicted_HW)[valid_HW]
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    return np.stack(
        [
            np.bincount(bins, weights=weights, minlength=NUM_BINS)
            for weights in (None, confidence, right)
        ]
    ).astype(np.float64)


def calibration_error(counts_R3B: np.ndarray) -> np.ndarray:
    """Expected calibration error of summed counts, of shape (..., 3, B); NaN without pixels."""
    counts_RB = counts_R3B[..., PIXELS, :]
    gap_RB = np.abs(counts_R3B[..., CONFIDENCE, :] - counts_R3B[..., RIGHT, :])
    total_R = counts_RB.sum(-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(gap_RB.sum(-1) / np.where(total_R > 0, total_R, np.nan))


def reliability(counts_3B: np.ndarray) -> list[dict[str, float | None]]:
    """The reliability table: a row a bin, with its ends, share of pixels, confidence, accuracy."""
    pixels_B = counts_3B[PIXELS]
    total = pixels_B.sum()
    rows: list[dict[str, float | None]] = []
    for index, pixels in enumerate(pixels_B.tolist()):
        confidence, right = counts_3B[CONFIDENCE, index], counts_3B[RIGHT, index]
        rows.append(
            {
                "from": index / NUM_BINS,
                "to": (index + 1) / NUM_BINS,
                "share": pixels / total if total else None,
                "confidence": float(confidence / pixels) if pixels else None,
                "accuracy": float(right / pixels) if pixels else None,
            }
        )
    return rows
