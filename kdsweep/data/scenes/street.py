"""Walking along both sides of the road, and the road itself, and placing things."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kdsweep.data.scenes.brush import Thing
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.furniture import (
    draw_crate,
    draw_lamp,
    draw_metal,
    draw_sign,
    draw_traffic_light,
)
from kdsweep.data.scenes.people import draw_person
from kdsweep.data.scenes.plants import draw_bush, draw_tree
from kdsweep.data.scenes.stage import Road, Stage
from kdsweep.data.scenes.structures import (
    Awning,
    draw_building,
    draw_fence,
    draw_guardrail,
    draw_hedge,
    draw_wall,
)
from kdsweep.data.scenes.vehicles import draw_vehicle

_SIGHT = 110.0
"""Nothing is placed farther away than this."""

_ROWS = {
    # what stands along the road in one stretch of it, with weights, for each setting
    "city": {"tower": 6, "wall": 1.5, "fence": 1, "park": 1, "yard": 0.8},
    "suburb": {"house": 4.5, "wall": 1.3, "fence": 1.5, "hedge": 1.3, "park": 1, "yard": 0.5},
    "outskirts": {
        "house": 1,
        "tower": 0.8,
        "wall": 2,
        "fence": 2.5,
        "park": 2,
        "yard": 1.5,
        "field": 1,
    },
    "country": {"house": 0.6, "wall": 1, "fence": 2, "hedge": 1.3, "park": 3.5, "field": 2.5},
}
_TRAFFIC = {"city": 1.0, "suburb": 0.8, "outskirts": 0.7, "country": 0.45}
_WALKERS = {"city": 4.5, "suburb": 2.4, "outskirts": 0.9, "country": 0.25}


def place_things(dice: Dice, stage: Stage) -> list[Thing]:
    """Everything that stands in the scene, farthest first."""
    things: list[Thing] = []
    for side in (-1, 1):
        things += _roadside(dice, stage, side)
        things += _pavement(dice, stage, side)
    things += _traffic(dice, stage)
    return sorted(things, key=lambda thing: -thing.depth)


def _roadside(dice: Dice, stage: Stage, side: int) -> Iterator[Thing]:
    """Rows of houses, walls, trees and so on, stretch by stretch."""
    road = stage.road
    edge = road.kerb(side) + side * (road.sidewalk(side) + dice.uniform(0.1, 1.2))
    rows = _ROWS[stage.setting]
    z = dice.uniform(-6, 4)
    while z < _SIGHT:
        length = dice.uniform(7, 26)
        for start, end in _outside_crossing(road, z, z + length):
            row = dice.weighted(rows)
            if end > 4:
                yield from _stretch(dice, row, side, edge, (max(start, 0.5), end))
        z += length + (dice.uniform(0.5, 6) if dice.chance(0.3) else 0.0)
    bend = stage.camera.bends[1]
    if not road.sidewalk(side) and (bend * side < -0.001 or dice.chance(0.2)):
        for start, end in _outside_crossing(road, dice.uniform(2, 12), dice.uniform(40, 90)):
            yield draw_guardrail(dice, side, road.kerb(side) + side * 0.5, (start, end))


def _stretch(
    dice: Dice, row: str, side: int, edge: float, z: tuple[float, float]
) -> Iterator[Thing]:
    """One stretch of what lines the road."""
    start, end = z
    if row == "tower":
        yield draw_building(dice, side, edge + side * dice.uniform(0, 1.5), z, tall=True)
        return
    if row == "house":
        setback = dice.uniform(1.5, 7)
        gap = min(dice.uniform(1, 4), (end - start) / 3)
        yield draw_building(dice, side, edge + side * setback, (start + gap, end), tall=False)
        if setback > 3 and dice.chance(0.6):
            draw = (draw_hedge, draw_fence, draw_wall)[dice.randrange(3)]
            yield draw(dice, side, edge, z)
        yield from _greenery(dice, side, edge, z, (0.3, setback), 0.12)
        return
    if row == "wall":
        yield draw_wall(dice, side, edge, z)
    elif row == "fence":
        yield draw_fence(dice, side, edge, z)
    elif row == "hedge":
        yield draw_hedge(dice, side, edge, z)
    elif row == "yard":
        if dice.chance(0.5):
            size = (dice.uniform(1.5, 3.5), dice.uniform(2.2, 3.2), dice.uniform(2.5, 6))
            yield Awning(edge + side * 0.8, start + 1, side, size, dice.triple(40, 200))
        for _ in range(dice.randrange(1, 6)):
            yield draw_crate(dice, edge + side * dice.uniform(0.4, 6), dice.uniform(start, end))
        if dice.chance(0.4):
            yield draw_vehicle(
                dice, edge + side * dice.uniform(3, 7), start + 1, dice.chance(0.5), parked=True
            )
        yield draw_building(dice, side, edge + side * dice.uniform(8, 16), z, tall=dice.chance(0.4))
        return
    if row == "field":
        yield from _greenery(dice, side, edge, z, (0.5, 14), 0.1)
        return
    if row != "park" and dice.chance(0.45):
        yield draw_building(
            dice, side, edge + side * dice.uniform(4, 12), z, tall=dice.chance(0.25)
        )
        yield from _greenery(dice, side, edge, z, (0.8, 3.5), 0.08, behind=end)
        return
    yield from _greenery(
        dice, side, edge, z, (0.8, 16), 0.45, behind=None if row == "park" else end
    )


def _greenery(
    dice: Dice,
    side: int,
    edge: float,
    z: tuple[float, float],
    reach: tuple[float, float],
    density: float,
    behind: float | None = None,
) -> Iterator[Thing]:
    """Trees and bushes beyond ``edge``, at distances of ``reach`` from it."""
    num = dice.poisson(density * (z[1] - z[0]) * (1 if z[0] < 60 else 0.5))
    for _ in range(num):
        s = edge + side * dice.uniform(*reach)
        draw = draw_tree if dice.chance(0.65) else draw_bush
        yield draw(dice, s, max(dice.uniform(*z), 3.0), behind)


def _pavement(dice: Dice, stage: Stage, side: int) -> Iterator[Thing]:
    """Lamps, signs, trees, people and small things between road and roadside."""
    road = stage.road
    kerb, wide = road.kerb(side), road.sidewalk(side)
    by_kerb = kerb + side * min(0.45, 0.3 + wide / 10)
    metal = draw_metal(dice)
    if dice.chance(0.8):
        z, spacing = dice.uniform(3, 25), dice.uniform(14, 34)
        while z < _SIGHT:
            if _is_clear(road, z):
                yield draw_lamp(dice, by_kerb, z, -side, metal)
            z += spacing
    for _ in range(dice.poisson(2.0 if side > 0 else 1.1)):
        z = dice.uniform(5, 60)
        if _is_clear(road, z):
            yield draw_sign(dice, kerb + side * dice.uniform(0.3, 0.9), z)
    if road.crossing and dice.chance(0.7):
        yield draw_traffic_light(dice, by_kerb, road.crossing[0 if side > 0 else 1] - 0.6, -side)
    reach = (0.4, max(wide - 0.3, 0.9))
    if wide > 2 and dice.chance(0.4):
        z, spacing = dice.uniform(4, 12), dice.uniform(7, 16)
        while z < 70:
            if _is_clear(road, z):
                yield draw_tree(dice, kerb + side * 0.8, z)
            z += spacing
    for _ in range(dice.poisson(1.6 if wide else 0.5)):
        z = dice.uniform(4, 45)
        if _is_clear(road, z):
            yield draw_crate(dice, kerb + side * dice.uniform(*reach), z)
    for _ in range(dice.poisson(_WALKERS[stage.setting])):
        z = dice.uniform(2, 7) ** 2
        s = kerb + side * dice.uniform(*reach)
        group = 1 if dice.chance(0.75) else dice.randrange(2, 5)
        for _ in range(group):
            yield draw_person(dice, s + dice.gauss(0, 0.4), max(3.5, z + dice.gauss(0, 0.6)))
    if road.zebra and dice.chance(0.5):
        for _ in range(dice.randrange(1, 4)):
            yield draw_person(dice, dice.uniform(road.left, road.right), dice.uniform(*road.zebra))


def _traffic(dice: Dice, stage: Stage) -> Iterator[Thing]:
    """Vehicles in lanes, at the kerb and on the crossing road."""
    road = stage.road
    for s, direction in road.lanes:
        ours = abs(s - stage.camera.lateral) < 1.5
        z = float(dice.uniform(8, 45) if ours else dice.uniform(-3, 40))
        while z < _SIGHT:
            if z > 3.5 and dice.random() < _TRAFFIC[stage.setting] * 0.6:
                yield draw_vehicle(dice, s + dice.gauss(0, 0.2), z, direction > 0)
            z += dice.uniform(9, 45)
    for side in (-1, 1):
        outer = [s for s, _ in road.lanes if np.sign(s) == side]
        room = abs(road.kerb(side) - (max(outer, key=abs) if outer else 0.0))
        if room < 3.2 or dice.chance(0.2):
            continue
        z = dice.uniform(2, 9)
        while z < 75:
            if dice.chance(0.7) and _is_clear(road, z, 6):
                yield draw_vehicle(
                    dice, road.kerb(side) - side * 1.05, max(z, 3.2), side > 0, parked=True
                )
            z += dice.uniform(5.8, 7.5)


def _is_clear(road: Road, z: float, length: float = 0.0) -> bool:
    """Return whether nothing crosses the road here."""
    for span in (road.crossing, road.zebra):
        if span and span[0] - 0.3 < z + length and z < span[1] + 0.3:
            return False
    return True


def _outside_crossing(road: Road, start: float, end: float) -> list[tuple[float, float]]:
    """The parts of a stretch that lie before and behind the crossing road, if long enough."""
    if road.crossing is None:
        return [(start, end)]
    low, high = road.crossing[0] - 3, road.crossing[1] + 3
    parts = [(start, min(end, low)), (max(start, high), end)]
    return [(a, b) for a, b in parts if b - a > 3]
