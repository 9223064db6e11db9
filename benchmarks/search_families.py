"""Families of learning curves for ``search.py``: what a trial of some parameters would score.

A problem is drawn from a family by a seed: which networks are good, where the best learning rate
and weight lie, how fast each learns. A training is a problem's curve with noise of its own: an
offset for its seed, and noise for each epoch. The sizes are those of this project's own sweeps on
CamVid and generated scenes (docs/results.md): 1 to 3 % of the score from epoch to epoch, 4 % from
seed to seed, 45 ± 10 % of the last score after epoch 1 of 27 and 71 ± 8 % after epoch 3.

The family ``camvid`` is not made up: its curves are those of 75 trainings (``search_curves.json``).
"""

from __future__ import annotations

import functools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS = 27
TEACHERS = ("resnet34", "resnet50", "mobilenet_v2")
STUDENTS = (
    "resnet18",
    "mobilenet_v2",
    "efficientnet-b0",
    "tu-lcnet_050",
    "timm-mobilenetv3_small_100",
)
TEMPERATURES = (1.0, 2.0, 4.0)
SPACE: dict[str, Any] = {
    "name": "search",
    "data": {"source": "roadscenes", "image_size": [32, 32]},
    "teacher": {"encoder": {"values": list(TEACHERS)}},
    "student": {"encoder": {"values": list(STUDENTS)}},
    "distill": {
        "pixel_kl": {
            "weight": {"min": 0.1, "max": 10.0, "distribution": "log_uniform_values"},
            "temperature": {"values": list(TEMPERATURES)},
        }
    },
    "train": {
        "epochs": EPOCHS,
        "lr": {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform_values"},
    },
    "tracking": {"wandb": {"mode": "off"}},
}
LR, WEIGHT, TEMPERATURE = "train.lr", "distill.pixel_kl.weight", "distill.pixel_kl.temperature"
TEACHER, STUDENT = "teacher.encoder", "student.encoder"


@dataclass(frozen=True)
class Family:
    """How problems of a kind are drawn.

    Attributes:
        epoch_noise: Standard deviation from epoch to epoch, as a share of the last score.
        seed_noise: The same from seed to seed.
        pace: Epochs until 63 % of the last score, of a network of middling score.
        spread: Standard deviation of the logarithm of a network's pace.
        link: How much slower a better network is: the logarithm of its pace per standard deviation
            of the score.
        rate_link: The logarithm of the pace per decade by which the learning rate is lower.
    """

    epoch_noise: float = 0.02
    seed_noise: float = 0.04
    pace: float = 1.8
    spread: float = 0.15
    link: float = 0.0
    rate_link: float = 0.3


FAMILIES = {
    "plain": Family(),
    "late": Family(pace=3.5, spread=0.4, link=0.3, rate_link=0.8),
    "noisy": Family(epoch_noise=0.06, seed_noise=0.08),
    "crossing": Family(pace=2.5, spread=0.2, link=0.7, rate_link=0.6),
    "camvid": Family(epoch_noise=0.03),
}
_CURVES = Path(__file__).with_name("search_curves.json")


class Problem(ABC):
    """One problem: what trainings would report, and how long they would take.

    Args:
        seed: Which of its family.
        family: The noise of its trainings.

    Attributes:
        best: The best score that any parameters reach on average.
    """

    best: float

    def __init__(self, seed: int, family: Family) -> None:
        draw = np.random.default_rng([seed, 1])
        self._family = family
        self._teacher = dict(zip(TEACHERS, draw.normal(0, 0.012, len(TEACHERS)), strict=True))
        self._temperature = dict(zip(TEMPERATURES, draw.normal(0, 0.006, 3), strict=True))
        self._seconds = {s: draw.uniform(0.5, 1.5) for s in STUDENTS}

    @abstractmethod
    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return the scores after each of the epochs, without noise; shape [epochs]."""

    def training(self, params: Mapping[str, Any], seed: int, number: int) -> np.ndarray:
        """Return the scores that trial ``number`` of run ``seed`` reports; shape [epochs]."""
        draw = np.random.default_rng([seed, 2, number])
        family, true = self._family, self.curve(params)
        offset = 1 + draw.normal(0, family.seed_noise) * 0.5
        noise = draw.normal(0, family.epoch_noise, EPOCHS) * true[-1]
        # Until the learning rate has warmed up, a score is mostly chance.
        early = draw.normal(0, 0.10, EPOCHS) * true * np.exp(-np.arange(EPOCHS) / 1.2)
        return np.asarray(np.clip(true * offset + noise + early, 0, 1))

    def seconds(self, params: Mapping[str, Any]) -> float:
        """Return how long an epoch of the pair takes; the mean of the networks is 1."""
        return self._seconds[params[STUDENT]]


class SyntheticProblem(Problem):
    """A problem whose networks, best rates and paces are drawn."""

    def __init__(self, seed: int, family: Family) -> None:
        super().__init__(seed, family)
        draw = np.random.default_rng([seed, 4])
        self._student = dict(zip(STUDENTS, draw.normal(0, 1, len(STUDENTS)), strict=True))
        self._pair = {(t, s): draw.normal(0, 0.008) for t in TEACHERS for s in STUDENTS}
        common = draw.uniform(-3, -2)  # of the best learning rates' logarithms
        self._lr = {s: common + draw.normal(0, 0.25) for s in STUDENTS}
        self._weight = draw.uniform(-0.7, 0.7)
        self._pace = {
            s: family.pace * math.exp(draw.normal(0, family.spread) + family.link * z)
            for s, z in self._student.items()
        }
        self.best = max(
            self._last_score(
                {
                    TEACHER: t,
                    STUDENT: s,
                    TEMPERATURE: k,
                    LR: 10 ** self._lr[s],
                    WEIGHT: 10**self._weight,
                }
            )
            for t in TEACHERS
            for s in STUDENTS
            for k in TEMPERATURES
        )

    def _last_score(self, params: Mapping[str, Any]) -> float:
        teacher, student = params[TEACHER], params[STUDENT]
        off_rate = math.log10(params[LR]) - self._lr[student]
        off_weight = math.log10(params[WEIGHT]) - self._weight
        # Too high a rate harms more than too low a one.
        rate = 0.11 * off_rate**2 * (1.6 if off_rate > 0 else 0.7)
        score = 0.5 + 0.03 * self._student[student] + self._teacher[teacher]
        score += self._pair[teacher, student] + self._temperature[params[TEMPERATURE]]
        return max(0.05, score - rate - 0.012 * off_weight**2)

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return stretched exponentials that end at the score of these parameters."""
        student = params[STUDENT]
        slower = self._lr[student] - math.log10(params[LR])
        pace = self._pace[student] * math.exp(self._family.rate_link * slower)
        epochs = np.arange(1, EPOCHS + 1)
        shape = 1 - np.exp(-((epochs / max(0.3, pace)) ** 0.6))
        return np.asarray(self._last_score(params) * shape / shape[-1])


class RealProblem(Problem):
    """A problem with the curves of real trainings.

    A sweep trained every student at five learning rates and three weights (``search_curves.json``
    says how). Between these, curves are interpolated. Which name a real student has here, and at
    which learning rates its curves lie, is drawn; so is what teacher and temperature change.
    """

    def __init__(self, seed: int, family: Family) -> None:
        super().__init__(seed, family)
        draw = np.random.default_rng([seed, 5])
        real = _real_curves()
        # The rates that are tried here reach half a decade further to both sides.
        self._log_lr = np.log10(real["lr"]) + draw.uniform(-0.5, 0.5)
        self._log_weight = np.log10(real["weight"]) + draw.uniform(-0.3, 0.3)
        order = draw.permutation(len(STUDENTS))
        self._curves = {s: real["curves"][i] for s, i in zip(STUDENTS, order, strict=True)}
        self.best = max(
            float(curves[..., -1].max()) + teacher + temperature
            for curves in self._curves.values()
            for teacher in self._teacher.values()
            for temperature in self._temperature.values()
        )

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return the curve of these parameters, beyond the rates tried that of the last one."""
        curves = self._curves[params[STUDENT]]
        at_lr = _places(self._log_lr, math.log10(params[LR]))
        at_weight = _places(self._log_weight, math.log10(params[WEIGHT]))
        mixed = sum(
            share * part * curves[row, column] for row, share in at_lr for column, part in at_weight
        )
        offset = self._teacher[params[TEACHER]] + self._temperature[params[TEMPERATURE]]
        return np.asarray(np.clip(mixed * (1 + offset / mixed[-1]), 0, 1))


def problem(family: str, seed: int) -> Problem:
    """Return a problem of a family."""
    kind = RealProblem if family == "camvid" else SyntheticProblem
    return kind(seed, FAMILIES[family])


def _places(grid: np.ndarray, at: float) -> list[tuple[int, float]]:
    """Return between which points of a grid a value lies, and how much of each it is."""
    place = float(np.interp(at, grid, np.arange(len(grid))))
    low = min(int(place), len(grid) - 2)
    return [(low, 1 - (place - low)), (low + 1, place - low)]


@functools.cache
def _real_curves() -> dict[str, np.ndarray]:
    """``lr`` and ``weight`` of the grid, and ``curves`` [students, rates, weights, epochs].

    Scores are means over three epochs: what one epoch has by chance is drawn anew.
    """
    read = json.loads(_CURVES.read_text(encoding="utf-8"))
    raw = np.asarray(read["miou"])
    padded = np.concatenate([raw[..., :1], raw, raw[..., -1:]], axis=-1)
    smooth = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
    return {"lr": np.array(read["lr"]), "weight": np.array(read["weight"]), "curves": smooth}
