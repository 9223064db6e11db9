"""Which of the settings to try first a sweep has not followed yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kdsweep.config import JobList, Space

# Up to this many points are listed, so that none is trained twice.
MAX_LISTED_POINTS = 10_000

Params = Mapping[str, Any]


class Setting(NamedTuple):
    """What a draw has to follow.

    Attributes:
        number: Of the setting, from 1.
        params: The sampler's parameters that are given.
        untried: All points with these that may still be drawn; ``None`` if they are too many.
    """

    number: int
    params: Params
    untried: list[dict[str, Any]] | None


class TriedFirst:
    """The settings of a space, each to be followed once."""

    def __init__(self, space: Space | JobList) -> None:
        self._space = space
        self._followed: set[int] = set()

    def forget(self) -> None:
        """Follow all of them again: the data are others."""
        self._followed.clear()

    def follow(self, number: int | None) -> None:
        """A draw has followed this one, if any."""
        if number is not None:
            self._followed.add(number)

    def params(self, number: int | None) -> Params:
        """The parameters that a setting gives; none without a setting."""
        return {} if number is None else self._space.first[number - 1]

    def next(self, shared: Params, is_untried: Callable[[Params], bool]) -> Setting | None:
        """The next setting that a draw can follow in its cohort; ``None`` if there is none."""
        for number, setting in enumerate(self._space.first, 1):
            if number in self._followed or any(shared.get(k, v) != v for k, v in setting.items()):
                continue
            params = {**shared, **setting}
            untried = self._listed(params, is_untried)
            if untried is None or untried:
                return Setting(number, params, untried)
            if not shared:
                self._followed.add(number)  # points are never drawn again
        return None

    def _listed(
        self, params: Params, is_untried: Callable[[Params], bool]
    ) -> list[dict[str, Any]] | None:
        assert isinstance(self._space, Space)
        num = self._space.num_points_with(params)
        if num is None or num > MAX_LISTED_POINTS:
            return None
        return [point for point in self._space.points_with(params) if is_untried(point)]
