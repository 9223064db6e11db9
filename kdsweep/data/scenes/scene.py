"""One scene, from its seed to its pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kdsweep.data.scenes.brush import Brush
from kdsweep.data.scenes.canvas import Canvas
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.finish import finish
from kdsweep.data.scenes.ground import paint_ground
from kdsweep.data.scenes.sky import paint_backdrop, paint_sky
from kdsweep.data.scenes.stage import draw_stage
from kdsweep.data.scenes.street import place_things

STREAM_VERSION = 1
"""Raised whenever the same seed and index give another scene."""


class Scene(NamedTuple):
    """A picture with its labels.

    Attributes:
        image: uint8 of (H, W, 3), RGB.
        labels: uint8 of (H, W), ids of ``kdsweep.data.carla.CLASSES``.
    """

    image: np.ndarray
    labels: np.ndarray


def render(seed: int, index: int, height: int = 300, width: int = 400) -> Scene:
    """Draws a scene; the same arguments always give the same one.

    Args:
        seed: The stream.
        index: Number in the stream.
        height: In pixels.
        width: In pixels.
    """
    dice = Dice(seed, index)
    stage = draw_stage(dice, height, width)
    things = place_things(dice, stage)
    canvas = Canvas(height, width)
    paint_sky(canvas, stage, dice)
    ground = stage.camera.ground()
    paint_backdrop(canvas, stage, ground, dice)
    paint_ground(canvas, stage, ground, things, dice)
    brush = Brush(canvas, stage.camera, stage.light)
    for thing in things:
        thing.paint(brush)
    return Scene(*finish(canvas, stage, ground, dice))
