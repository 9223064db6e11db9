"""Light and air: what a surface's own colour looks like from the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

Colour = Sequence[float] | np.ndarray
Triple = tuple[float, float, float]

TOWARDS_CAMERA = (0.0, 0.0, -1.0)

_RAMP = np.stack([np.linspace(1, 0, 256), np.linspace(0, 1, 256)], axis=1)
"""Shares of a table's two ends, by grey level."""


@dataclass(frozen=True)
class Light:
    """Sun, sky and haze of one scene; colours are (red, green, blue).

    Attributes:
        ambient: Share of a surface's colour that the sky alone gives.
        sun: What direct sun adds on a surface that faces it.
        direction: Unit vector to the sun: right, up, forward.
        haze: Colour that distance fades to.
        visibility: Distance in metres over which two thirds fade.
        lamps: Whether lamps and windows are lit.
    """

    ambient: Triple
    sun: Triple
    direction: Triple
    haze: Triple
    visibility: float
    lamps: bool

    def falling_on(self, normal: Sequence[float]) -> Triple:
        """Light on a surface with this normal."""
        d, n = self.direction, normal
        facing = max(0.0, d[0] * n[0] + d[1] * n[1] + d[2] * n[2])
        (r, g, b), sun = self.ambient, self.sun
        return r + sun[0] * facing, g + sun[1] * facing, b + sun[2] * facing

    def seen(self, colour: Colour, normal: Sequence[float], z: float) -> Triple:
        """A surface's colour as the camera sees it, in 0 … 255."""
        red, green, blue = self.falling_on(normal)
        # Plain numbers from here on: single numbers out of an array are slow to reckon with.
        r, g, b = colour.tolist() if isinstance(colour, np.ndarray) else colour
        lit = (min(r * red, 255.0), min(g * green, 255.0), min(b * blue, 255.0))
        return self._through_air(lit, exp(-z / self.visibility))

    def glow(self, colour: Colour, z: float) -> Triple:
        """A colour that shines by itself, as the camera sees it."""
        return self._through_air(colour, exp(-0.5 * z / self.visibility))

    def mirrored(self, share: float) -> Triple:
        """Return what glass shows of the sky: a share of it, over a dark inside."""
        r, g, b = self.haze
        return r * share + 8, g * share + 8, b * share + 8

    def table(
        self, dark: Colour, bright: Colour, normal: Sequence[float], z: float, label: int
    ) -> np.ndarray:
        """A lookup table that turns a texture's grey levels into colours as seen, and the label.

        Args:
            dark: Colour of grey level 0.
            bright: Colour of grey level 255.
            normal: Of the surface.
            z: Its depth.
            label: Goes into the fourth channel, whatever the grey level.

        Returns:
            uint8 of (256, 4), for :meth:`Canvas.quad` and :meth:`Canvas.sprite`.
        """
        # Both ends as seen, and straight between them: light and haze are linear.
        table = np.empty((256, 4), np.uint8)
        table[:, :3] = _RAMP @ np.array([self.seen(dark, normal, z), self.seen(bright, normal, z)])
        table[:, 3] = label
        return table

    def _through_air(self, colour: Colour, clear: float) -> Triple:
        (r, g, b), haze = colour, self.haze
        return (
            haze[0] + (r - haze[0]) * clear,
            haze[1] + (g - haze[1]) * clear,
            haze[2] + (b - haze[2]) * clear,
        )
