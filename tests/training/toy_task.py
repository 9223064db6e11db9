"""Tiny networks, and a toy task whose batches lie in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from kdsweep.distill import DistillationObjective, Ramp, TapChannels, build_objective
from kdsweep.models import build_network, inspect_network
from kdsweep.pulse import Pulse
from kdsweep.training.average import RunningAverage
from kdsweep.training.engine import Engine, UnlabelledSource
from kdsweep.training.learner import Learner
from kdsweep.training.optimizers import Schedule, build_optimizer
from kdsweep.training.report import EpochReport
from kdsweep.training.step import StepSettings
from kdsweep.training.supervised import SupervisedLoss
from kdsweep.training.teacher import Teacher

NUM_CLASSES = 3
EPOCHS = 2
# EfficientNet drops paths at random: the tests then see whether random streams are kept apart.
TEACHER, STUDENT = "resnet18", "efficientnet-b0"
SMALL = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
KL = {"pixel_kl": {"weight": 1.0, "temperature": 2.0}}
ALL = KL | {
    "channel_wise": {"weight": 3.0, "temperature": 4.0, "stride": 8},
    "hint": {"weight": 0.1, "taps": ["encoder.2"]},
    "attention": {"weight": 10.0, "taps": ["encoder.1", "encoder.2"]},
}


class Memory:
    """Batches of a learnable toy task: the class is the brightest colour channel."""

    def __init__(self, num_batches: int = 3, batch_size: int = 2, void: float = 0.1) -> None:
        rng = torch.Generator().manual_seed(0)
        count = num_batches * batch_size
        coarse = torch.randint(0, NUM_CLASSES, (count, 4, 4), generator=rng)
        labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
        noise = torch.randint(0, 120, (*labels.shape, 3), generator=rng)
        images = (noise + 120 * torch.nn.functional.one_hot(labels, 3)).to(torch.uint8)
        labels[torch.rand(labels.shape, generator=rng) < void] = 255
        self.batches = [
            (
                images[i : i + batch_size],
                labels[i : i + batch_size].to(torch.uint8),
                torch.arange(i, i + batch_size),
            )
            for i in range(0, count, batch_size)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int) -> Iterator:
        return iter(self.batches[epoch % len(self) :] + self.batches[: epoch % len(self)])

    def __iter__(self) -> Iterator:
        return iter(self.batches)


def learner(
    encoder: str, role: str, lr: float, objective: DistillationObjective | None = None
) -> Learner:
    taps = ["encoder.1", "encoder.2"]
    seed = 1 if role == "teacher" else 2
    network = build_network("unet", encoder, NUM_CLASSES, options=SMALL, taps=taps, seed=seed)
    modules = [network] if objective is None else [network, objective]
    return Learner(
        network,
        build_optimizer("adamw", modules, lr=lr, weight_decay=1e-2),
        Schedule("poly", lr, EPOCHS),
        clip_norm=5.0,
        objective=objective,
    )


@cache
def tap_channels() -> TapChannels:
    student, teacher = (
        inspect_network("unet", encoder, NUM_CLASSES, options=SMALL).tap_channels()
        for encoder in (STUDENT, TEACHER)
    )
    return TapChannels(student, teacher)


def objective(
    terms: dict, ramp: Ramp | None = None, gate: bool = False, **parts: float
) -> DistillationObjective:
    channels = tap_channels()
    torch.manual_seed(5)
    ramps = {name: ramp or Ramp() for name in terms}
    return build_objective(terms, channels, ramps=ramps, gate=gate, **parts)


def make_teacher(
    lr: float, *, ema: bool = False, ema_decay: float = 0.99, frozen: bool = False, **options: Any
) -> Teacher:
    trained = learner(TEACHER, "teacher", lr)
    average = RunningAverage(copy.deepcopy(trained.network), ema_decay) if ema else None
    return Teacher(trained, average=average, frozen=frozen, **options)


def engine(
    students: list[dict | None],
    *,
    teacher: bool | dict[str, Any] = True,
    batches: Memory | None = None,
    accumulate: int = 1,
    lr: float = 1e-3,
    keep: tuple[int, ...] = (),
    unlabelled: UnlabelledSource | None = None,
    pulse: Pulse | None = None,
    **objective_of: Any,
) -> Engine:
    batches = batches or Memory()
    return Engine(
        teacher=make_teacher(lr, **(teacher if isinstance(teacher, dict) else {}))
        if teacher is not False
        else None,
        students=[
            learner(
                STUDENT, "student", lr, None if terms is None else objective(terms, **objective_of)
            )
            for terms in students
        ],
        batches=batches,
        validation=batches,
        settings=StepSettings(SupervisedLoss(), None, "cpu", seed=3),
        num_classes=NUM_CLASSES,
        epochs=EPOCHS,
        accumulate=accumulate,
        keep=keep,
        unlabelled=unlabelled,
        pulse=pulse,
    )


def timeless(report: EpochReport) -> dict[str, float]:
    return {k: v for k, v in report.metrics.items() if not k.startswith("time/")}


def weights(made: Engine, index: int = 0) -> dict[str, torch.Tensor]:
    return made.students[index].weights()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)
