"""How well predicted outlines follow the labelled ones: the boundary F-score.

Reference: Csurka, Larlus & Perronnin, What is a good evaluation measure for semantic segmentation?,
BMVC 2013: the F1 of boundary precision and recall, class by class and frame by frame, where a
boundary pixel counts as found if the other outline passes within 0.75 % of the image diagonal.

Shape legend: H W image size, K classes.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from kdsweep.labels import VOID

TOLERANCE = 0.0075
"""Share of the image diagonal; never less than one pixel."""

_NEIGHBOURS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def tolerance_px(image_size: tuple[int, int]) -> float:
    """How far apart two outlines may be, in pixels."""
    return max(1.0, TOLERANCE * math.hypot(*image_size))


def boundary_f(labels_HW: np.ndarray, predicted_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Boundary F-score of each class in one frame.

    A boundary pixel of a class has a neighbour (of four) of another class. Void has no outline:
    pixels without a label are left out of the prediction too, and neither a neighbour without a
    label nor the frame's edge makes a boundary.

    Args:
        labels_HW: uint8 class ids, 255 = void.
        predicted_HW: uint8 class ids.
        num_classes: K.

    Returns:
        float64 of (K,): NaN where a class is in neither, 0 where it is in only one of them.
    """
    tolerance = tolerance_px((labels_HW.shape[0], labels_HW.shape[1]))
    valid_HW = labels_HW != VOID
    found_K = np.full(num_classes, math.nan)
    for k in np.union1d(labels_HW[valid_HW], predicted_HW[valid_HW]):
        ours_HW, theirs_HW = ((ids == k) & valid_HW for ids in (predicted_HW, labels_HW))
        found_K[k] = 0.0
        if ours_HW.any() and theirs_HW.any():
            ours_HW, theirs_HW = _outline(ours_HW, valid_HW), _outline(theirs_HW, valid_HW)
            if not ours_HW.any() and not theirs_HW.any():  # both fill all there is
                found_K[k] = 1.0
            elif ours_HW.any() and theirs_HW.any():
                precision = _share_near(ours_HW, theirs_HW, tolerance)
                recall = _share_near(theirs_HW, ours_HW, tolerance)
                if precision + recall > 0:
                    found_K[k] = 2 * precision * recall / (precision + recall)
    return found_K


def _outline(mask_HW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Pixels of the mask beside a valid pixel that is not of it."""
    others_HW = (valid_HW & ~mask_HW).astype(np.uint8)
    return mask_HW & (cv2.dilate(others_HW, _NEIGHBOURS) > 0)


def _share_near(points_HW: np.ndarray, outline_HW: np.ndarray, tolerance: float) -> float:
    """Share of the points with a pixel of the outline within the tolerance."""
    away_HW = cv2.distanceTransform(
        (~outline_HW).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    # The transform is float32; a distance of exactly the tolerance counts.
    return float((away_HW[points_HW] <= tolerance + 1e-4).mean())
