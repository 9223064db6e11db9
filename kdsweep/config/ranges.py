"""The kinds of ranges: what can be drawn from each, by whom, and what its ends and middle are."""

from __future__ import annotations

import bisect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from kdsweep.errors import ConfigPath

Scalar = str | int | float | bool | None
Number = int | float
Option = Any
"""What a range takes: the index of a choice, or a number."""


class Suggest(Protocol):
    """The part of an Optuna trial that draws values."""

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Any:
        """One of ``choices``."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from ``low`` to ``high``."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number from ``low`` to ``high``."""


class Given:
    """Answers with parameters that were drawn before, by their names for the sampler."""

    def __init__(self, params: Mapping[str, Scalar]) -> None:
        self._params = params

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Any:
        """The value that was drawn."""
        return self._params[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> Any:
        """The value that was drawn."""
        return self._params[name]

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> Any:
        """The value that was drawn."""
        return self._params[name]


@dataclass(frozen=True)
class Range(ABC):
    """A set of options, one of which is drawn.

    Attributes:
        name: Name of the sampler's parameter: the dotted path, with the index of the choice for
            each choice around it (``distill[1].pixel_kl.weight``).
        path: Where the range stands in the document.
    """

    name: str
    path: ConfigPath

    @abstractmethod
    def draw(self, suggest: Suggest) -> Option:
        """Let a sampler draw an option."""

    @abstractmethod
    def param(self, option: Option) -> tuple[str, Scalar]:
        """Name and value of the sampler's parameter; drawing this value gives ``option``."""

    @abstractmethod
    def find(self, value: object) -> Option | None:
        """Return the option that tables show as ``value``; ``None`` if there is none."""

    @abstractmethod
    def show(self, option: Option) -> Scalar:
        """The option as tables show it."""

    @abstractmethod
    def num_options(self) -> int | None:
        """Return how many options there are; ``None`` if infinitely many."""

    @abstractmethod
    def options(self) -> Iterator[Option]:
        """All options, in order; only for finite ranges."""

    @abstractmethod
    def corners(self) -> Sequence[Option]:
        """Every choice, or both ends."""

    @abstractmethod
    def middle(self) -> Option:
        """The most central option."""


@dataclass(frozen=True)
class Choice(Range):
    """One of several values or sub-trees.

    Attributes:
        nodes: The compiled sub-trees.
        labels: One scalar for each; the value itself where it is a scalar.
        probabilities: How likely each is drawn; ``None`` leaves that to the sampler.
    """

    nodes: tuple[Any, ...]
    labels: tuple[Scalar, ...]
    probabilities: tuple[float, ...] | None = None

    def draw(self, suggest: Suggest) -> Option:
        """Samplers know no prior over categories, so a weighted choice is drawn as a quantile."""
        if self.probabilities is None:
            return self.labels.index(suggest.suggest_categorical(self.name, self.labels))
        quantile = suggest.suggest_float(self._quantile, 0.0, 1.0)
        borders = list(itertools.accumulate(self.probabilities[:-1]))
        return bisect.bisect_right(borders, quantile)

    def param(self, option: Option) -> tuple[str, Scalar]:
        """The label, or the middle of the choice's quantiles."""
        if self.probabilities is None:
            return self.name, self.labels[option]
        return self._quantile, sum(self.probabilities[:option]) + self.probabilities[option] / 2

    def find(self, value: object) -> Option | None:
        """The choice with this label; ``1`` and ``1.0`` are the same, ``1`` and ``true`` not."""
        alike = (isinstance(label, bool) == isinstance(value, bool) for label in self.labels)
        pairs = enumerate(zip(self.labels, alike, strict=True))
        return next((index for index, (label, a) in pairs if a and label == value), None)

    @property
    def _quantile(self) -> str:
        return f"{self.name}.quantile"

    def show(self, option: Option) -> Scalar:
        """The label."""
        return self.labels[option]

    def num_options(self) -> int:
        """The number of choices."""
        return len(self.nodes)

    def options(self) -> Iterator[Option]:
        """The choices in the order of the file."""
        return iter(range(len(self.nodes)))

    def corners(self) -> Sequence[Option]:
        """Every choice."""
        return range(len(self.nodes))

    def middle(self) -> Option:
        """The most probable choice, the median of numbers, or else the first choice."""
        if self.probabilities is not None:
            return self.probabilities.index(max(self.probabilities))
        if all(is_number(label) for label in self.labels):
            ranked = sorted((label, index) for index, label in enumerate(self.labels))
            return ranked[(len(ranked) - 1) // 2][1]
        return 0


@dataclass(frozen=True)
class Interval(Range):
    """The numbers between two ends.

    Attributes:
        low, high: The ends; both can be drawn.
        step: Only multiples of it, ``None`` for all numbers.
        log: Even in the logarithm.
        whole: Whole numbers only.
    """

    low: Number
    high: Number
    step: Number | None
    log: bool
    whole: bool

    def draw(self, suggest: Suggest) -> Option:
        """A logarithmic range with steps is drawn without them and then rounded to them."""
        if self.whole and not (self.log and self.step != 1):
            return suggest.suggest_int(
                self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log
            )
        step = None if self.log or self.step is None else float(self.step)
        number = suggest.suggest_float(
            self.name, float(self.low), float(self.high), step=step, log=self.log
        )
        return self._rounded(number)

    def param(self, option: Option) -> tuple[str, Scalar]:
        """The number itself."""
        return self.name, option

    def show(self, option: Option) -> Scalar:
        """The number itself."""
        number: Number = option
        return number

    def find(self, value: object) -> Option | None:
        """The number, if it can be drawn."""
        if not is_number(value):
            return None
        number: Number = value  # type: ignore[assignment]
        if not self.low <= number <= self.high or self._rounded(number) != number:
            return None
        return int(number) if self.whole else float(number)

    def num_options(self) -> int | None:
        """The number of steps from end to end."""
        if self.step is None:
            return None
        return _multiple_at(self.high, self.step) - _multiple_at(self.low, self.step) + 1

    def options(self) -> Iterator[Option]:
        """All multiples of the step."""
        assert self.step is not None, "an interval without steps has infinitely many options"
        first = _multiple_at(self.low, self.step)
        return (self._multiple(first + index) for index in range(self.num_options() or 0))

    def corners(self) -> Sequence[Option]:
        """Both ends."""
        return (self.low, self.high)

    def middle(self) -> Option:
        """The arithmetic middle, or the geometric one of a logarithmic range."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        # Six digits: 0.001 reads better than 0.0010000000000000002 and trains as well.
        return self._rounded(min(max(float(f"{middle:.6g}"), self.low), self.high))

    def _rounded(self, number: Number) -> Number:
        if self.step is None:
            return number
        return self._multiple(_multiple_at(number, self.step))

    def _multiple(self, count: int) -> Number:
        # In decimals, so that three steps of 0.1 are 0.3.
        exact = Decimal(str(self.step)) * count
        return int(exact) if self.whole else float(exact)


def _multiple_at(number: Number, step: Number) -> int:
    return round(Decimal(str(number)) / Decimal(str(step)))


def is_number(value: object) -> bool:
    """Return whether ``value`` is a finite number, and not ``true`` or ``false``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
