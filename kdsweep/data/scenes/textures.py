"""Textures, drawn once per process from fixed seeds.

They hold grey levels only; what colours they stand for is decided scene by scene (``light.py``), so
that no class can be told by its colours. Textures with an opacity have it as second channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np

PANE = 10
"""Grey levels below this are window panes; the scene decides what they reflect."""

NOISE_SIZE = 512


@cache
def noise(number: int) -> np.ndarray:
    """Tileable noise, uint8 of (512, 512): 0 smooth … 3 rough; mean about 128, full range."""
    falloff = (0.45, 0.6, 0.75, 0.95)[number]
    rng = np.random.default_rng((1, number))
    total = np.zeros((NOISE_SIZE, NOISE_SIZE), np.float32)
    cells, weight = 4, 1.0
    while cells <= NOISE_SIZE:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        scale = NOISE_SIZE // cells
        wide = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += weight * wide[2 * scale : -2 * scale, 2 * scale : -2 * scale]
        cells, weight = cells * 2, weight * falloff
    total *= 48 / total.std()
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def noise_patch(spot: tuple[int, int], number: int, height: int, width: int) -> np.ndarray:
    """A cut-out of the noise from ``spot`` onwards, uint8 of (height, width); repeats after 512."""
    top, left = spot
    if max(height, width) <= NOISE_SIZE:
        return _doubled(number)[top : top + height, left : left + width]
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    return noise(number).take(rows, 0, mode="wrap").take(columns, 1, mode="wrap")


@cache
def deviations(number: int) -> np.ndarray:
    """The noise as deviations from its mean, float32 of (512 · 512,)."""
    return noise(number).ravel().astype(np.float32) - 128


@cache
def _doubled(number: int) -> np.ndarray:
    """The noise twice over, so that cut-outs may cross its edge."""
    return np.tile(noise(number), (2, 2))


def _spot(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(NOISE_SIZE)), int(rng.integers(NOISE_SIZE))


@cache
def grain() -> np.ndarray:
    """White noise, uint8 of (576, 768, 3): mean 128, standard deviation 32."""
    drawn = np.random.default_rng(2).standard_normal((576, 768, 3), np.float32)
    return np.clip(drawn * 32 + 128, 0, 255).astype(np.uint8)


class Mipmap:
    """A texture in several sizes, so that far-away surfaces do not flicker.

    Args:
        texture: uint8 of (h, w) or (h, w, 2).
    """

    def __init__(self, texture: np.ndarray) -> None:
        self.levels = [texture]
        while min(texture.shape[:2]) >= 16 and len(self.levels) < 5:
            half = (texture.shape[1] // 2, texture.shape[0] // 2)
            texture = cv2.resize(texture, half, interpolation=cv2.INTER_AREA)
            self.levels.append(texture)

    def sized(self, pixels: float) -> np.ndarray:
        """The level whose height is next above ``pixels``."""
        chosen = self.levels[0]
        for level in self.levels[1:]:
            if level.shape[0] < pixels:
                break
            chosen = level
        return chosen


def _bank(
    num: int,
) -> Callable[[Callable[[np.random.Generator], np.ndarray]], Callable[[], Sequence[Mipmap]]]:
    """Turns a function that draws one texture into one that returns ``num`` of them, drawn once."""

    def decorate(
        draw: Callable[[np.random.Generator], np.ndarray],
    ) -> Callable[[], Sequence[Mipmap]]:
        seed = sum(map(ord, draw.__name__))

        @cache
        def bank() -> Sequence[Mipmap]:
            return [Mipmap(draw(np.random.default_rng((3, seed, i)))) for i in range(num)]

        return bank

    return decorate


FLOOR_PIXELS, BAY_PIXELS = 32, 28
FACADE_FLOORS, FACADE_BAYS = 8, 8


@_bank(28)
def facades(rng: np.random.Generator) -> np.ndarray:
    """Fronts of 8 floors by 8 bays of windows; the lowest floor is the ground floor."""
    height, width = FACADE_FLOORS * FLOOR_PIXELS, FACADE_BAYS * BAY_PIXELS
    wall = (
        200
        + (noise_patch(_spot(rng), int(rng.integers(1, 4)), height, width).astype(np.float32) - 128)
        * 0.25
    )
    style = rng.choice(["plain", "bricks", "panels", "glass"], p=[0.4, 0.25, 0.2, 0.15])
    if style == "bricks":
        wall[::4] -= 28
    elif style == "panels":
        wall[:: FLOOR_PIXELS // 2] -= 35
        wall[:, ::BAY_PIXELS] -= 35
    facade = np.clip(wall, 40, 255).astype(np.uint8)
    share_w, share_h = (0.86, 0.8) if style == "glass" else rng.uniform((0.3, 0.4), (0.7, 0.75))
    balcony, sill, frame = rng.random(3) < (0.25, 0.5, 0.6)
    shop = rng.random() < 0.5
    for floor in range(FACADE_FLOORS):
        lowest = floor == FACADE_FLOORS - 1
        for bay in range(FACADE_BAYS):
            w, h = share_w * BAY_PIXELS, share_h * FLOOR_PIXELS
            x = bay * BAY_PIXELS + (BAY_PIXELS - w) / 2
            y = floor * FLOOR_PIXELS + (FLOOR_PIXELS - h) * 0.45
            if lowest and shop:
                x, w, y, h = bay * BAY_PIXELS + 2, BAY_PIXELS - 4, floor * FLOOR_PIXELS + 10, 18
            elif lowest and bay % 4 == 1:
                y, h = floor * FLOOR_PIXELS + 6, FLOOR_PIXELS - 6  # a door
            elif rng.random() < 0.04:
                continue
            left, top, right, bottom = round(x), round(y), round(x + w), round(y + h)
            if frame:
                facade[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = 245
            facade[top:bottom, left:right] = rng.integers(0, PANE)
            if w > 12 and rng.random() < 0.8:
                facade[top:bottom, (left + right) // 2] = 150
            if rng.random() < 0.3:  # a blind, part of the way down
                facade[top : top + int(rng.integers(1, bottom - top)), left:right] = 185
            if sill:
                facade[bottom : bottom + 2, left - 2 : right + 2] = 120
        if lowest and shop:
            facade[floor * FLOOR_PIXELS : floor * FLOOR_PIXELS + 8] = rng.integers(60, 250)
        elif balcony and not lowest:
            facade[(floor + 1) * FLOOR_PIXELS - 7 : (floor + 1) * FLOOR_PIXELS - 1] = 150
            facade[(floor + 1) * FLOOR_PIXELS - 1] = 80
    return facade


@_bank(12)
def masonry(rng: np.random.Generator) -> np.ndarray:
    """Free-standing walls: concrete, slabs, bricks or rough stone; 64×256."""
    height, width = 64, 256
    rough = noise_patch(_spot(rng), int(rng.integers(1, 4)), height, width).astype(np.float32)
    wall = 190 + (rough - 128) * rng.uniform(0.2, 0.6)
    style = rng.choice(["concrete", "slabs", "bricks", "stone"])
    if style == "slabs":
        wall[:, ::42] -= 60
        wall[::21] -= 25
    elif style == "bricks":
        wall[::6] -= 40
        for row in range(0, height, 6):
            wall[row : row + 6, (row // 6 % 2) * 6 :: 12] -= 30
    elif style == "stone":
        blocks = cv2.resize(
            rng.uniform(-35, 35, (8, 20)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        )
        wall += blocks
    wall[:5] += 30  # coping
    wall[5:7] -= 50
    stains = noise_patch(_spot(rng), 0, height, width).astype(np.float32) / 255
    wall -= 50 * stains * np.linspace(0, 1, height)[:, None]
    return np.clip(wall, 12, 255).astype(np.uint8)


@_bank(10)
def fences(rng: np.random.Generator) -> np.ndarray:
    """Fences that can be looked through, (64, 256, 2): pickets, rails, mesh or bars."""
    height, width = 64, 256
    grey = np.clip(
        170 + (noise_patch(_spot(rng), 2, height, width).astype(np.float32) - 128) * 0.4, 20, 255
    ).astype(np.uint8)
    solid = np.zeros((height, width), np.uint8)
    style = rng.choice(["pickets", "rails", "mesh", "bars", "boards"])
    post = int(rng.choice([32, 64]))
    if style == "pickets":
        for x in range(0, width, 8):
            solid[4:, x : x + 5] = 255
        solid[14:20] = solid[46:52] = 255
    elif style == "rails":
        for y in (6, 26, 46):
            solid[y : y + 8] = 255
            grey[y + 5 : y + 8] //= 2
    elif style == "mesh":
        y, x = np.mgrid[:height, :width]
        solid[((x + y) % 9 < 2) | ((x - y) % 9 < 2)] = 255
        solid[:4] = solid[-4:] = 255
    elif style == "bars":
        for x in range(0, width, 7):
            solid[:, x : x + 3] = 255
        solid[4:8] = solid[-10:-6] = 255
    else:
        solid[6:] = 255
        grey[:, ::10] //= 2
    for x in range(0, width, post):
        solid[:, x : x + 5] = 255
        grey[:, x + 3 : x + 5] = grey[:, x + 3 : x + 5] // 3 * 2
    return np.stack([grey, solid], axis=-1)


@_bank(10)
def hedges(rng: np.random.Generator) -> np.ndarray:
    """Clipped and wild hedges, (64, 256, 2), with a ragged upper edge."""
    leaves = _leaves(rng, 64, 256)
    edge = noise_patch(_spot(rng), 3, 1, 256)[0].astype(np.float32) / 255 * rng.uniform(2, 26)
    rows = np.arange(64)[:, None]
    shade = np.linspace(1.0, 0.55, 64)[:, None]
    solid = np.where(rows >= edge[None, :], 255, 0).astype(np.uint8)
    return np.stack([(leaves * shade).astype(np.uint8), solid], axis=-1)


@_bank(30)
def trees(rng: np.random.Generator) -> np.ndarray:
    """Trees with trunk, (128, 128, 2): broad, conical, slender or thin in leaf."""
    size = 128
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    style = rng.choice(["broad", "cone", "slender", "thin"], p=[0.45, 0.25, 0.15, 0.15])
    bottom = rng.uniform(0.6, 0.8) if style in ("broad", "thin") else rng.uniform(0.85, 0.95)
    if style == "cone":
        room = 0.46 * (y - 0.02) / bottom * (1 + 0.25 * np.sin(y * rng.uniform(25, 45))) - np.abs(
            x - 0.5
        )
        density = np.minimum(room * 6, (bottom - y) * 14)
    elif style == "slender":
        room = 1 - ((x - 0.5) / 0.2) ** 2 - ((y - bottom / 2 - 0.02) / (bottom / 2)) ** 2
        density = room * 1.2
    else:
        density = np.full((size, size), -1.0, np.float32)
        for _ in range(int(rng.integers(4, 9))):
            cx, cy = rng.uniform(0.28, 0.72), rng.uniform(0.2, bottom - 0.16)
            radius = rng.uniform(0.14, 0.3)
            density = np.maximum(density, 1.3 * (1 - ((x - cx) ** 2 + (y - cy) ** 2) / radius**2))
        density = np.minimum(density, 4 * (0.49 - np.abs(x - 0.5))) - np.maximum(0, 0.04 - y) * 40
    ragged = noise_patch(_spot(rng), 3, size, size).astype(np.float32) / 255 - 0.5
    gaps = 0.35 if style == "thin" else rng.uniform(-0.1, 0.1)
    crown = density + 1.9 * ragged > gaps
    lit = 0.75 + 0.35 * (0.5 - y) + 0.2 * np.clip(density, -0.5, 1)
    grey = _leaves(rng, size, size) * np.clip(lit, 0.2, 1.1)
    trunk = (np.abs(x - 0.5 - 0.015 * np.sin(y * 9)) < 0.018 + 0.022 * np.clip(y - 0.5, 0, 1)) & (
        y > 0.45
    )
    bark = 60 + 40 * (x < 0.5) + ragged * 40
    grey = np.where(trunk & ~crown, bark, grey)
    solid = np.where(crown | trunk, 255, 0).astype(np.uint8)
    return np.stack([np.clip(grey, 0, 255).astype(np.uint8), solid], axis=-1)


@_bank(12)
def bushes(rng: np.random.Generator) -> np.ndarray:
    """Bushes and tufts, (64, 96, 2)."""
    height, width = 64, 96
    y, x = np.mgrid[:height, :width].astype(np.float32)
    density = np.full((height, width), -1.0, np.float32)
    for _ in range(int(rng.integers(2, 6))):
        cx, radius = rng.uniform(22, width - 22), rng.uniform(18, 34)
        density = np.maximum(density, 1.2 - ((x - cx) ** 2 + (y - height) ** 2) / radius**2 * 0.9)
    density = np.minimum(density, np.minimum(x, width - 1 - x) / 8)
    ragged = noise_patch(_spot(rng), 3, height, width).astype(np.float32) / 255 - 0.5
    grey = _leaves(rng, height, width) * (1.05 - 0.5 * y / height)
    solid = np.where(density + 1.5 * ragged > 0, 255, 0).astype(np.uint8)
    return np.stack([np.clip(grey, 0, 255).astype(np.uint8), solid], axis=-1)


def _leaves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Leaf-like clumps, float32 in 0 … 255."""
    clumps = noise_patch(_spot(rng), 2, height, width).astype(np.float32)
    fine = noise_patch(_spot(rng), 3, height, width).astype(np.float32)
    return np.clip(0.55 * clumps + 0.75 * fine - 35, 5, 255)
