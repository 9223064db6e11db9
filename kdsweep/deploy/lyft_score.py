"""The Lyft-Udacity perception challenge's own score, from confusion matrices.

F0.5 of the road, F2 of the vehicles, and their mean; over the pixels of all frames, each class
against all others, road lines being road. The challenge took a penalty for less than 10 frames a
second off the mean, which depends on its machine and is left out here.

Shape legend: K classes, [label, prediction]; leading dimensions may be any.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdsweep.data.carla import CLASSES, ROAD, ROAD_LINE, VEHICLE

ROAD_BETA, VEHICLE_BETA = 0.5, 2.0


def challenge_classes(classes: Sequence[str]) -> tuple[list[int], list[int]] | None:
    """Ids of what counts as road and as vehicle, by the names of the data's classes.

    Returns:
        ``None`` where the data lack one of CARLA's two classes.
    """
    if CLASSES[ROAD] not in classes or CLASSES[VEHICLE] not in classes:
        return None
    road = [i for i, name in enumerate(classes) if name in (CLASSES[ROAD], CLASSES[ROAD_LINE])]
    return road, [classes.index(CLASSES[VEHICLE])]


def f_beta(confusion_KK: np.ndarray, ids: Sequence[int], beta: float) -> np.ndarray:
    """F-score of some classes taken as one, against all others; NaN where they never occur.

    Args:
        confusion_KK: Numbers of pixels, of shape (..., K, K).
        ids: The classes.
        beta: How many times as much recall counts as precision.
    """
    chosen = list(ids)
    labelled = confusion_KK[..., chosen, :].sum((-2, -1))
    predicted = confusion_KK[..., chosen].sum((-2, -1))
    hits = confusion_KK[..., chosen, :][..., chosen].sum((-2, -1))
    weighted = beta**2 * labelled + predicted
    with np.errstate(invalid="ignore"):
        return np.asarray((1 + beta**2) * hits / np.where(weighted > 0, weighted, np.nan))


def challenge_scores(
    confusion_KK: np.ndarray, road: Sequence[int], vehicle: Sequence[int]
) -> dict[str, np.ndarray]:
    """``lyft/road_f05``, ``lyft/vehicle_f2`` and their mean ``lyft/score``."""
    road_f = f_beta(confusion_KK, road, ROAD_BETA)
    vehicle_f = f_beta(confusion_KK, vehicle, VEHICLE_BETA)
    return {
        "lyft/score": (road_f + vehicle_f) / 2,
        "lyft/road_f05": road_f,
        "lyft/vehicle_f2": vehicle_f,
    }
