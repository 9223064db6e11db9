"""What lens, sensor and weather add to the painted scene."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from kdsweep.data import carla
from kdsweep.data.scenes import textures
from kdsweep.data.scenes.camera import Ground
from kdsweep.data.scenes.canvas import Canvas
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.stage import Stage

_LEAST_ROLL = 0.15
"""Degrees below which a tilt cannot be seen."""


def finish(
    canvas: Canvas, stage: Stage, ground: Ground, dice: Dice
) -> tuple[np.ndarray, np.ndarray]:
    """The finished picture, uint8 of (H, W, 3), and its labels, uint8 of (H, W)."""
    pixels = canvas.pixels_HW4
    image, labels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), cv2.extractChannel(pixels, 3)
    if stage.weather == "rain":
        _reflect(image, labels, ground, dice)
    if abs(stage.roll) > _LEAST_ROLL:
        image, labels = _rolled(image, labels, stage.roll)
    if stage.weather == "rain":
        _add_streaks(image, dice)
    image = cv2.GaussianBlur(image, (0, 0), dice.uniform(0.35, 0.85) * image.shape[1] / 400)
    return _developed(image, stage, dice), labels


def _reflect(image: np.ndarray, labels: np.ndarray, ground: Ground, dice: Dice) -> None:
    """A wet road mirrors what stands above it, dimly and smeared."""
    height, width = labels.shape
    horizon = int(np.clip(ground.top, 1, height - 1))
    num_rows = min(horizon, height - horizon)
    mirrored = cv2.blur(image[horizon - num_rows : horizon][::-1].copy(), (3, 15))
    wet = slice(horizon, horizon + num_rows)
    puddles = cv2.resize(textures.noise_patch(dice.spot(), 1, 160, 120), (width, num_rows))
    share = np.clip((puddles.astype(np.float32) - 90) / 130, 0.05, 0.55)
    # Towards us we look down on the road more steeply, and it mirrors less.
    share *= np.linspace(1, 0, num_rows, dtype=np.float32)[:, None]
    share *= (labels[wet] == carla.ROAD) | (labels[wet] == carla.ROAD_LINE)
    image[wet] = image[wet] + (mirrored.astype(np.float32) - image[wet]) * share[..., None]


def _rolled(image: np.ndarray, labels: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Both turned about the middle, and enlarged so that no corner is empty."""
    height, width = labels.shape
    turn = abs(np.radians(degrees))
    scale = float(np.cos(turn) + np.sin(turn) * max(width / height, height / width))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    size = (width, height)
    edge = cv2.BORDER_REPLICATE
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=edge)
    labels = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=edge)
    return image, labels


def _add_streaks(image: np.ndarray, dice: Dice) -> None:
    """Falling rain."""
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    num = dice.randrange(60, 260)
    slant = dice.uniform(-0.3, 0.3)
    for _ in range(num):
        column, row, length = dice.uniform(0, width), dice.uniform(-20, height), dice.uniform(4, 16)
        end = (int(column + slant * length), int(row + length))
        cv2.line(layer, (int(column), int(row)), end, 255, 1, cv2.LINE_AA)
    share = layer.astype(np.float32)[..., None] * np.float32(dice.uniform(0.15, 0.4) / 255)
    image[:] = image + (np.float32(205) - image) * share


def _developed(image: np.ndarray, stage: Stage, dice: Dice) -> np.ndarray:
    """Exposure, contrast, colour cast, vignette and noise."""
    height, width = image.shape[:2]
    gamma = dice.uniform(0.8, 1.25)
    gains = dice.uniform(0.86, 1.1) * dice.triple(0.96, 1.04)
    contrast = dice.uniform(0.9, 1.15)
    levels = (np.arange(256) / 255) ** gamma
    table = np.clip(((levels[:, None] - 0.5) * contrast + 0.5) * gains * 255, 0, 255)
    image = cv2.LUT(image, table.astype(np.uint8)[:, None])
    vignette = cv2.convertScaleAbs(_corners(height, width), None, -dice.uniform(0, 56), 255)
    image = cv2.multiply(image, cv2.merge([vignette] * 3), None, 1 / 255)
    noise = textures.grain()
    if height > noise.shape[0] - 64 or width > noise.shape[1] - 64:
        noise = np.tile(noise, (height // 512 + 1, width // 704 + 1, 1))
    top, left = dice.randrange(64), dice.randrange(64)
    strength = dice.uniform(1.0, 4.0) * (2 if stage.weather == "dusk" else 1) / 32
    return cv2.addWeighted(
        image, 1.0, noise[top : top + height, left : left + width], strength, -128 * strength
    )


@cache
def _corners(height: int, width: int) -> np.ndarray:
    """Squared distance from the middle, 2 in the corners, float32 of (height, width)."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return rows * rows + columns * columns
