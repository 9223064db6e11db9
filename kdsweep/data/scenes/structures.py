"""What lines the road: buildings, walls, fences, hedges and crash barriers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, hypot

import numpy as np
from typing_extensions import override

from kdsweep.data import carla
from kdsweep.data.scenes import textures
from kdsweep.data.scenes.brush import Brush, Point, Shadow, Thing
from kdsweep.data.scenes.camera import NEAR
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.light import TOWARDS_CAMERA
from kdsweep.data.scenes.plants import foliage
from kdsweep.data.scenes.textures import Mipmap

_FLOOR, _BAY = 3.2, 3.0
_RUN = 12.0
"""Length of one piece of a long wall: pieces follow bends and fade with distance."""

PAINTS = np.array(
    [(214, 208, 198), (186, 172, 150), (150, 84, 66), (122, 118, 116), (196, 160, 110),
     (92, 90, 96), (170, 186, 196), (205, 190, 140), (140, 120, 100), (226, 226, 224),
     (104, 66, 54), (126, 146, 128), (88, 104, 126), (196, 140, 126)],
    np.float64,
)  # fmt: skip
"""Colours of plaster, brick, concrete and wood, shared by buildings and walls."""

_TILES = np.array(
    [(120, 62, 48), (70, 66, 66), (96, 84, 76), (138, 92, 66), (58, 64, 74)], np.float64
)


@dataclass(frozen=True)
class Building(Thing):
    """A building with one side along the road and one end towards us.

    Attributes:
        side: -1 left of the road, 1 right of it.
        s: Where its road side is.
        z: Its near and far end.
        height: To the eaves.
        reach: How far it goes back from the road.
        paint_colour: Colour of its walls.
        facade: Number of its texture.
        roof: Height of its pitched roof; 0 for a flat one.
        tiles: Colour of the roof.
        panes: How much of the sky each kind of pane mirrors; below 0, there is a light behind it.
    """

    side: int
    s: float
    z: tuple[float, float]
    height: float
    reach: float
    paint_colour: np.ndarray
    facade: int
    roof: float
    tiles: np.ndarray
    panes: tuple[float, ...]

    @property
    def depth(self) -> float:
        """Painted before whatever stands in front of it beside the road."""
        return self.z[1]

    @override
    def paint(self, brush: Brush) -> None:
        texture = textures.facades()[self.facade]
        near, far = max(self.z[0], NEAR), self.z[1]
        road_side = (-float(self.side), 0.0, 0.0)
        floors = min(1.0, self.height / _FLOOR / textures.FACADE_FLOORS)
        back, top = self.s + self.side * self.reach, self.height
        if self.z[0] > NEAR:
            across = min(1.0, self.reach / _BAY / textures.FACADE_BAYS)
            table = self._table(brush, TOWARDS_CAMERA, near)
            left, right = sorted((self.s, back))
            corners: list[Point] = [
                (left, top, near),
                (right, top, near),
                (right, 0, near),
                (left, 0, near),
            ]
            if self.roof:
                ridge = (left + right) / 2
                brush.face(
                    [(left, top, near), (ridge, top + self.roof, near), (right, top, near)],
                    self.paint_colour * 0.85,
                    TOWARDS_CAMERA,
                    carla.BUILDING,
                )
            brush.panel(texture, corners, table, (0, 1 - floors, across, 1))
        num_runs = max(1, round((far - near) / _RUN))
        # Shorter pieces nearby, where they are larger in the picture.
        ends = [far * (near / far) ** (i / num_runs) for i in range(num_runs + 1)]
        for end, start in pairwise(ends):
            bays = min(1.0, (end - start) / _BAY / textures.FACADE_BAYS)
            table = self._table(brush, road_side, (start + end) / 2)
            if self.roof:
                self._paint_roof(brush, start, end)
            corners = [
                (self.s, top, end),
                (self.s, top, start),
                (self.s, 0, start),
                (self.s, 0, end),
            ]
            brush.panel(texture, corners, table, (0, 1 - floors, bays, 1))

    def _paint_roof(self, brush: Brush, start: float, end: float) -> None:
        ridge, eaves = self.s + self.side * self.reach / 2, self.s - self.side * 0.4
        slope: list[Point] = [
            (ridge, self.height + self.roof, end),
            (ridge, self.height + self.roof, start),
            (eaves, self.height - 0.2, start),
            (eaves, self.height - 0.2, end),
        ]
        steep = hypot(self.roof, self.reach / 2)
        normal = (-self.side * self.roof / steep, self.reach / 2 / steep, 0.0)
        table = brush.light.table(
            self.tiles * 0.6, self.tiles * 1.3, normal, (start + end) / 2, carla.BUILDING
        )
        brush.panel(textures.masonry()[self.facade % 12], slope, table)

    def _table(self, brush: Brush, normal: tuple[float, float, float], z: float) -> np.ndarray:
        """Walls in the building's colour; panes reflect the sky or, with lamps lit, shine."""
        light = brush.light
        table = light.table(
            self.paint_colour * 0.18, self.paint_colour * 1.12, normal, z, carla.BUILDING
        )
        # What panes mirror is linear in its share: two colours give all of them.
        low = np.array(light.seen(light.mirrored(0), normal, z))
        high = np.array(light.seen(light.mirrored(1), normal, z))
        shares = np.abs(self.panes)[:, None]
        table[: textures.PANE, :3] = low + (high - low) * shares
        if light.lamps:
            table[np.flatnonzero(np.less(self.panes, 0)), :3] = light.glow((250, 205, 130), z)
        return table

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        return [Shadow(_cast(self, reach))] if reach[0] * self.height * self.side < 0 else []


@dataclass(frozen=True)
class Barrier(Thing):
    """A wall, a fence, a hedge or a crash barrier along the road.

    Attributes:
        label: Its class, which also says what it is.
        s: Where it stands.
        z: Its near and far end.
        dark, bright: Colours of the texture's darkest and brightest grey.
        side: -1 left of the road, 1 right of it.
        clearance: Space below it.
        panel_length: Metres that the whole texture covers.
    """

    label: int
    s: float
    z: tuple[float, float]
    height: float
    texture: Mipmap
    dark: np.ndarray
    bright: np.ndarray
    side: int
    clearance: float = 0.0
    panel_length: float = 8.0

    @override
    @property
    def depth(self) -> float:
        return self.z[1]

    @override
    def paint(self, brush: Brush) -> None:
        near, far = max(self.z[0], NEAR), self.z[1]
        num_runs = max(1, ceil((far - near) / self.panel_length))
        ends = [far + (near - far) * i / num_runs for i in range(num_runs + 1)]
        for end, start in pairwise(ends):
            middle = (start + end) / 2
            normal = (-float(self.side), 0.0, 0.0)
            table = brush.light.table(self.dark, self.bright, normal, middle, self.label)
            low, high = self.clearance, self.height
            corners: list[Point] = [
                (self.s, high, end),
                (self.s, high, start),
                (self.s, low, start),
                (self.s, low, end),
            ]
            shown = min(1.0, (end - start) / self.panel_length)
            brush.panel(self.texture, corners, table, (0, 0, shown, 1))
            if self.clearance:
                self._paint_post(brush, start)

    def _paint_post(self, brush: Brush, z: float) -> None:
        brush.post(self.s, z, (0.0, self.height), (0.14, 0.14), self.dark * 0.7 + 20, self.label)

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        return [Shadow(_cast(self, reach), dappled=self.label == carla.FENCE)]


def _cast(thing: Building | Barrier, reach: tuple[float, float]) -> list[tuple[float, float]]:
    near, far = max(thing.z[0], NEAR), thing.z[1]
    right, forward = reach[0] * thing.height, reach[1] * thing.height
    base = [(thing.s, near), (thing.s, far)]
    # Ends in order, so that the outline does not cross itself.
    return [*base, (thing.s + right, far + forward), (thing.s + right, near + forward)]


def draw_building(dice: Dice, side: int, s: float, z: tuple[float, float], tall: bool) -> Building:
    """A building of the city (tall) or of a suburb."""
    height = float(dice.uniform(7, 26) if tall else dice.uniform(2.8, 7.5))
    pitched = dice.random() < (0.15 if tall else 0.8)
    return Building(
        side=side,
        s=s,
        z=z,
        height=height,
        reach=float(dice.uniform(8, 16) if tall else dice.uniform(6, 11)),
        paint_colour=_painted(dice),
        facade=dice.randrange(len(textures.facades())),
        roof=dice.uniform(1.5, 3.8) if pitched else 0.0,
        tiles=_TILES[dice.randrange(len(_TILES))] * dice.uniform(0.8, 1.2),
        panes=tuple(
            dice.uniform(0.05, 0.55) * dice.choice((-1, 1, 1)) for _ in range(textures.PANE)
        ),
    )


def draw_wall(dice: Dice, side: int, s: float, z: tuple[float, float]) -> Barrier:
    """A free-standing wall."""
    colour = _painted(dice)
    texture = textures.masonry()[dice.randrange(len(textures.masonry()))]
    height = dice.uniform(0.9, 3.2)
    return Barrier(carla.WALL, s, z, height, texture, colour * 0.25, colour * 1.1, side)


def draw_fence(dice: Dice, side: int, s: float, z: tuple[float, float]) -> Barrier:
    """A fence that can be looked through."""
    colour = np.array(
        [(150, 155, 160), (120, 88, 60), (225, 225, 220), (60, 66, 60), (96, 70, 58)]
    )[dice.randrange(5)]
    texture = textures.fences()[dice.randrange(len(textures.fences()))]
    height = dice.weighted({1.1: 0.45, 1.6: 0.35, 2.6: 0.2})
    length = dice.uniform(4, 8)
    return Barrier(
        carla.FENCE, s, z, height, texture, colour * 0.3, colour * 1.15, side, panel_length=length
    )


def draw_guardrail(dice: Dice, side: int, s: float, z: tuple[float, float]) -> Barrier:
    """A steel crash barrier on posts."""
    steel = np.array([188.0, 192, 196]) * dice.uniform(0.6, 1.15)
    texture = textures.masonry()[0]
    return Barrier(
        carla.FENCE,
        s,
        z,
        0.78,
        texture,
        steel * 0.6,
        steel * 1.1,
        side,
        clearance=0.42,
        panel_length=4.0,
    )


def draw_hedge(dice: Dice, side: int, s: float, z: tuple[float, float]) -> Barrier:
    """A hedge."""
    dark, bright = foliage(dice)
    texture = textures.hedges()[dice.randrange(len(textures.hedges()))]
    height = dice.uniform(0.7, 2.6)
    return Barrier(
        carla.VEGETATION, s, z, height, texture, dark, bright, side, panel_length=dice.uniform(4, 8)
    )


@dataclass(frozen=True)
class Awning(Thing):
    """A shelter, pergola or stall beside the pavement: posts and a roof.

    Attributes:
        s, z: Its corner towards the road and us.
        side: -1 left of the road, 1 right of it.
        size: Depth away from the road, height and length along it.
    """

    s: float
    z: float
    side: int
    size: tuple[float, float, float]
    colour: np.ndarray

    @property
    def depth(self) -> float:
        """Its near end."""
        return self.z + self.size[2]

    @override
    def paint(self, brush: Brush) -> None:
        across, height, length = self.size
        outer = self.s + self.side * across
        for z in (self.z + length, self.z):
            for s in (outer, self.s):
                brush.post(s, z, (0, height), (0.12, 0.12), self.colour * 0.7, carla.OTHER)
        left, right = sorted((self.s, outer))
        brush.box(
            (left - 0.2, right + 0.2),
            (height, height + 0.3),
            (self.z - 0.2, self.z + length),
            self.colour,
            carla.OTHER,
        )
        brush.box(
            (left, right),
            (0.4, 0.5),
            (self.z + length * 0.5, self.z + length),
            self.colour * 0.8,
            carla.OTHER,
        )


def _painted(dice: Dice) -> np.ndarray:
    plain = PAINTS[dice.randrange(len(PAINTS))] * dice.uniform(0.75, 1.15)
    return np.clip(plain + dice.triple(-10, 10), 20, 250)
