"""Trees and bushes, and the colours of leaves."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from typing_extensions import override

from kdsweep.data import carla
from kdsweep.data.scenes import textures
from kdsweep.data.scenes.brush import Brush, Shadow, Thing, pole_shadow
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.textures import Mipmap

_LEAVES = {
    (105, 150, 60): 0.45,
    (58, 92, 52): 0.25,
    (150, 172, 120): 0.12,
    (190, 120, 45): 0.1,
    (165, 150, 100): 0.08,
}
"""Green, dark, pale, autumn and dry leaves, with how often they occur."""

_CIRCLE = [(cos(i * pi / 6), sin(i * pi / 6)) for i in range(12)]


@dataclass(frozen=True)
class Plant(Thing):
    """A tree or a bush.

    Attributes:
        s, z: Where its stem is.
        size: Width and height in metres.
        sprite: What it looks like.
        dark, bright: Colours of its leaves.
        flip: Whether it is mirrored.
        behind: Depth of the row of houses or the fence it stands behind; it is painted before them.
    """

    s: float
    z: float
    size: tuple[float, float]
    sprite: Mipmap
    dark: np.ndarray
    bright: np.ndarray
    flip: bool
    behind: float | None = None

    @property
    def depth(self) -> float:
        """Where it stands, or behind what it stands behind."""
        return self.z if self.behind is None else self.behind + self.z * 1e-4

    @override
    def paint(self, brush: Brush) -> None:
        # Light comes to a crown from above and through it, whichever way it faces.
        normal = (0.0, 0.55, -0.35)
        table = brush.light.table(self.dark, self.bright, normal, self.z, carla.VEGETATION)
        brush.upright(self.sprite, self.s, self.z, self.size, table, self.flip)

    @override
    def shadows(self, reach: tuple[float, float]) -> list[Shadow]:
        if self.behind is not None:
            return []
        width, height = self.size
        s, z = self.s + reach[0] * height * 0.6, self.z + reach[1] * height * 0.6
        right, forward = reach[0] * height * 0.35, reach[1] * height * 0.35 + width * 0.25
        ring = [(s + c * width * 0.45 + d * right, z + d * forward) for c, d in _CIRCLE]
        shadows = [Shadow(ring, dappled=True)]
        if height > 2.5:
            shadows.append(pole_shadow(self.s, self.z, height * 0.5, 0.3, reach))
        return shadows


def draw_tree(dice: Dice, s: float, z: float, behind: float | None = None) -> Plant:
    """A tree."""
    height = dice.uniform(3.5, 13)
    dark, bright = foliage(dice)
    sprite = textures.trees()[dice.randrange(len(textures.trees()))]
    width = height * dice.uniform(0.65, 1.1)
    return Plant(s, z, (width, height), sprite, dark, bright, dice.chance(0.5), behind)


def draw_bush(dice: Dice, s: float, z: float, behind: float | None = None) -> Plant:
    """A bush."""
    height = dice.uniform(0.4, 2.0)
    dark, bright = foliage(dice)
    sprite = textures.bushes()[dice.randrange(len(textures.bushes()))]
    size = (height * dice.uniform(1.3, 2.2), height)
    return Plant(s, z, size, sprite, dark, bright, dice.chance(0.5), behind)


def foliage(dice: Dice) -> tuple[np.ndarray, np.ndarray]:
    """Colours of leaves in the dark and in the light: mostly greens, also autumn and dry ones."""
    bright = np.array(dice.weighted(_LEAVES)) * dice.triple(0.75, 1.2)
    return bright * dice.uniform(0.08, 0.25), bright * 1.3
