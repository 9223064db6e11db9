"""CARLA's 13 classes (0.8), shared by the real Lyft frames and by generated scenes."""

from __future__ import annotations

import numpy as np

CLASSES = (
    "None",
    "Buildings",
    "Fences",
    "Other",
    "Pedestrians",
    "Poles",
    "RoadLines",
    "Roads",
    "Sidewalks",
    "Vegetation",
    "Vehicles",
    "Walls",
    "TrafficSigns",
)
"""Names by id. None is sky and open ground; CARLA labels neither."""

(
    NONE,
    BUILDING,
    FENCE,
    OTHER,
    PEDESTRIAN,
    POLE,
    ROAD_LINE,
    ROAD,
    SIDEWALK,
    VEGETATION,
    VEHICLE,
    WALL,
    TRAFFIC_SIGN,
) = range(len(CLASSES))

PALETTE = np.array(
    [
        (0, 0, 0),
        (70, 70, 70),
        (190, 153, 153),
        (72, 0, 90),
        (220, 20, 60),
        (153, 153, 153),
        (157, 234, 50),
        (128, 64, 128),
        (244, 35, 232),
        (107, 142, 35),
        (0, 0, 255),
        (102, 102, 156),
        (220, 220, 0),
    ],
    np.uint8,
)
"""CARLA's own colours (its 0.8 image converter)."""
