"""What stands on pavements and verges: poles, signs, traffic lights and small things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from kdsweep.data import carla
from kdsweep.data.scenes.brush import Brush, Shadow, Upright, pole_shadow
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.light import TOWARDS_CAMERA

_METALS = np.array(
    [(150, 154, 158), (96, 100, 104), (60, 66, 62), (118, 92, 66), (190, 190, 186)], np.float64
)
_RED, _BLUE, _WHITE, _YELLOW = (190, 28, 32), (28, 70, 165), (228, 228, 222), (225, 180, 30)
_GREEN, _BLACK, _GREY = (30, 105, 70), (26, 26, 28), (128, 130, 132)

_FACES = (
    # (corners, turn in corners, rim, inside): shape and colours
    (16, 0.0, _RED, _WHITE),
    (16, 0.0, _WHITE, _BLUE),
    (16, 0.0, _RED, _RED),
    (3, 0.0, _RED, _WHITE),
    (3, 0.5, _RED, _WHITE),
    (4, 0.0, _BLACK, _YELLOW),
    (4, 0.5, _WHITE, _BLUE),
    (4, 0.5, _WHITE, _GREEN),
    (8, 0.5, _WHITE, _RED),
    (16, 0.0, _GREY, _GREY),
    (4, 0.5, _GREY, _GREY),
)


@dataclass(frozen=True)
class Lamp(Upright):
    """A street lamp, or a bare utility pole.

    Attributes:
        s, z: Where.
        height: In metres.
        arm: How far its arm reaches, to the right if positive; 0 for none.
        colour: Of the pole.
        thickness: At its foot.
    """

    s: float
    z: float
    height: float
    arm: float
    colour: np.ndarray
    thickness: float

    @override
    def paint(self, brush: Brush) -> None:
        brush.post(
            self.s,
            self.z,
            (0, self.height),
            (self.thickness, self.thickness * 0.6),
            self.colour,
            carla.POLE,
        )
        if not self.arm:
            return
        end, thick = self.s + self.arm, self.thickness * 0.4
        arm = [
            (self.s, self.height - 0.35 - thick, self.z),
            (self.s, self.height - 0.35 + thick, self.z),
            (end, self.height + thick, self.z),
            (end, self.height - thick, self.z),
        ]
        brush.face(arm, self.colour, TOWARDS_CAMERA, carla.POLE)
        start = end - (0.6 if self.arm > 0 else -0.6)
        head = [
            (start, self.height - 0.06, self.z),
            (start, self.height + 0.12, self.z),
            (end, self.height + 0.12, self.z),
            (end, self.height - 0.06, self.z),
        ]
        if brush.light.lamps:
            brush.glow(head, (255, 235, 180), carla.POLE)
        else:
            brush.face(head, self.colour * 0.7, TOWARDS_CAMERA, carla.POLE)

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        return [pole_shadow(self.s, self.z, self.height, self.thickness, reach)]


@dataclass(frozen=True)
class Sign(Upright):
    """A traffic sign on a post.

    Attributes:
        s, z: Where.
        height: Of its middle.
        radius: Of the sign.
        face: Number in the list of faces.
        mark: Number of the mark on it: a bar, an upright or none.
        colour: Of the post.
    """

    s: float
    z: float
    height: float
    radius: float
    face: int
    mark: int
    colour: np.ndarray

    @override
    def paint(self, brush: Brush) -> None:
        brush.post(self.s, self.z, (0, self.height), (0.08, 0.08), self.colour, carla.POLE)
        corners, turn, rim, inside = _FACES[self.face]
        angle = turn * 2 * np.pi / corners
        centre = (self.s, self.height, self.z - 0.02)
        brush.disc(centre, self.radius, rim, carla.TRAFFIC_SIGN, corners, angle)
        brush.disc(centre, self.radius * 0.78, inside, carla.TRAFFIC_SIGN, corners, angle)
        if self.mark and rim is not inside:
            w, h = (0.5, 0.12) if self.mark == 1 else (0.12, 0.42)
            w, h = w * self.radius, h * self.radius
            ink = _BLACK if inside in (_WHITE, _YELLOW) else _WHITE
            points = [
                (self.s + x, self.height + y, self.z - 0.03)
                for x, y in ((-w, -h), (-w, h), (w, h), (w, -h))
            ]
            brush.face(points, ink, TOWARDS_CAMERA, carla.TRAFFIC_SIGN)

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        return [pole_shadow(self.s, self.z, self.height, 0.1, reach)]


@dataclass(frozen=True)
class TrafficLight(Upright):
    """A traffic light, on its post or on an arm over the road.

    Attributes:
        s, z: Where its post is.
        arm: How far its arm reaches, to the right if positive; 0 for none.
        shows: Which lamp is on, from the top.
        colour: Of the post.
    """

    s: float
    z: float
    arm: float
    shows: int
    colour: np.ndarray

    @override
    def paint(self, brush: Brush) -> None:
        height = 5.6 if self.arm else 2.9
        brush.post(self.s, self.z, (0, height), (0.18, 0.14), self.colour, carla.POLE)
        if self.arm:
            end = self.s + self.arm
            beam = [
                (self.s, height - 0.12, self.z),
                (self.s, height, self.z),
                (end, height, self.z),
                (end, height - 0.12, self.z),
            ]
            brush.face(beam, self.colour, TOWARDS_CAMERA, carla.POLE)
            self._paint_head(brush, end, height - 0.45)
        self._paint_head(brush, self.s, 2.75)

    def _paint_head(self, brush: Brush, s: float, middle: float) -> None:
        z = self.z - 0.05
        housing = [
            (s - 0.2, middle - 0.5, z),
            (s - 0.2, middle + 0.5, z),
            (s + 0.2, middle + 0.5, z),
            (s + 0.2, middle - 0.5, z),
        ]
        brush.face(housing, (34, 36, 36), TOWARDS_CAMERA, carla.TRAFFIC_SIGN)
        for lamp, colour in enumerate(((255, 40, 30), (255, 180, 30), (40, 255, 120))):
            centre = (s, middle + 0.3 - 0.3 * lamp, z - 0.02)
            on = lamp == self.shows
            tint = colour if on else [c * 0.18 for c in colour]
            brush.disc(centre, 0.12, tint, carla.TRAFFIC_SIGN, 10, glowing=on)

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        return [pole_shadow(self.s, self.z, 3.0, 0.16, reach)]


@dataclass(frozen=True)
class Crate(Upright):
    """A bin, box, bench, bollard, hydrant or planter: CARLA's Other.

    Attributes:
        s, z: Its corner to the left and towards us.
        size: Width, height and length.
        bench: Whether it is a bench, with a back.
    """

    s: float
    z: float
    size: tuple[float, float, float]
    colour: np.ndarray
    bench: bool

    @override
    def paint(self, brush: Brush) -> None:
        width, height, length = self.size
        s, z = (self.s, self.s + width), (self.z, self.z + length)
        if self.bench:
            brush.box(s, (0.38, 0.46), z, self.colour, carla.OTHER)
            brush.box(s, (0.0, 0.4), (z[0], z[0] + 0.08), self.colour * 0.7, carla.OTHER)
            back = s[1] if self.s > 0 else s[0]
            brush.box((back - 0.04, back + 0.04), (0.5, 0.9), z, self.colour, carla.OTHER)
            return
        brush.box(s, (0, height), z, self.colour, carla.OTHER)
        if height > 0.7:
            brush.box(
                (s[0] - 0.03, s[1] + 0.03),
                (height * 0.86, height),
                (z[0] - 0.03, z[1]),
                self.colour * 0.6,
                carla.OTHER,
            )

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        width, height, length = self.size
        base = [(0.0, 0.0), (width, 0.0), (width, length), (0.0, length)]
        s, z = self.s + reach[0] * height * 0.6, self.z + reach[1] * height * 0.6
        return [Shadow([(x + a, y + b) for a, b in base]) for x, y in ((self.s, self.z), (s, z))]


def draw_lamp(dice: Dice, s: float, z: float, towards_road: int, colour: np.ndarray) -> Lamp:
    """A lamp whose arm, if any, reaches over the road."""
    arm = towards_road * dice.uniform(1.0, 2.4) if dice.chance(0.75) else 0.0
    return Lamp(s, z, dice.uniform(4.5, 9), arm, colour, dice.uniform(0.13, 0.24))


def draw_metal(dice: Dice) -> np.ndarray:
    """A colour for poles."""
    return _METALS[dice.randrange(len(_METALS))] * dice.uniform(0.7, 1.15)


def draw_sign(dice: Dice, s: float, z: float) -> Sign:
    """A sign, now and then seen from behind."""
    return Sign(
        s, z, dice.uniform(1.9, 2.9), dice.uniform(0.3, 0.5),
        dice.randrange(len(_FACES)), dice.randrange(3), draw_metal(dice),
    )  # fmt: skip


def draw_traffic_light(dice: Dice, s: float, z: float, towards_road: int) -> TrafficLight:
    """A traffic light."""
    arm = towards_road * dice.uniform(2, 5) if dice.chance(0.5) else 0.0
    return TrafficLight(s, z, arm, dice.randrange(3), draw_metal(dice))


def draw_crate(dice: Dice, s: float, z: float) -> Crate:
    """One of the many small things that stand about."""
    bench = dice.chance(0.25)
    size = (dice.uniform(0.25, 1.0), dice.uniform(0.5, 1.5), dice.uniform(0.25, 1.1))
    if bench:
        size = (0.5, 0.9, 1.7)
    colour = dice.triple(30, 220) * 0.5 + dice.uniform(30, 220) * 0.5
    return Crate(s, z, size, colour, bench)
