"""A small space and job, and ways to draw from spaces."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

SPACE = """\
# Which pair?
name: backbones
data: {source: roadscenes, image_size: [64, 96]}
teacher: {encoder: {values: [resnet18, resnet34]}}
student:
  encoder: {values: [resnet18, mobilenet_v2]}
distill:
  pixel_kl:
    weight: {min: 0.1, max: 10, distribution: log_uniform_values}
    temperature: {values: [1, 2, 4]}
train:
  epochs: 4
  lr: {min: 1e-4, max: 1e-2, distribution: log_uniform_values}
sweep: {trials: 8}
"""

JOB: dict[str, Any] = {
    "data": {"source": "camvid", "image_size": [64, 96]},
    "teacher": {"encoder": "resnet34"},
    "student": {"encoder": "resnet18"},
    "train": {"epochs": 2},
}


class RandomSuggest:
    """Draws evenly, as Optuna's random sampler does."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.random.choice(list(choices))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        assert not (log and step), "Optuna has no such distribution"
        if log:
            return low * (high / low) ** self.random.random()
        if step:
            return low + step * self.random.randint(0, round((high - low) / step))
        return self.random.uniform(low, high)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        assert not (log and step != 1), "Optuna has no such distribution"
        return self.random.randrange(low, high + 1, step)


class FixedSuggest:
    """Draws what it is given, under the names it is given."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        assert self.params[name] in choices
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, **kwargs: Any) -> float:
        assert low <= self.params[name] <= high
        return self.params[name]

    suggest_int = suggest_float
