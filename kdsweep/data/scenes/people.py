"""Pedestrians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from kdsweep.data import carla
from kdsweep.data.scenes.brush import Brush, Shadow, Upright
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.light import TOWARDS_CAMERA

_SKIN = np.array([(232, 190, 165), (198, 150, 118), (140, 98, 72), (86, 60, 46)], np.float64)

_DETAIL = 7.0
"""Pixels a metre from which arms and clothes are painted."""


@dataclass(frozen=True)
class Person(Upright):
    """Someone who stands or walks.

    Attributes:
        s, z: Where.
        height: In metres.
        stride: How far the feet are apart, as a share of the height; negative mirrors the pose.
        breadth: Breadth of the shoulders as a share of the height.
        top, legs, skin, hair: Colours.
        skirt: Whether a skirt or long coat covers the thighs.
        bag: Colour of a bag, or None.
    """

    s: float
    z: float
    height: float
    stride: float
    breadth: float
    top: np.ndarray
    legs: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    skirt: bool
    bag: np.ndarray | None

    @override
    def paint(self, brush: Brush) -> None:
        step, half = self.stride, self.breadth / 2
        if brush.camera.pixels_per_metre(self.z) < _DETAIL:
            self._shape(brush, [(0, 0.5), (-step, 0), (step, 0)], self.legs)
            trunk = [(-half, 0.82), (half, 0.82), (half * 0.8, 0.45), (-half * 0.8, 0.45)]
            self._shape(brush, trunk, self.top)
            head = (self.s, 0.91 * self.height, self.z)
            brush.disc(head, 0.06 * self.height, self.skin * 0.8, carla.PEDESTRIAN, 6)
            return
        self._limb(brush, (0.0, 0.52), (-step, 0.0), 0.1, self.legs * 0.8)
        self._limb(brush, (0.0, 0.52), (step, 0.0), 0.1, self.legs)
        self._limb(brush, (-half, 0.8), (-half + step * 0.8, 0.47), 0.055, self.top * 0.8)
        trunk = [(-half, 0.82), (half, 0.82), (half * 0.8, 0.48), (-half * 0.8, 0.48)]
        if self.skirt:
            trunk = [(-half, 0.82), (half, 0.82), (half * 1.05, 0.28), (-half * 1.05, 0.28)]
        self._shape(brush, trunk, self.top)
        self._shape(
            brush,
            [(0.15 * half, 0.82), (half, 0.82), (half * 0.8, 0.5), (0.2 * half, 0.5)],
            self.top * 1.15,
        )
        self._limb(brush, (half, 0.8), (half - step * 0.8, 0.47), 0.055, self.top)
        if self.bag is not None:
            self._shape(
                brush,
                [(half, 0.62), (half + 0.1, 0.62), (half + 0.11, 0.42), (half - 0.02, 0.42)],
                self.bag,
            )
        self._head(brush)

    def _head(self, brush: Brush) -> None:
        for height, size, colour in ((0.925, 0.062, self.hair), (0.9, 0.05, self.skin)):
            brush.disc(
                (self.s, height * self.height, self.z),
                size * self.height,
                colour,
                carla.PEDESTRIAN,
                10,
            )

    def _limb(
        self,
        brush: Brush,
        start: tuple[float, float],
        end: tuple[float, float],
        width: float,
        colour: np.ndarray,
    ) -> None:
        (x0, y0), (x1, y1), w = start, end, width / 2
        self._shape(
            brush, [(x0 - w, y0), (x0 + w, y0), (x1 + w * 0.8, y1), (x1 - w * 0.8, y1)], colour
        )

    def _shape(self, brush: Brush, points: list[tuple[float, float]], colour: np.ndarray) -> None:
        """A polygon in shares of the height, around the place where they stand."""
        placed = [(self.s + x * self.height, y * self.height, self.z) for x, y in points]
        brush.face(placed, colour, TOWARDS_CAMERA, carla.PEDESTRIAN)

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        right, forward = reach[0] * self.height, reach[1] * self.height
        outline = [(-0.15, 0), (0.15, 0), (right + 0.12, forward), (right - 0.12, forward)]
        return [Shadow([(self.s + x, self.z + y) for x, y in outline])]


def draw_person(dice: Dice, s: float, z: float) -> Person:
    """Someone of random build and clothing; now and then a child."""
    clothes = [dice.triple(15, 235) * 0.6 + dice.uniform(15, 235) * 0.4 for _ in range(3)]
    return Person(
        s=s,
        z=z,
        height=float(dice.uniform(1.0, 1.35) if dice.chance(0.12) else dice.gauss(1.72, 0.09)),
        stride=dice.uniform(-0.16, 0.16),
        breadth=dice.uniform(0.2, 0.29),
        top=clothes[0],
        legs=clothes[1] * 0.7,
        skin=_SKIN[dice.randrange(len(_SKIN))],
        hair=np.array([60.0, 45, 35]) * dice.uniform(0.3, 2.5),
        skirt=dice.chance(0.25),
        bag=clothes[2] if dice.chance(0.3) else None,
    )
