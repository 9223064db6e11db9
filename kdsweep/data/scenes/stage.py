"""What a scene is before anything is painted: camera, road, weather and surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdsweep.data.scenes.camera import Camera
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.light import Light, Triple

WEATHERS = {
    "clear": 0.3,
    "cloudy": 0.25,
    "overcast": 0.17,
    "rain": 0.1,
    "fog": 0.07,
    "dusk": 0.11,
}
"""Weathers with their probabilities."""

SETTINGS = {"city": 0.3, "suburb": 0.28, "outskirts": 0.22, "country": 0.2}
"""Surroundings with their probabilities."""


@dataclass(frozen=True)
class Line:
    """A marking along the road.

    Attributes:
        s: Its middle.
        width: In metres.
        period: Length of dash and gap together; 0 for an unbroken line.
        dash: Share of the period that is painted.
        yellow: Whether it is yellow rather than white.
    """

    s: float
    width: float
    period: float
    dash: float
    yellow: bool


@dataclass(frozen=True)
class Road:
    """The road's cross-section, and where another road crosses it.

    Attributes:
        left, right: Kerbs, in ``s``.
        lanes: Middle of each lane with the direction of its traffic: 1 away, -1 towards us.
        sidewalks: Width of the pavement on the left and right; 0 for none.
        lines: Markings along the road.
        crossing: Depths between which another road crosses, or None.
        zebra: Depths between which there is a zebra crossing, or None.
        wear: Share of the markings that has worn off.
    """

    left: float
    right: float
    lanes: tuple[tuple[float, int], ...]
    sidewalks: tuple[float, float]
    lines: tuple[Line, ...]
    crossing: tuple[float, float] | None
    zebra: tuple[float, float] | None
    wear: float

    def kerb(self, side: int) -> float:
        """The kerb on the left (-1) or right (1)."""
        return self.left if side < 0 else self.right

    def sidewalk(self, side: int) -> float:
        """Width of the pavement on one side."""
        return self.sidewalks[0 if side < 0 else 1]


@dataclass(frozen=True)
class Stage:
    """Everything that is decided before painting."""

    camera: Camera
    road: Road
    light: Light
    weather: str
    setting: str
    zenith: np.ndarray
    skyline: np.ndarray
    roll: float


def draw_stage(dice: Dice, height: int, width: int) -> Stage:
    """Draws a stage."""
    weather = dice.weighted(WEATHERS)
    setting = dice.weighted(SETTINGS)
    road = _draw_road(dice, setting)
    # We drive in a lane of our direction, not quite in its middle.
    ours = [s for s, direction in road.lanes if direction > 0]
    camera = Camera(
        width=width,
        height=height,
        focal=width * dice.uniform(0.5, 0.9),
        horizon=height * dice.uniform(0.38, 0.54),
        altitude=dice.uniform(1.2, 2.1),
        lateral=dice.choice(ours) + dice.gauss(0, 0.3),
        bends=_draw_bends(dice),
        rises=(dice.gauss(0, 1.3e-4), dice.gauss(0, 3e-7)),
    )
    light, zenith, skyline = _draw_light(dice, weather)
    roll = dice.gauss(0, 0.8)
    return Stage(camera, road, light, weather, setting, zenith, skyline, roll)


def _draw_bends(dice: Dice) -> tuple[float, float, float]:
    """Straight roads, wide bends and, now and then, tight ones (radii down to 36 m)."""
    sharpness = dice.weighted({2e-4: 0.3, 2e-3: 0.35, 5e-3: 0.2, 1e-2: 0.15})
    bend = max(-0.014, min(0.014, dice.gauss(0, sharpness)))
    # A camera in a bend looks along the road's direction where it is, not where it leads.
    return dice.gauss(0, 0.035) - 6 * bend, bend, dice.gauss(0, min(sharpness, 3e-3) / 300)


def _draw_road(dice: Dice, setting: str) -> Road:
    lane = dice.uniform(2.9, 3.7)
    oneway = setting == "city" and dice.chance(0.25)
    num_towards = 0 if oneway else dice.weighted({1: 0.8, 2: 0.2})
    num_away = dice.weighted({1: 0.55, 2: 0.35, 3: 0.1})
    kerbside = {0.0: 0.6, 2.2: 0.4} if setting in ("city", "suburb") else {0.0: 1.0}
    parking = [dice.weighted(kerbside) for _ in range(2)]
    shoulder = dice.uniform(0.1, 1.0) if setting in ("outskirts", "country") else 0.1
    left = -(num_towards * lane + shoulder + parking[0])
    right = num_away * lane + shoulder + parking[1]
    lanes = [(-(i + 0.5) * lane, -1) for i in range(num_towards)]
    lanes += [((i + 0.5) * lane, 1) for i in range(num_away)]
    lines = _draw_lines(dice, lane, num_towards, num_away)
    chance = {"city": 1.0, "suburb": 0.9, "outskirts": 0.55, "country": 0.12}[setting]
    sidewalks = tuple(dice.uniform(1.8, 5.5) if dice.random() < chance else 0.0 for _ in range(2))
    crossing = zebra = None
    if setting != "country" and dice.chance(0.35):
        start = dice.uniform(14, 50)
        crossing = (start, start + dice.uniform(7, 12))
    if setting in ("city", "suburb") and dice.chance(0.35):
        start = crossing[0] - 4.5 if crossing else dice.uniform(9, 35)
        zebra = (start, start + 3.2)
    wear = dice.uniform(0.0, 0.5)
    return Road(
        left, right, tuple(lanes), (sidewalks[0], sidewalks[1]), tuple(lines), crossing, zebra, wear
    )


def _draw_lines(dice: Dice, lane: float, num_towards: int, num_away: int) -> list[Line]:
    lines: list[Line] = []
    width = dice.uniform(0.1, 0.18)
    period, dash = dice.uniform(5, 12), dice.uniform(0.3, 0.55)
    if num_towards:
        kind = dice.weighted({"double": 0.4, "single": 0.2, "dashed": 0.3, "none": 0.1})
        yellow = dice.chance(0.55)
        if kind == "double":
            lines += [Line(-width, width, 0, 1, yellow), Line(width, width, 0, 1, yellow)]
        elif kind != "none":
            lines.append(Line(0.0, width, period if kind == "dashed" else 0, dash, yellow))
    between = [i * lane for i in range(1, num_away)] + [-i * lane for i in range(1, num_towards)]
    lines += [Line(s, width, period, dash, False) for s in between]
    if dice.chance(0.45):
        yellow = dice.chance(0.2)
        lines.append(Line(num_away * lane - 0.05, width, 0, 1, yellow))
        lines.append(Line(-num_towards * lane + 0.05, width, 0, 1, yellow))
    return lines


def _draw_light(dice: Dice, weather: str) -> tuple[Light, np.ndarray, np.ndarray]:
    """Light, and the sky's colour overhead and at the horizon."""
    azimuth, altitude = dice.uniform(0, 2 * np.pi), dice.uniform(0.3, 1.2)
    warm = dice.uniform(-1, 1) * np.array([0.06, 0.0, -0.07])
    ambient, sun, visibility, lamps = 0.55, 0.75, dice.uniform(150, 600), False
    blue = np.array([dice.uniform(50, 110), dice.uniform(105, 155), dice.uniform(165, 225)])
    pale = np.array([dice.uniform(165, 215), dice.uniform(190, 220), dice.uniform(205, 232)])
    if weather == "cloudy":
        ambient, sun = 0.6, dice.uniform(0.25, 0.6)
    elif weather == "overcast":
        grey = dice.uniform(140, 215)
        blue, pale = grey * np.array([0.9, 0.95, 1.0]), np.full(3, grey + 15)
        ambient, sun, visibility = dice.uniform(0.6, 0.85), 0.05, dice.uniform(120, 300)
    elif weather == "rain":
        grey = dice.uniform(95, 165)
        blue, pale = grey * np.array([0.88, 0.94, 1.0]), grey * np.array([1.05, 1.08, 1.1])
        ambient, sun, visibility = dice.uniform(0.45, 0.65), 0.02, dice.uniform(45, 130)
        lamps = dice.chance(0.5)
    elif weather == "fog":
        grey = dice.uniform(150, 215)
        blue = pale = grey * np.array([0.97, 0.99, 1.0])
        ambient, sun, visibility = dice.uniform(0.6, 0.8), 0.03, dice.uniform(22, 60)
        lamps = dice.chance(0.4)
    elif weather == "dusk":
        altitude = dice.uniform(0.05, 0.2)
        level = dice.uniform(0.3, 1.0)
        blue = np.array([40.0, 52.0, 95.0]) * level * dice.uniform(0.8, 1.2)
        pale = np.array([235.0, 150.0, 95.0]) * (0.35 + 0.6 * level)
        ambient, sun, warm = 0.2 + 0.25 * level, 0.35 * level, np.array([0.1, 0.0, -0.06])
        lamps = True
    direction = np.array(
        [np.cos(altitude) * np.sin(azimuth), np.sin(altitude), np.cos(altitude) * np.cos(azimuth)]
    )
    light = Light(
        ambient=_triple(ambient * (1 - warm)),
        sun=_triple(sun * (1 + 2 * warm)),
        direction=_triple(direction),
        haze=_triple(pale * dice.uniform(0.85, 0.98)),
        visibility=float(visibility),
        lamps=lamps,
    )
    return light, blue, pale


def _triple(values: np.ndarray) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])
