"""Cars, vans, lorries and buses: side profiles drawn out to bodies."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, hypot, pi, sin
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from kdsweep.data import carla
from kdsweep.data.scenes.brush import Brush, Point, Shadow, Thing
from kdsweep.data.scenes.camera import NEAR
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.light import TOWARDS_CAMERA


class _Body(NamedTuple):
    """A kind of vehicle, seen from its right; lengths in metres from the rear.

    Attributes:
        length, width: Of the whole.
        outline: Points (from the rear, up, share of the width) from rear bottom to front bottom.
        glass: Which pieces of the outline, counted from the rear, are windows.
        windows: Side windows, each as points (from the rear, up).
        wheels: Where the wheels are, from the rear.
        radius: Of the wheels.
    """

    length: float
    width: float
    outline: tuple[tuple[float, float, float], ...]
    glass: tuple[int, ...]
    windows: tuple[tuple[tuple[float, float], ...], ...]
    wheels: tuple[float, ...]
    radius: float


BODIES = {
    "saloon": _Body(
        4.5, 1.8,
        ((0.0, 0.35, 1.0), (0.02, 0.95, 1.0), (0.75, 1.0, 0.98), (1.25, 1.42, 0.78),
         (2.45, 1.45, 0.78), (3.2, 0.98, 0.96), (4.35, 0.78, 0.96), (4.5, 0.35, 0.98)),
        (2, 4),
        (((0.95, 1.02), (1.35, 1.34), (1.85, 1.36), (1.85, 1.02)),
         ((1.95, 1.02), (1.95, 1.36), (2.4, 1.36), (2.9, 1.02))),
        (0.85, 3.6), 0.32,
    ),
    "hatchback": _Body(
        4.0, 1.76,
        ((0.0, 0.35, 1.0), (0.0, 0.95, 1.0), (0.35, 1.45, 0.8), (2.1, 1.5, 0.8),
         (2.95, 1.0, 0.96), (3.85, 0.8, 0.96), (4.0, 0.35, 0.98)),
        (1, 3),
        (((0.4, 1.0), (0.6, 1.38), (1.3, 1.41), (1.3, 1.0)),
         ((1.4, 1.0), (1.4, 1.41), (2.05, 1.41), (2.65, 1.0))),
        (0.7, 3.2), 0.32,
    ),
    "suv": _Body(
        4.7, 1.95,
        ((0.0, 0.42, 1.0), (0.0, 1.05, 1.0), (0.25, 1.7, 0.85), (2.7, 1.78, 0.85),
         (3.4, 1.15, 0.97), (4.55, 1.0, 0.97), (4.7, 0.42, 1.0)),
        (1, 3),
        (((0.35, 1.15), (0.45, 1.6), (1.5, 1.65), (1.5, 1.15)),
         ((1.6, 1.15), (1.6, 1.65), (2.6, 1.66), (3.1, 1.15))),
        (0.9, 3.75), 0.38,
    ),
    "van": _Body(
        5.3, 2.0,
        ((0.0, 0.4, 1.0), (0.0, 2.3, 0.95), (3.6, 2.35, 0.95), (4.5, 1.3, 0.98),
         (5.2, 1.05, 0.98), (5.3, 0.4, 1.0)),
        (2,),
        (((3.4, 1.25), (3.4, 1.95), (3.75, 1.95), (4.25, 1.25)),),
        (0.95, 4.3), 0.36,
    ),
    "lorry": _Body(
        8.5, 2.45,
        ((0.0, 0.6, 1.0), (0.0, 3.4, 1.0), (6.2, 3.45, 1.0), (6.3, 2.6, 0.96),
         (7.9, 2.6, 0.96), (8.4, 1.5, 0.98), (8.5, 0.5, 0.98)),
        (4,),
        (((7.0, 1.5), (7.0, 2.3), (7.7, 2.3), (8.0, 1.5)),),
        (1.2, 2.3, 7.4), 0.48,
    ),
    "bus": _Body(
        11.0, 2.5,
        ((0.0, 0.4, 1.0), (0.0, 3.0, 0.97), (10.8, 3.05, 0.97), (11.0, 0.4, 1.0)),
        (2,),
        tuple(((x, 1.3), (x, 2.5), (x + 1.35, 2.5), (x + 1.35, 1.3))
              for x in (0.4, 1.9, 3.4, 4.9, 6.4, 7.9, 9.3)),
        (2.4, 8.4), 0.48,
    ),
}  # fmt: skip

_CHANCES = {"saloon": 0.3, "hatchback": 0.26, "suv": 0.22, "van": 0.11, "lorry": 0.06, "bus": 0.05}
_PARKED = {kind: chance for kind, chance in _CHANCES.items() if kind not in ("lorry", "bus")}

_COLOURS = np.array(
    [(225, 225, 225), (28, 28, 32), (150, 152, 156), (96, 98, 104), (150, 30, 30), (36, 58, 110),
     (62, 88, 60), (196, 178, 140), (118, 84, 60), (215, 170, 40), (90, 140, 170), (184, 90, 40)],
    np.float64,
)  # fmt: skip


_DETAIL = 4.0
"""Pixels a metre from which windows, wheels and lamps are painted."""

_CIRCLE = [(sin(i * pi / 6), cos(i * pi / 6)) for i in range(12)]


@dataclass(frozen=True)
class Vehicle(Thing):
    """A vehicle in or beside a lane.

    Attributes:
        kind: Key of :data:`BODIES`.
        s: Its middle.
        z: The end towards us.
        away: Whether it heads the way we do, so that we see its rear.
        colour: Of the paint.
    """

    kind: str
    s: float
    z: float
    away: bool
    colour: np.ndarray

    @property
    def depth(self) -> float:
        """Its middle."""
        return self.z + BODIES[self.kind].length / 2

    @override
    def paint(self, brush: Brush) -> None:
        body = BODIES[self.kind]
        left, right = [], []
        for ahead, height, share in body.outline:
            z = self._at(body, ahead)
            half = share * body.width / 2
            left.append((self.s - half, height, z))
            right.append((self.s + half, height, z))
        self._paint_underside(brush, body)
        for piece in sorted(range(len(left) - 1), key=lambda i: -(left[i][2] + left[i + 1][2])):
            (_, h0, z0), (_, h1, z1) = left[piece], left[piece + 1]
            steep = hypot(h1 - h0, z1 - z0)
            normal = (0.0, abs(z1 - z0) / steep, -abs(h1 - h0) / steep)
            colour = brush.light.mirrored(0.3) if piece in body.glass else self.colour
            quad = [left[piece], left[piece + 1], right[piece + 1], right[piece]]
            brush.face(quad, colour, normal, carla.VEHICLE)
        leftmost = brush.camera.place(self.s, 0.5, max(self.z, NEAR))[0] > brush.camera.width / 2
        self._paint_side(brush, body, left if leftmost else right, -1.0 if leftmost else 1.0)
        self._paint_end(brush, body)

    def _paint_underside(self, brush: Brush, body: _Body) -> None:
        """The dark below the body, with the wheels at the end towards us."""
        half = body.width / 2 * 0.92
        low = float(body.outline[0][1]) + 0.05
        end = [
            (self.s - half, 0.12, self.z),
            (self.s - half, low, self.z),
            (self.s + half, low, self.z),
            (self.s + half, 0.12, self.z),
        ]
        brush.face(end, (22, 22, 24), TOWARDS_CAMERA, carla.VEHICLE)
        for s in (self.s - half, self.s + half - 0.2):
            tyre = [
                (s, 0, self.z + 0.1),
                (s, low, self.z + 0.1),
                (s + 0.2, low, self.z + 0.1),
                (s + 0.2, 0, self.z + 0.1),
            ]
            brush.face(tyre, (16, 16, 17), TOWARDS_CAMERA, carla.VEHICLE)

    def _paint_side(self, brush: Brush, body: _Body, outline: list[Point], side: float) -> None:
        normal = (side, 0.0, 0.0)
        brush.face(outline, self.colour * 0.92, normal, carla.VEHICLE)
        if brush.camera.pixels_per_metre(self.z) < _DETAIL:
            return
        s = self.s + side * body.width / 2
        for window in body.windows:
            points = [(s * 0.9 + self.s * 0.1, height, self._at(body, x)) for x, height in window]
            brush.face(points, brush.light.mirrored(0.25), normal, carla.VEHICLE)
        for wheel in body.wheels:
            middle = self._at(body, wheel)
            for share, colour in ((1.06, (14, 14, 15)), (0.6, (120, 122, 126))):
                radius = body.radius * share
                rim = [(s, body.radius + radius * y, middle + radius * x) for x, y in _CIRCLE]
                brush.face(rim, colour, normal, carla.VEHICLE)

    def _at(self, body: _Body, ahead: float) -> float:
        """Depth of what lies ``ahead`` of the vehicle's rear."""
        return self.z + (ahead if self.away else body.length - ahead)

    def _paint_end(self, brush: Brush, body: _Body) -> None:
        """Lights, plate and bumper on the end towards us."""
        if brush.camera.pixels_per_metre(self.z) < _DETAIL:
            return
        half = body.width / 2
        index = 0 if self.away else -1
        low = body.outline[index][1]
        high = body.outline[1 if self.away else -2][1]
        z = self.z - 0.01
        bumper = [
            (self.s - half, low, z),
            (self.s - half, low + 0.16, z),
            (self.s + half, low + 0.16, z),
            (self.s + half, low, z),
        ]
        brush.face(bumper, self.colour * 0.5 + 14, TOWARDS_CAMERA, carla.VEHICLE)
        lamp = (190, 25, 20) if self.away else (225, 225, 215)
        middle = low + (min(high, 1.3) - low) * 0.62
        for s in (self.s - half * 0.96, self.s + half * 0.66):
            light = [
                (s, middle - 0.09, z),
                (s, middle + 0.09, z),
                (s + half * 0.3, middle + 0.09, z),
                (s + half * 0.3, middle - 0.09, z),
            ]
            if brush.light.lamps:
                brush.glow(light, (255, 60, 45) if self.away else (255, 252, 235), carla.VEHICLE)
            else:
                brush.face(light, lamp, TOWARDS_CAMERA, carla.VEHICLE)
        plate = [
            (self.s - 0.26, low + 0.2, z),
            (self.s - 0.26, low + 0.32, z),
            (self.s + 0.26, low + 0.32, z),
            (self.s + 0.26, low + 0.2, z),
        ]
        brush.face(plate, (222, 220, 205), TOWARDS_CAMERA, carla.VEHICLE)

    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        """See :meth:`Thing.shadows`; right below a vehicle it is dark in any weather."""
        body = BODIES[self.kind]
        half, height = body.width / 2 + 0.08, body.outline[1][1]
        right, forward = (min(max(r * height, -3.0), 3.0) for r in reach)
        corners = [(-half, -0.1), (half, -0.1), (half, body.length), (-half, body.length)]
        return [
            Shadow([(self.s + s + right * share, self.z + z + forward * share) for s, z in corners])
            for share in (0.0, 0.5, 1.0)
        ]


def draw_vehicle(dice: Dice, s: float, z: float, away: bool, parked: bool = False) -> Vehicle:
    """A vehicle of random kind and colour; only small ones are parked."""
    kind = dice.weighted(_PARKED if parked else _CHANCES)
    plain = _COLOURS[dice.randrange(len(_COLOURS))] * dice.uniform(0.8, 1.15)
    colour = np.clip(plain + dice.triple(-8, 8), 8, 250)
    return Vehicle(kind, s, z, away, colour)
