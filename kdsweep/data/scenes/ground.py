"""Painting the ground: road, markings, pavement and what lies beyond, pixel by pixel.

Shape suffixes: R ground rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from kdsweep.data import carla
from kdsweep.data.scenes import textures
from kdsweep.data.scenes.brush import Thing
from kdsweep.data.scenes.camera import NEAR, Camera, Ground
from kdsweep.data.scenes.canvas import Canvas
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.stage import Line, Road, Stage

_ROAD, _WALK, _KERB, _BEYOND_LEFT, _BEYOND_RIGHT, _WHITE, _YELLOW = range(7)
_LABELS = (
    carla.ROAD,
    carla.SIDEWALK,
    carla.SIDEWALK,
    carla.NONE,
    carla.NONE,
    carla.ROAD_LINE,
    carla.ROAD_LINE,
)

_OPEN_GROUND = np.array(
    [(92, 118, 52), (70, 92, 46), (150, 140, 88), (128, 110, 84), (150, 146, 138), (110, 128, 70)],
    np.float64,
)
_PAVING = np.array(
    [(158, 154, 148), (128, 126, 126), (172, 158, 136), (150, 110, 96), (104, 104, 106)], np.float64
)


_SHADOW_SIGHT = 55.0
"""Shadows of things farther away than this are too thin to see."""


def paint_ground(
    canvas: Canvas, stage: Stage, ground: Ground, things: Sequence[Thing], dice: Dice
) -> np.ndarray:
    """Paints the ground.

    Returns:
        Where the road is, bool of (H, W), for reflections on wet days.
    """
    surface_RW = _surfaces(stage.road, ground, stage.camera)
    grey_RW = _roughness(ground, surface_RW, stage.road, dice)
    _paint_lines(surface_RW, grey_RW, stage, ground, dice)
    shade_RW = _shade(stage, ground, things, canvas)
    table = _colour_table(stage, _palette(stage, dice))
    # One lookup gives a pixel's colour and label: by shade, surface and brightness.
    entry = (shade_RW >> 5).astype(np.int32) * table.shape[1] + surface_RW
    entry = entry * 256 + grey_RW.astype(np.uint8)
    packed = table.reshape(-1, 4).view(np.uint32).ravel()
    lit = packed[entry].view(np.uint8).reshape(*entry.shape, 4)
    haze = np.array([*stage.light.haze, 0], np.float32)
    clear_R = np.exp(-ground.z_R / stage.light.visibility).astype(np.float32)
    far = int(np.searchsorted(-ground.z_R, -0.02 * stage.light.visibility))
    away = lit[:far]
    share = np.repeat(clear_R[:far, None, None], 4, axis=2)
    share[..., 3] = 1
    away[:] = haze * (1 - share) + away * share
    canvas.pixels_HW4[ground.top :] = lit
    is_road = np.zeros((canvas.height, canvas.width), bool)
    is_road[ground.top :] = (surface_RW == _ROAD) | (surface_RW >= _WHITE)
    return is_road


def _colour_table(stage: Stage, palette: np.ndarray) -> np.ndarray:
    """Colour and label by shade (8 steps), surface and brightness: uint8 of (8, 7, 256, 4)."""
    light = stage.light
    sun = np.array(light.sun) * max(0.0, light.direction[1])
    steps = np.arange(8)[:, None] / 7
    lamp = (np.array(light.ambient) + sun * (1 - steps)) * (1 - 0.25 * steps)
    albedo = palette[:, None] * (np.arange(256)[:, None] / 128)
    table = np.empty((8, len(palette), 256, 4), np.uint8)
    table[..., :3] = np.minimum(lamp[:, None, None] * albedo, 255)
    table[..., 3] = np.array(_LABELS)[:, None]
    return table


def _surfaces(road: Road, ground: Ground, camera: Camera) -> np.ndarray:
    """Which surface each pixel shows, uint8 of (R, W)."""
    s_RW = ground.s_RW
    surface = np.full(s_RW.shape, _ROAD, np.uint8)
    kerb_width = np.maximum(0.16, 0.6 * ground.z_R / camera.focal)[:, None].astype(np.float32)
    for side, beyond in ((-1, _BEYOND_LEFT), (1, _BEYOND_RIGHT)):
        outward = (s_RW - np.float32(road.kerb(side))) * side
        wide = road.sidewalk(side)
        surface[outward > wide] = beyond
        if wide:
            surface[(outward > 0) & (outward <= wide)] = _WALK
            surface[(outward > 0) & (outward <= kerb_width)] = _KERB
    if road.crossing:
        start, end = road.crossing
        rows = (ground.z_R >= start) & (ground.z_R <= end)
        surface[rows] = _ROAD
        # Rounded corners, where pavement meets the crossing road.
        for side in (-1, 1):
            for depth, ahead in ((start, -1), (end, 1)):
                near = (ground.z_R - depth) * ahead
                for row in np.flatnonzero((near > 0) & (near < 2.5)):
                    inset = 2.5 - np.sqrt(max(0.0, 6.25 - (2.5 - near[row]) ** 2))
                    outward = (s_RW[row] - road.kerb(side)) * side
                    surface[row, (outward > 0) & (outward < inset)] = _ROAD
    return surface


def _roughness(ground: Ground, surface_RW: np.ndarray, road: Road, dice: Dice) -> np.ndarray:
    """Brightness of the surface's texture, float32 of (R, W); 128 is its plain colour."""
    s_RW, z_R = ground.s_RW, ground.z_R[:, None]
    fine = _laid_out(s_RW, z_R, textures.noise(3), 0.012, dice)
    broad = _laid_out(s_RW, z_R, textures.noise(1), 0.09, dice)
    near_R = (1 / (1 + z_R / 14)).astype(np.float32)
    strength = np.float32(dice.uniform(0.12, 0.45)), np.float32(dice.uniform(0.04, 0.22))
    grey = 128 + (fine - 128) * (strength[0] * near_R) + (broad - 128) * strength[1]
    beyond = (surface_RW == _BEYOND_LEFT) | (surface_RW == _BEYOND_RIGHT)
    rough = (
        128 + (fine - 128) * (np.float32(0.75) * np.sqrt(near_R)) + (broad - 128) * np.float32(0.55)
    )
    grey = np.where(beyond, rough, grey)
    grey = _with_patches(grey, ground, road, dice)
    if dice.chance(0.7):
        slab = np.float32(dice.uniform(0.4, 1.6))
        joint = np.maximum(np.float32(0.03), 0.7 * z_R / 300).astype(np.float32)
        joints = ((s_RW % slab) < joint) | ((z_R % slab) < joint)
        depth = np.clip(40 * (1 - z_R / (12 * slab)), 0, 40).astype(np.float32)
        grey = np.where(joints & (surface_RW == _WALK), grey - depth, grey)
    return np.clip(grey, 10, 250)


def _with_patches(grey: np.ndarray, ground: Ground, road: Road, dice: Dice) -> np.ndarray:
    """Repairs, wheel tracks and cracks in the road."""
    z_R, s_RW = ground.z_R, ground.s_RW
    track = np.float32(dice.uniform(-0.12, 0.06))
    for lane, _ in road.lanes:
        for wheel in (-0.75, 0.75):
            distance = np.abs(s_RW - np.float32(lane + wheel))
            grey += np.maximum(0, 1 - distance * np.float32(2.2)) * (128 * track)
    for _ in range(dice.randrange(0, 5)):
        start = dice.uniform(2, 30)
        rows = np.flatnonzero((z_R > start) & (z_R < start + dice.uniform(0.8, 7)))
        if rows.size:
            left = dice.uniform(road.left, road.right)
            across = slice(rows[0], rows[-1] + 1)
            inside = (s_RW[across] > left) & (s_RW[across] < left + dice.uniform(0.4, 3))
            grey[across] += inside * np.float32(dice.uniform(-32, 20))
    for _ in range(dice.weighted({0: 0.5, 1: 0.3, 2: 0.2})):
        middle = np.float32(dice.uniform(road.left, road.right))
        wander = (
            0.35 * np.sin(z_R * dice.uniform(0.3, 1.5) + dice.uniform(0, 6))
            + dice.gauss(0, 0.1) * z_R
        )
        width = np.maximum(0.015, 0.35 * z_R / 300)
        crack = np.abs(s_RW - middle - wander[:, None].astype(np.float32)) < width[:, None]
        crack[z_R > dice.uniform(8, 30)] = False
        grey -= crack * np.float32(dice.uniform(15, 45))
    return grey


def _laid_out(
    s_RW: np.ndarray, z_R: np.ndarray, noise: np.ndarray, scale: float, dice: Dice
) -> np.ndarray:
    """Noise as if painted on the ground, float32 of (R, W); one texel is ``scale`` metres."""
    last = textures.NOISE_SIZE - 1
    shift = dice.randrange(textures.NOISE_SIZE), dice.randrange(textures.NOISE_SIZE)
    columns = ((s_RW * np.float32(1 / scale)).astype(np.int32) + shift[0]) & last
    rows = ((z_R * np.float32(1 / scale)).astype(np.int32) + shift[1]) & last
    return noise.ravel()[rows * textures.NOISE_SIZE + columns].astype(np.float32)


def _paint_lines(
    surface_RW: np.ndarray, grey_RW: np.ndarray, stage: Stage, ground: Ground, dice: Dice
) -> None:
    """Markings, worn in places."""
    road, s_RW, z_R = stage.road, ground.s_RW, ground.z_R
    marked = np.zeros(surface_RW.shape, np.uint8)
    least = 0.45 * z_R / stage.camera.focal
    along = np.ones(len(z_R), bool)
    for span in (road.crossing, road.zebra):
        if span:
            along &= (z_R < span[0] - 0.4) | (z_R > span[1] + 0.4)
    for line in road.lines:
        half = np.where(_is_painted(line, z_R, dice) & along, np.maximum(line.width / 2, least), -1)
        inside = np.abs(s_RW - np.float32(line.s)) < half[:, None].astype(np.float32)
        marked[inside] = _YELLOW if line.yellow else _WHITE
    on_road = (s_RW > road.left + 0.2) & (s_RW < road.right - 0.2)
    if road.zebra:
        rows = (z_R > road.zebra[0]) & (z_R < road.zebra[1])
        marked[rows[:, None] & on_road & ((s_RW % np.float32(1.1)) < 0.55)] = _WHITE
        stop = (z_R > road.zebra[0] - 1.6) & (z_R < road.zebra[0] - 1.2)
        marked[stop[:, None] & on_road & (s_RW > 0)] = _WHITE
    if dice.chance(0.3):
        start = dice.uniform(5, 22)
        rows = (z_R > start) & (z_R < start + 3.5)
        lane = np.float32(road.lanes[-1][0])
        stem, head = z_R < start + 2.2, (start + 3.5 - z_R) * 0.45
        half = np.where(stem, 0.12, head)
        marked[(np.abs(s_RW - lane) < half[:, None].astype(np.float32)) & rows[:, None]] = _WHITE
    if road.wear:
        worn = _laid_out(s_RW, z_R[:, None], textures.noise(2), 0.02, dice)
        marked[worn < 60 + 75 * road.wear] = 0
    put = marked > 0
    surface_RW[put] = marked[put]
    grey_RW[put] = grey_RW[put] * 0.5 + 64


def _is_painted(line: Line, z_R: np.ndarray, dice: Dice) -> np.ndarray:
    """In which rows a dashed line is painted."""
    if not line.period:
        return np.ones(len(z_R), bool)
    return (z_R + dice.uniform(0, line.period)) % line.period < line.dash * line.period


def _shade(stage: Stage, ground: Ground, things: Sequence[Thing], canvas: Canvas) -> np.ndarray:
    """How much of the sun is kept from each ground pixel, uint8 of (R, W)."""
    light, camera = stage.light, stage.camera
    right, up, forward = light.direction
    rise = max(up, 0.12)
    reach = (min(max(-right / rise, -3.0), 3.0), min(max(-forward / rise, -3.0), 3.0))
    if max(light.sun) < 0.1:
        reach = (0.0, 0.0)  # under a dull sky, only what lies right below things is darker
    full = np.zeros((canvas.height, canvas.width), np.uint8)
    dappled = np.zeros_like(full)
    for thing in things:
        if thing.depth > _SHADOW_SIGHT:
            continue
        for shadow in thing.shadows(reach):
            points = [camera.place(s, 0.0, max(z, 0.7 * NEAR)) for s, z in shadow.outline]
            pixels = np.clip(np.array(points), -4000, 4000).astype(np.int32)
            cv2.fillPoly(dappled if shadow.dappled else full, [pixels], 255)
    full, dappled = full[ground.top :], dappled[ground.top :]
    spots = np.resize(textures.noise(3), full.shape)
    full |= dappled & np.where(spots > 105, 255, 0).astype(np.uint8)
    return cv2.GaussianBlur(full, (0, 0), 0.9)


def _palette(stage: Stage, dice: Dice) -> np.ndarray:
    """Colour of each surface, float64 of (7, 3)."""
    tone = dice.uniform(62, 150)
    asphalt = tone * dice.triple(0.96, 1.04)
    if dice.chance(0.1):
        asphalt = np.array([150.0, 132, 112]) * dice.uniform(0.8, 1.1)
    paving = _PAVING[dice.randrange(len(_PAVING))] * dice.uniform(0.75, 1.2)
    if dice.chance(0.25):
        paving = asphalt * dice.uniform(0.85, 1.2)
    beyond = [
        _OPEN_GROUND[dice.randrange(len(_OPEN_GROUND))] * dice.uniform(0.8, 1.2) for _ in range(2)
    ]
    white = np.full(3, dice.uniform(175, 240))
    yellow = np.array([215.0, 165, 45]) * dice.uniform(0.8, 1.1)
    palette = np.stack([asphalt, paving, paving * dice.uniform(0.75, 1.3), *beyond, white, yellow])
    if stage.weather == "rain":
        palette[:5] *= 0.72
    return palette
