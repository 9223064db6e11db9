"""Painting the sky, and what closes the view: hills, woods and roofs far away."""

from __future__ import annotations

import cv2
import numpy as np

from kdsweep.data import carla
from kdsweep.data.scenes import textures
from kdsweep.data.scenes.camera import Ground
from kdsweep.data.scenes.canvas import Canvas, looked_up
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.light import TOWARDS_CAMERA
from kdsweep.data.scenes.plants import foliage
from kdsweep.data.scenes.stage import Stage
from kdsweep.data.scenes.structures import PAINTS

_CLOUDINESS = {
    "clear": 0.3,
    "cloudy": 0.95,
    "overcast": 0.35,
    "rain": 0.45,
    "fog": 0.0,
    "dusk": 0.6,
}
_COARSE = 4


def paint_sky(canvas: Canvas, stage: Stage, dice: Dice) -> None:
    """Fills the canvas from the top to below the horizon.

    A quarter of the resolution is enough for it.
    """
    height = int(min(canvas.height, stage.camera.horizon + canvas.height * 0.2))
    rows, columns = height // _COARSE, canvas.width // _COARSE
    share = np.linspace(0, height / stage.camera.horizon, rows).clip(0, 1) ** dice.uniform(0.7, 1.6)
    sky = (stage.zenith + (stage.skyline - stage.zenith) * share[:, None]).astype(np.float32)
    sky = np.repeat(sky[:, None], columns, axis=1)
    cloudiness = _CLOUDINESS[stage.weather] * dice.uniform(0.4, 1.0)
    if cloudiness:
        patch = textures.noise_patch(dice.spot(), dice.randrange(2), 200, 260)
        veil = cv2.resize(patch, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        veil = np.clip((veil - dice.uniform(95, 140)) / 75, 0, 1) * cloudiness
        cloud = np.minimum(stage.skyline * dice.uniform(0.85, 1.2) + 12, 252)
        if stage.weather in ("overcast", "rain"):
            cloud = stage.zenith * 0.78
        sky += (cloud.astype(np.float32) - sky) * veil[..., None]
    if stage.weather in ("clear", "dusk") and stage.light.direction[2] > 0.3:
        _add_sun(sky, stage)
    sky = cv2.resize(sky, (canvas.width, height), interpolation=cv2.INTER_LINEAR)
    canvas.pixels_HW4[:height, :, :3] = np.clip(sky, 0, 255)
    canvas.pixels_HW4[..., 3] = carla.NONE


def _add_sun(sky: np.ndarray, stage: Stage) -> None:
    """A glare where the sun is."""
    direction, camera = stage.light.direction, stage.camera
    column = camera.width / 2 + camera.focal * direction[0] / direction[2]
    row = camera.horizon - camera.focal * direction[1] / direction[2]
    rows, columns = np.ogrid[: sky.shape[0], : sky.shape[1]]
    distance = np.hypot(rows * _COARSE - row, columns * _COARSE - column) / camera.width
    glare = (120 * np.exp(-distance / 0.12)).astype(np.float32)
    sky += glare[..., None] * np.array([1.0, 0.92, 0.75], np.float32)


def paint_backdrop(canvas: Canvas, stage: Stage, ground: Ground, dice: Dice) -> None:
    """Paints what stands at the end of the view, farthest first."""
    base = ground.top + 3
    if dice.chance(0.5):
        top = _outline(dice, canvas.width, base, dice.uniform(6, 30), 0)
        hill = np.array([dice.uniform(60, 120), dice.uniform(80, 130), dice.uniform(60, 130)])
        _fill(canvas, stage, top, base, hill * 0.6, hill * 1.1, 170.0, carla.NONE, dice)
    if stage.setting in ("city", "suburb") or dice.chance(0.3):
        _paint_roofs(canvas, stage, base, dice)
    if stage.setting != "city" or dice.chance(0.5):
        for z in (120.0, 95.0):
            top = _outline(dice, canvas.width, base, dice.uniform(6, 26), 2)
            dark, bright = foliage(dice)
            _fill(canvas, stage, top, base, dark, bright, z, carla.VEGETATION, dice)


def _outline(dice: Dice, width: int, base: int, height: float, roughness: int) -> np.ndarray:
    """Upper edge of a strip, in rows; with gaps where it dips below its foot."""
    wave = textures.noise_patch(dice.spot(), roughness, 1, 256)[0].astype(
        np.float32
    ) / 128 - dice.uniform(0.1, 0.7)
    scaled = cv2.resize(wave[None], (width, 1), interpolation=cv2.INTER_LINEAR)[0]
    return base - scaled * height * width / 400


def _fill(
    canvas: Canvas,
    stage: Stage,
    top: np.ndarray,
    base: int,
    dark: np.ndarray,
    bright: np.ndarray,
    z: float,
    label: int,
    dice: Dice,
) -> None:
    """Fills below an outline down to a row, with a leafy texture."""
    first = max(0, int(top.min()))
    if first >= base:
        return
    grey = textures.noise_patch(dice.spot(), 3, base - first, canvas.width)
    table = stage.light.table(dark, bright, TOWARDS_CAMERA, z, label)
    region = canvas.pixels_HW4[first : first + len(grey)]
    inside = np.arange(first, first + len(region))[:, None] >= top[None, :]
    cv2.copyTo(looked_up(grey[: len(region)], table), inside.astype(np.uint8), region)


def _paint_roofs(canvas: Canvas, stage: Stage, base: int, dice: Dice) -> None:
    """A row of far-away buildings."""
    column = dice.uniform(-30, 0)
    tallest = dice.uniform(8, 40) * canvas.width / 400
    while column < canvas.width:
        wide = dice.uniform(12, 40) * canvas.width / 400
        if dice.chance(0.7):
            height = dice.uniform(0.3, 1.0) * tallest
            paint = PAINTS[dice.randrange(len(PAINTS))] * dice.uniform(0.7, 1.1)
            table = stage.light.table(paint * 0.2, paint, TOWARDS_CAMERA, 130.0, carla.BUILDING)
            texture = textures.facades()[dice.randrange(len(textures.facades()))].levels[2]
            rows = max(4, min(len(texture), int(height)))
            corners = [
                (column, base - height),
                (column + wide, base - height),
                (column + wide, base),
                (column, base),
            ]
            canvas.quad(texture[-rows:], corners, table)
        column += wide
