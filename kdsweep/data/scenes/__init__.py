"""A generator of driving scenes with CARLA's 13 classes.

:func:`render` draws scene ``index`` of the stream ``seed``. The scenes are no simulation and no
stand-in for real photographs: they are hard enough that training methods can be told apart on them,
and they come without a download.

How a scene comes about: ``stage`` draws camera, road and weather; ``street`` walks along both sides
and places buildings, fences, trees, cars, people and the rest; ``ground`` paints road, lines and
pavement pixel by pixel, with the shadows of all these; then they are painted from far to near, and
``finish`` adds what a lens, a sensor and rain do. Textures are drawn once per process.

Image and labels are painted together: the canvas has four channels, and the fourth is the label.
"""

from __future__ import annotations

from kdsweep.data.scenes.scene import STREAM_VERSION, Scene, render

__all__ = ["STREAM_VERSION", "Scene", "render"]
