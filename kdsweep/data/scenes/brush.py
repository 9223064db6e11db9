"""Painting things that stand in the road's frame of reference: what every object draws with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from kdsweep.data.scenes.camera import NEAR, Camera
from kdsweep.data.scenes.canvas import Canvas
from kdsweep.data.scenes.light import TOWARDS_CAMERA, Colour, Light
from kdsweep.data.scenes.textures import Mipmap

Point = tuple[float, float, float]
"""(s, h, z) in metres; see ``camera.py``."""


@dataclass(frozen=True)
class Shadow:
    """A patch of ground that the sun does not reach.

    Attributes:
        outline: Points (s, z) on the ground.
        dappled: Whether light comes through in spots, as under a tree.
    """

    outline: Sequence[tuple[float, float]]
    dappled: bool = False


class Thing(ABC):
    """Something that stands in the scene."""

    @property
    @abstractmethod
    def depth(self) -> float:
        """Things are painted in falling order of this."""

    @abstractmethod
    def paint(self, brush: Brush) -> None:
        """Paints the thing with its label."""

    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        """Shadows on flat ground.

        Args:
            reach: How far, right and forward, the shadow of a point one metre up falls.
        """
        return []


class Upright(Thing):
    """Something that stands at one depth."""

    z: float

    @property
    def depth(self) -> float:
        """Where it stands."""
        return self.z


@dataclass(frozen=True)
class Brush:
    """Paints shapes given in metres under the scene's light."""

    canvas: Canvas
    camera: Camera
    light: Light

    def face(
        self, points: Sequence[Point], colour: Colour, normal: Sequence[float], label: int
    ) -> None:
        """A plane polygon of one colour."""
        seen = self.light.seen(colour, normal, _middle(points))
        self.canvas.polygon(self.camera.project(points), seen, label)

    def glow(self, points: Sequence[Point], colour: Colour, label: int) -> None:
        """A plane polygon that shines by itself."""
        seen = self.light.glow(colour, _middle(points))
        self.canvas.polygon(self.camera.project(points), seen, label)

    def panel(
        self,
        texture: Mipmap,
        corners: Sequence[Point],
        table: np.ndarray,
        part: tuple[float, float, float, float] = (0, 0, 1, 1),
    ) -> None:
        """A textured quadrilateral.

        Args:
            texture: The texture.
            corners: Top left, top right, bottom right, bottom left.
            table: From :meth:`Light.table`.
            part: Left, top, right and bottom of the part of the texture to show, as shares.
        """
        placed = self.camera.project(corners)
        tall = max(abs(placed[0][1] - placed[3][1]), abs(placed[1][1] - placed[2][1]))
        level = texture.sized(tall / max(part[3] - part[1], 0.05))
        height, width = level.shape[:2]
        left, right = int(part[0] * width), max(int(part[0] * width) + 1, round(part[2] * width))
        top, bottom = int(part[1] * height), max(int(part[1] * height) + 1, round(part[3] * height))
        self.canvas.quad(level[top:bottom, left:right], placed, table)

    def upright(
        self,
        sprite: Mipmap,
        s: float,
        z: float,
        size: tuple[float, float],
        table: np.ndarray,
        flip: bool = False,
    ) -> None:
        """A picture that stands on the ground and faces the camera.

        Args:
            sprite: The picture, with opacity.
            s: Its middle.
            z: Its depth.
            size: Width and height in metres.
            table: From :meth:`Light.table`.
            flip: Mirror it.
        """
        column, row = self.camera.place(s, 0.0, z)
        scale = self.camera.pixels_per_metre(z)
        half, height = size[0] * scale / 2, size[1] * scale
        level = sprite.sized(height)
        if flip:
            level = level[:, ::-1]
        self.canvas.sprite(level, column - half, row - height, column + half, row, table)

    def post(
        self,
        s: float,
        z: float,
        heights: tuple[float, float],
        widths: tuple[float, float],
        colour: Colour,
        label: int,
    ) -> None:
        """An upright post, between two heights, with its widths at the lower and upper end.

        The side towards the sun is brighter, as on anything round.
        """
        (x0, y0), (x1, y1) = (
            self.camera.place(s, heights[0], z),
            self.camera.place(s, heights[1], z),
        )
        scale = self.camera.pixels_per_metre(z)
        below, above = max(widths[0] * scale, 0.35) / 2, max(widths[1] * scale, 0.35) / 2
        seen = self.light.seen(colour, TOWARDS_CAMERA, z)
        outline = [(x0 - below, y0), (x1 - above, y1), (x1 + above, y1), (x0 + below, y0)]
        self.canvas.polygon(outline, seen, label)
        if below > 1.5:
            sunny = 1.0 if self.light.direction[0] > 0 else -1.0
            rim = [
                (x0, y0),
                (x1, y1),
                (x1 + sunny * above * 0.9, y1),
                (x0 + sunny * below * 0.9, y0),
            ]
            self.canvas.polygon(rim, self.light.seen(colour, (sunny, 0.0, 0.0), z), label)

    def disc(
        self,
        centre: Point,
        radius: float,
        colour: Colour,
        label: int,
        corners: int = 16,
        turn: float = 0.0,
        *,
        glowing: bool = False,
    ) -> None:
        """A regular polygon that faces the camera; with many corners, a disc."""
        column, row = self.camera.place(*centre)
        pixels = radius * self.camera.pixels_per_metre(centre[2])
        if pixels < 3:
            corners = min(corners, 8)
        angles = [turn + 2 * pi * i / corners for i in range(corners)]
        points = [(column + sin(angle) * pixels, row - cos(angle) * pixels) for angle in angles]
        light = self.light
        seen = (
            light.glow(colour, centre[2])
            if glowing
            else light.seen(colour, TOWARDS_CAMERA, centre[2])
        )
        self.canvas.polygon(points, seen, label)

    def box(
        self,
        s: tuple[float, float],
        h: tuple[float, float],
        z: tuple[float, float],
        colour: Colour,
        label: int,
    ) -> None:
        """A box along the road: its top and side where they show, and the end towards us."""
        (s0, s1), (h0, h1), (z0, z1) = s, h, (max(z[0], NEAR), max(z[1], NEAR + 0.1))
        camera = self.camera
        if camera.place(s0, h1, z1)[1] < camera.place(s0, h1, z0)[1]:
            top = [(s0, h1, z0), (s1, h1, z0), (s1, h1, z1), (s0, h1, z1)]
            self.face(top, colour, (0, 1, 0), label)
        # A side shows where its far end peeks out beside the end towards us.
        for edge, normal in ((s0, -1.0), (s1, 1.0)):
            if (camera.place(edge, h0, z1)[0] - camera.place(edge, h0, z0)[0]) * normal > 0:
                wall = [(edge, h0, z0), (edge, h1, z0), (edge, h1, z1), (edge, h0, z1)]
                self.face(wall, colour, (normal, 0, 0), label)
        end = [(s0, h0, z0), (s0, h1, z0), (s1, h1, z0), (s1, h0, z0)]
        self.face(end, colour, TOWARDS_CAMERA, label)


def _middle(points: Sequence[Point]) -> float:
    """Mean depth."""
    return sum(z for _, _, z in points) / len(points)


def pole_shadow(
    s: float, z: float, height: float, width: float, reach: tuple[float, float]
) -> Shadow:
    """The shadow of a post."""
    right, forward = reach[0] * height, reach[1] * height
    w = max(width, 0.12) / 2
    # A shadow straight away from us has its breadth across the road, one to the side along it.
    a, b = (w, 0.0) if abs(forward) > abs(right) else (0.0, w)
    tip = (s + right, z + forward)
    return Shadow(
        [(s - a, z - b), (s + a, z + b), (tip[0] + a, tip[1] + b), (tip[0] - a, tip[1] - b)]
    )
