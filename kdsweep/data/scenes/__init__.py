"""A generator of driving scenes with CARLA's 13 classes.

:func:`render` draws scene ``index`` of the stream ``seed``. It is neither a simulator nor a stand-in for real
photographs: it is hard enough that training methods can be told apart on it, and it comes without a
download.

How a scene comes about: ``stage`` draws camera, road and weather; ``ground`` paints road, lines and
pavement pixel by pixel; ``street`` walks along both sides and places buildings, fences, trees, cars,
people and the rest; these are painted from far to near; ``finish`` adds what a lens, a sensor and
rain do. Textures are drawn once per process (``textures``).

Image and labels are painted together: the canvas has four channels, and the fourth is the label.
"""

from __future__ import annotations

from kdsweep.data.scenes.scene import STREAM_VERSION, Scene, render

__all__ = ["STREAM_VERSION", "Scene", "render"]
