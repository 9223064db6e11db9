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
from kdsweep.data.scenes.camera import NEAR, Ground
from kdsweep.data.scenes.canvas import Canvas, looked_up
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


_REACH, _STEP = 60.0, 0.05
"""How far to the sides surfaces are told apart, and how finely, in metres."""

_KERB_WIDTH, _CORNER = 0.18, 2.5
"""Width of the kerb, and radius of its corners, in metres."""

_SHADOW_SIGHT = 55.0
"""Shadows of things farther away than this are too thin to see."""


def paint_ground(
    canvas: Canvas, stage: Stage, ground: Ground, things: Sequence[Thing], dice: Dice
) -> None:
    """Paints the ground, with the shadows of what stands on it."""
    surface_RW = _surfaces(stage.road, ground)
    grey_RW = _roughness(ground, surface_RW, stage.road, dice)
    _paint_lines(surface_RW, grey_RW, stage, ground, dice)
    shade_RW = _shade(stage, ground, things, canvas)
    table = _colour_table(stage, _palette(stage, dice))
    # One lookup gives a pixel's colour and label: by shade, surface and brightness.
    entry = (shade_RW >> 5).astype(np.int32) * table.shape[1] + surface_RW
    entry = entry * 256 + grey_RW.astype(np.uint8)
    lit = looked_up(entry, table)
    # Haze, which changes nothing on the rows close by; the fourth channel is the label.
    visibility = stage.light.visibility
    far = int(np.searchsorted(-ground.z_R, -0.02 * visibility))
    clear = np.exp(-ground.z_R[:far] / visibility).astype(np.float32)
    share = np.repeat(clear[:, None, None], 4, axis=2)
    share[..., 3] = 1
    haze = np.array([*stage.light.haze, 0], np.float32)
    lit[:far] = lit[:far] * share + haze * (1 - share)
    canvas.pixels_HW4[ground.top :] = lit


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


def _surfaces(road: Road, ground: Ground) -> np.ndarray:
    """Which surface each pixel shows, uint8 of (R, W)."""
    s = np.arange(-_REACH, _REACH, _STEP)
    across = np.full(len(s), _ROAD, np.uint8)
    for side, beyond in ((-1, _BEYOND_LEFT), (1, _BEYOND_RIGHT)):
        outward, wide = (s - road.kerb(side)) * side, road.sidewalk(side)
        across[outward > wide] = beyond
        if wide:
            across[(outward > 0) & (outward <= wide)] = _WALK
            across[(outward > 0) & (outward <= _KERB_WIDTH)] = _KERB
    place = ground.s_RW * np.float32(1 / _STEP) + np.float32(_REACH / _STEP)
    surface = across.take(place.astype(np.int32), mode="clip")
    if road.crossing:
        start, end = road.crossing
        surface[(ground.z_R >= start) & (ground.z_R <= end)] = _ROAD
        for row in np.flatnonzero((ground.z_R > start - _CORNER) & (ground.z_R < end + _CORNER)):
            _round_corner(surface[row], ground.s_RW[row], float(ground.z_R[row]), road)
    return surface


def _round_corner(surface_W: np.ndarray, s_W: np.ndarray, z: float, road: Road) -> None:
    """Rounds the kerb off where the crossing road meets ours, in one row."""
    assert road.crossing is not None
    near = max(road.crossing[0] - z, z - road.crossing[1])
    if near <= 0:
        return
    inset = _CORNER - np.sqrt(max(0.0, _CORNER**2 - (_CORNER - near) ** 2))
    for side in (-1, 1):
        outward = (s_W - np.float32(road.kerb(side))) * side
        surface_W[(outward > 0) & (outward < inset)] = _ROAD


def _roughness(ground: Ground, surface_RW: np.ndarray, road: Road, dice: Dice) -> np.ndarray:
    """Brightness of the surface's texture, float32 of (R, W); 128 is its plain colour."""
    s_RW, z_R = ground.s_RW, ground.z_R[:, None]
    fine = _laid_out(s_RW, z_R, 3, 0.012, dice)
    broad = _laid_out(s_RW, z_R, 1, 0.09, dice)
    # Open ground is rougher than what is paved, and all of it is smoother farther away.
    near = (1 / (1 + z_R / 14)).astype(np.float32)
    strengths = np.full((2, 7), dice.uniform(0.12, 0.45), np.float32)
    strengths[1] = dice.uniform(0.04, 0.22)
    strengths[0, _BEYOND_LEFT : _BEYOND_RIGHT + 1] = 0.75
    strengths[1, _BEYOND_LEFT : _BEYOND_RIGHT + 1] = 0.55
    grey = 128 + fine * (strengths[0].take(surface_RW) * near)
    grey += broad * strengths[1].take(surface_RW)
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
    s_RW: np.ndarray, z_R: np.ndarray, number: int, scale: float, dice: Dice
) -> np.ndarray:
    """Noise as if painted on the ground, as deviations from its mean, float32 of (R, W).

    Args:
        s_RW: Place across the road of each pixel.
        z_R: Depth of each row, (R, 1).
        number: Which noise.
        scale: Metres that one texel covers.
        dice: Shifts it.
    """
    last, shift = textures.NOISE_SIZE - 1, dice.spot()
    columns = ((s_RW * np.float32(1 / scale)).astype(np.int32) + shift[0]) & last
    rows = ((z_R * np.float32(1 / scale)).astype(np.int32) + shift[1]) & last
    return textures.deviations(number).take(rows * textures.NOISE_SIZE + columns)


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
        worn = _laid_out(s_RW, z_R[:, None], 2, 0.02, dice)
        marked[worn < 75 * road.wear - 68] = 0
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
