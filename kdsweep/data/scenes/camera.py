"""The camera, and the road surface as it sees it.

Two frames of reference. *Road*, in metres: ``s`` right of the road's centre line, ``h`` above the
ground, ``z`` forward. *Picture*, in pixels: column and row. The road bends and rises with z, so
straight lines along it become polylines in the picture.

Shape suffixes: R ground rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 2.0
"""Nothing closer than this is drawn (metres)."""

FAR = 160.0
"""Where the ground ends."""

_NUM_DEPTHS = 400


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above a road.

    Attributes:
        width, height: Size of the picture in pixels.
        focal: Focal length in pixels.
        horizon: Row of the horizon if the ground were flat.
        altitude: Height above the road.
        lateral: Where on the road the camera is, in ``s``.
        bends: Coefficients of z, z² and z³ in the centre line's deviation to the right.
        rises: Coefficients of z² and z³ in the ground's height.
    """

    width: int
    height: int
    focal: float
    horizon: float
    altitude: float
    lateral: float
    bends: tuple[float, float, float]
    rises: tuple[float, float]

    def centre(self, z: np.ndarray) -> np.ndarray:
        """How far the centre line is to the right of straight ahead, at depth z."""
        a, b, c = self.bends
        return z * (a + z * (b + z * c))

    def elevation(self, z: np.ndarray) -> np.ndarray:
        """Height of the ground at depth z."""
        b, c = self.rises
        return z * z * (b + z * c)

    def place(self, s: float, h: float, z: float) -> tuple[float, float]:
        """Column and row of one point.

        Plain numbers: shapes have four corners or so, and numpy takes longer to start than this.
        """
        (a, b, c), (d, e) = self.bends, self.rises
        z = z if z > 0.5 else 0.5
        scale = self.focal / z
        across = s + z * (a + z * (b + z * c)) - self.lateral
        below = self.altitude - z * z * (d + z * e) - h
        return self.width / 2 + across * scale, self.horizon + below * scale

    def project(self, points: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
        """Columns and rows of points given as (s, h, z)."""
        return [self.place(s, h, z) for s, h, z in points]

    def pixels_per_metre(self, z: float) -> float:
        """How large a metre across appears at depth z."""
        return self.focal / max(z, 0.5)

    def ground(self) -> Ground:
        """The part of the picture that shows the road's surface."""
        z = np.geomspace(0.5, FAR, _NUM_DEPTHS)
        rows = self.horizon + (self.altitude - self.elevation(z)) * self.focal / z
        # Behind a crest the ground is hidden: a depth shows if its row lies above all nearer ones.
        nearer = np.minimum.accumulate(np.concatenate([[np.inf], rows[:-1]]))
        shows = rows < nearer
        rows, z = rows[shows], z[shows]
        top = int(np.clip(np.ceil(rows[-1]), 0, self.height - 8))
        z_R = np.interp(np.arange(top, self.height) + 0.5, rows[::-1], z[::-1]).astype(np.float32)
        across_W = (np.arange(self.width) + 0.5 - self.width / 2).astype(np.float32) / self.focal
        offset_R = (self.lateral - self.centre(z_R)).astype(np.float32)
        s_RW = across_W[None, :] * z_R[:, None] + offset_R[:, None]
        return Ground(top, z_R, s_RW)


@dataclass(frozen=True)
class Ground:
    """Where each pixel of the lower part of the picture meets the ground.

    Attributes:
        top: Row of the picture where the ground begins.
        z_R: Depth of each row from there downwards.
        s_RW: Position across the road of each pixel.
    """

    top: int
    z_R: np.ndarray
    s_RW: np.ndarray
