"""What is counted of each frame, and the scores that sums over frames give.

Shape legend: N frames, K classes, H W image size, R resamples, B calibration bins; confusion
matrices are indexed [label, prediction].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kdsweep.config.metrics import LABELLED, SEEN, MiouOver, counts
from kdsweep.data.sources.lyft import HOOD_TOP
from kdsweep.deploy.boundary import boundary_f
from kdsweep.deploy.calibration import calibration_bins, calibration_error
from kdsweep.deploy.lyft_score import challenge_classes, challenge_scores
from kdsweep.labels import VOID


@dataclass
class FrameCounts:
    """Counts of predictions, frame by frame.

    Args:
        classes: Names of the data's classes.
        has_hood: Whether vehicle labels below :data:`~kdsweep.data.sources.lyft.HOOD_TOP` are the
            ego car's hood, which the challenge's score leaves out.
        calibration: Whether confidences are given.
    """

    classes: Sequence[str]
    has_hood: bool = False
    calibration: bool = True
    _confusions: list[np.ndarray] = field(default_factory=list, init=False, repr=False)
    _without_hood: list[np.ndarray] = field(default_factory=list, init=False, repr=False)
    _boundaries: list[np.ndarray] = field(default_factory=list, init=False, repr=False)
    _bins: list[np.ndarray] = field(default_factory=list, init=False, repr=False)

    def add(
        self,
        labels_HW: np.ndarray,
        predicted_HW: np.ndarray,
        confidence_HW: np.ndarray | None = None,
    ) -> None:
        """Count a frame.

        Args:
            labels_HW: uint8 class ids, 255 = void.
            predicted_HW: uint8 class ids.
            confidence_HW: Probability of the predicted class, where calibration is counted.
        """
        num_classes = len(self.classes)
        self._confusions.append(confusion(labels_HW, predicted_HW, num_classes))
        if self.has_hood and (named := challenge_classes(self.classes)) is not None:
            seen_HW = labels_HW.copy()
            top = round(HOOD_TOP * len(seen_HW))
            seen_HW[top:][np.isin(seen_HW[top:], named[1])] = VOID
            self._without_hood.append(confusion(seen_HW, predicted_HW, num_classes))
        self._boundaries.append(boundary_f(labels_HW, predicted_HW, num_classes))
        if self.calibration:
            assert confidence_HW is not None
            self._bins.append(calibration_bins(labels_HW, predicted_HW, confidence_HW))

    def __len__(self) -> int:
        return len(self._confusions)

    @property
    def confusion_KK(self) -> np.ndarray:
        """Numbers of pixels over all frames, int64."""
        return np.asarray(np.sum(self._confusions, axis=0))

    @property
    def bins_3B(self) -> np.ndarray:
        """Calibration counts over all frames."""
        return np.asarray(np.sum(self._bins, axis=0))

    def scores(self, weights_RN: np.ndarray) -> dict[str, np.ndarray]:
        """Scores on weighted frames.

        Args:
            weights_RN: How often each frame counts, a row for each set of scores.

        Returns:
            Of each score an array of (R,), NaN where it is not defined: ``miou`` (over the
            classes that are labelled in the row's frames), ``miou_seen`` (over those that are
            labelled or predicted there), ``pixel_accuracy``, ``boundary_f`` (mean over a frame's
            classes, then over frames), ``ece``, the challenge's scores, and by class
            ``iou/NAME`` and ``boundary_f/NAME`` (mean over the frames that have the class).
        """
        confusion_RKK = weighted_sums(self._confusions, weights_RN)
        right_R = np.trace(confusion_RKK, axis1=-2, axis2=-1)
        iou_RK = class_ious(confusion_RKK)
        found = {
            "miou": mean_of_defined(iou_RK),
            "miou_seen": mean_of_defined(class_ious(confusion_RKK, SEEN)),
            "pixel_accuracy": _ratio(right_R, confusion_RKK.sum((-2, -1))),
        }
        boundary_NK = np.array(self._boundaries)
        frame_N = mean_of_defined(boundary_NK)
        found["boundary_f"] = _weighted_mean(frame_N[:, None], weights_RN)[:, 0]
        if self.calibration:
            found["ece"] = calibration_error(weighted_sums(self._bins, weights_RN))
        named = challenge_classes(self.classes)
        if named is not None:
            counted = self._without_hood if self.has_hood else self._confusions
            found |= challenge_scores(weighted_sums(counted, weights_RN), *named)
        boundary_RK = _weighted_mean(boundary_NK, weights_RN)
        for k, name in enumerate(self.classes):
            found[f"iou/{name}"] = iou_RK[:, k]
            found[f"boundary_f/{name}"] = boundary_RK[:, k]
        return found


def confusion(labels_HW: np.ndarray, predicted_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Confusion matrix of a frame, int64; void is left out."""
    valid_HW = labels_HW != VOID
    cells = labels_HW[valid_HW].astype(np.int64) * num_classes + predicted_HW[valid_HW]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_ious(confusion_RKK: np.ndarray, over: MiouOver = LABELLED) -> np.ndarray:
    """IoU of each class; NaN where it does not count."""
    hits_RK = np.diagonal(confusion_RKK, axis1=-2, axis2=-1)
    labelled_RK, predicted_RK = confusion_RKK.sum(-1), confusion_RKK.sum(-2)
    counted_RK = counts(labelled_RK, predicted_RK, over)
    return np.where(counted_RK, _ratio(hits_RK, labelled_RK + predicted_RK - hits_RK), np.nan)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last dimension of what is not NaN; NaN where nothing is."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1))


def weighted_sums(frames: Sequence[np.ndarray], weights_RN: np.ndarray) -> np.ndarray:
    """Weighted sums of what was counted of each frame; exact, being sums of integers in float64.

    Args:
        frames: N arrays of one shape.
        weights_RN: How often each frame counts, a row for each sum.
    """
    stacked = np.array(frames, np.float64)
    flat = weights_RN @ stacked.reshape(len(stacked), -1)
    return np.asarray(flat.reshape(len(weights_RN), *stacked.shape[1:]))


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.asarray(over / np.where(under > 0, under, np.nan))


def _weighted_mean(values_NK: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """Of each column the weighted mean over the frames where it is defined."""
    defined_NK = np.isfinite(values_NK)
    sums_RK = weights_RN @ np.where(defined_NK, values_NK, 0.0)
    return _ratio(sums_RK, weights_RN @ defined_NK.astype(np.float64))
