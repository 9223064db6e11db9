"""What the augmentation presets do, for those who do it frame by frame or in batches.

Each step has a probability; the ranges are uniform. Where a step has several kinds, one of them is
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[float, float]

FLIP = 0.5
"""Probability of a flip, in all presets but ``none``."""

CROP = 0.9
"""Probability of a crop, where there are any."""

STRETCH: Span = (0.8, 1.25)
"""By how much the aspect ratio of a crop may differ from the frame's."""


@dataclass(frozen=True)
class Cast:
    """Changes of colour; one of those that are there is drawn.

    Attributes:
        probability: Of any.
        shift: Added to each of red, green and blue, at most; in grey levels of 255.
        hue_saturation: Likewise, on OpenCV's scales: hues have 180 steps, saturation 255.
        grey: Whether there are frames without colour.
    """

    probability: float
    shift: int
    hue_saturation: tuple[int, int] | None = None
    grey: bool = False


@dataclass(frozen=True)
class Flaw:
    """Flaws of a camera; one of those that are there is drawn.

    Attributes:
        probability: Of any.
        blur: Standard deviation of a Gaussian, in pixels.
        motion: Length of a motion blur, in pixels; odd.
        scale: Resolution that is left.
        grain: Standard deviation of noise, in grey levels of 255.
    """

    probability: float
    blur: Span
    grain: Span
    motion: tuple[int, int] | None = None
    scale: Span | None = None


@dataclass(frozen=True)
class Preset:
    """A named augmentation; its steps in the order in which they are taken, after a flip.

    Attributes:
        rotation: Probability, and degrees at most.
        crop: Least share of the area that a crop keeps.
        exposure: Probability, and by how much brightness (relative to the frame's mean) and
            contrast change at most.
        gamma: Probability, and range of the exponent in per cent.
        cast: Changes of colour.
        flaw: Flaws of a camera.
    """

    exposure: tuple[float, float]
    rotation: tuple[float, float] | None = None
    crop: float | None = None
    gamma: tuple[float, tuple[int, int]] | None = None
    cast: Cast | None = None
    flaw: Flaw | None = None


PRESETS: dict[str, Preset | None] = {
    "none": None,
    "light": Preset(exposure=(0.5, 0.15)),
    "standard": Preset(
        crop=0.35,
        exposure=(0.6, 0.25),
        gamma=(0.3, (75, 135)),
        cast=Cast(0.3, shift=10),
        flaw=Flaw(0.2, blur=(0.3, 1.2), grain=(2, 8)),
    ),
    "strong": Preset(
        rotation=(0.3, 7),
        crop=0.15,
        exposure=(0.7, 0.35),
        gamma=(0.4, (60, 160)),
        cast=Cast(0.5, shift=15, hue_saturation=(12, 40), grey=True),
        flaw=Flaw(0.35, blur=(0.5, 2.0), motion=(3, 7), scale=(0.4, 0.8), grain=(5, 16)),
    ),
}


def preset_named(name: str) -> Preset | None:
    """The preset of a name; ``None`` for ``none``.

    Raises:
        ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}, known are {', '.join(PRESETS)}")
    return PRESETS[name]
