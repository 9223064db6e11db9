"""The losses and options that the contract is tested with, and the inputs.

A new loss joins with one line or more in ``CASES`` and its formula in ``EXPECTED`` of
``feature_formulas`` or ``logit_formulas``: a function of a :class:`grids.Scene` and the options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from grids import VOID, Scene

from kdsweep.config.losses import LossConfig
from kdsweep.distill import LOSSES, DistillationLoss, TapChannels, build_loss
from kdsweep.models import Activations

SEED = 1234  # of the parameters, and of every forward pass of a loss that draws random numbers


def spec_of(name: str) -> type[LossConfig]:
    """The config class of a loss."""
    return LOSSES.get(name)


@dataclass(frozen=True)
class Case:
    """A loss with its options, and which parts of the contract it makes no claim to.

    Attributes:
        name: The loss.
        options: What it is built with.
        zero_for_equal: A student that equals its teacher gets zero.
        repeats: The value stays when the batch is repeated.
        random: Every forward pass draws random numbers; :func:`evaluate` seeds them.
        min_batch: The fewest images that the loss is defined for.
        rel: Relative tolerance in float64.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    zero_for_equal: bool = True
    repeats: bool = True
    random: bool = False
    min_batch: int = 1
    rel: float = 1e-6

    def fits(self, grid: Grid) -> bool:
        """Whether the loss is defined on such inputs."""
        enough = grid.num_classes >= spec_of(self.name).min_classes
        return enough and grid.batch >= self.min_batch

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})"


CASES: list[Case] = [
    Case("pixel_kl", {"temperature": 1.0}),
    Case("pixel_kl", {"temperature": 3.0, "stride": 4}),
    Case("channel_wise", {"temperature": 4.0, "stride": 4}),
    Case("channel_wise", {"temperature": 2.0, "taps": ["encoder.2"]}),
    Case("channel_wise", {"temperature": 2.0, "taps": ["logits", "encoder.3"], "stride": 1}),
    Case("pixel_kl", {"temperature": 2.0, "standardize": True}),
    Case("pixel_kl", {"temperature": 1.0, "standardize": True, "stride": 3}),
    Case("dist", {"temperature": 1.0}),
    Case("dist", {"temperature": 4.0, "stride": 1, "beta": 2.0, "gamma": 0.5}),
    Case("dkd", {"temperature": 1.0}),
    Case("dkd", {"temperature": 0.5, "alpha": 2.0, "beta": 0.5}),
    Case("dkd", {"temperature": 4.0, "stride": 4, "alpha": 0.5, "beta": 8.0}),
    Case("mutual", {"temperature": 1.0}),
    Case("mutual", {"temperature": 2.0, "stride": 4}),
    Case("hint", {"taps": ["encoder.2"]}),
    Case("hint", {"taps": ["encoder.3", "encoder.1"], "normalize": True}),
    Case("attention", {"taps": ["encoder.1", "encoder.2"]}),
    Case("pairwise", {"taps": ["encoder.1", "encoder.3"]}),
    Case("pairwise", {"taps": ["encoder.1"], "max_side": 4}),
    Case("ifvd", {"taps": ["encoder.1"]}),
    Case("ifvd", {"taps": ["logits", "encoder.2"]}),
    Case("cross_image", {"temperature": 0.1, "taps": ["encoder.2"]}, min_batch=2),
    Case("cross_image", {"temperature": 0.5, "taps": ["logits"], "max_side": 5}, min_batch=2),
    Case("correlation", {"taps": ["encoder.2", "encoder.3"]}),
    Case("masked", {"taps": ["encoder.1"]}, zero_for_equal=False, repeats=False, random=True),
    Case("masked", {"taps": ["encoder.2"], "mask_ratio": 0.0}, zero_for_equal=False, random=True),
    Case("review", {"taps": ["encoder.1", "encoder.2", "encoder.3"]}, zero_for_equal=False),
    Case("review", {"taps": ["encoder.1"], "width": 3}, zero_for_equal=False),
]


@dataclass(frozen=True)
class Grid:
    """Sizes of a batch and of both networks' feature maps.

    Attributes:
        batch, num_classes: Their numbers.
        size: (height, width) of images and logits.
        student, teacher: (channels, height, width) of the map at each tap.
    """

    batch: int
    num_classes: int
    size: tuple[int, int]
    student: Mapping[str, tuple[int, int, int]]
    teacher: Mapping[str, tuple[int, int, int]]

    @property
    def same_strides(self) -> bool:
        """Whether the networks' maps have the same sizes."""
        return all(self.student[tap][1:] == self.teacher[tap][1:] for tap in self.student)

    @property
    def channels(self) -> TapChannels:
        """Channels at every tap and of the logits."""
        logits = {"logits": self.num_classes}
        return TapChannels(
            {tap: shape[0] for tap, shape in self.student.items()} | logits,
            {tap: shape[0] for tap, shape in self.teacher.items()} | logits,
        )


def taps(*shapes: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    """Maps by the names of encoder stages, which begin at 1."""
    return {f"encoder.{stage}": shape for stage, shape in enumerate(shapes, 1)}


EVEN = taps((4, 8, 12), (6, 4, 6), (8, 2, 3))
GRIDS: dict[str, Grid] = {
    "even": Grid(2, 4, (16, 24), EVEN, EVEN),
    # No stride divides the size, and the student is narrower or wider.
    "odd": Grid(
        3,
        13,
        (17, 23),
        taps((3, 9, 12), (4, 5, 6), (9, 3, 3)),
        taps((4, 9, 12), (6, 5, 6), (7, 3, 3)),
    ),
    # The networks' strides differ, the student's coarser at one tap and finer at another.
    "two_classes": Grid(
        2,
        2,
        (12, 10),
        taps((3, 6, 5), (5, 3, 3), (6, 3, 3)),
        taps((5, 6, 5), (4, 6, 5), (6, 2, 2)),
    ),
    "one_image": Grid(1, 3, (16, 8), taps((3, 8, 4), (5, 4, 2), (6, 2, 1)), EVEN),
}
VOIDS = ("none", "random", "image", "blocks")


def activations(
    maps: Mapping[str, tuple[int, int, int]], grid: Grid, seed: int, scale: float = 1.0
) -> Activations:
    """Normally distributed logits and features in float64."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(grid.batch, *shape, generator=rng, dtype=torch.float64) * scale

    logits_BKHW = draw(grid.num_classes, *grid.size)
    return Activations(logits_BKHW, {tap: draw(*shape) for tap, shape in maps.items()})


def pair(grid: Grid, seed: int, scale: float = 1.0) -> tuple[Activations, Activations]:
    """Activations of a student and of its teacher."""
    student = activations(grid.student, grid, 2 * seed, scale)
    return student, activations(grid.teacher, grid, 2 * seed + 1, scale)


def labels(grid: Grid, seed: int = 0, void: str = "random") -> torch.Tensor:
    """Class ids with a pattern of void; with more than three classes the last is absent."""
    rng = np.random.default_rng(seed)
    present = grid.num_classes - (grid.num_classes > 3)
    drawn = rng.integers(0, present, (grid.batch, *grid.size))
    if void == "random":
        drawn[rng.random(drawn.shape) < 0.3] = VOID
    elif void == "image" and grid.batch > 1:
        drawn[0] = VOID
    elif void == "blocks":  # whole cells of every grid, and parts of others
        height, width = grid.size
        drawn[:, : 3 * height // 5, : 4 * width // 5] = VOID
    elif void == "all":
        drawn[:] = VOID
    return torch.from_numpy(drawn)


def build(case: Case, grid: Grid) -> DistillationLoss:
    """The loss for a pair of networks, in float64."""
    torch.manual_seed(SEED)
    return build_loss(case.name, grid.channels, case.options).double()


def evaluate(
    loss: DistillationLoss, student: Activations, teacher: Activations, truth: torch.Tensor
) -> torch.Tensor:
    """The value, with the same random numbers each time."""
    torch.manual_seed(SEED)
    value: torch.Tensor = loss(student, teacher, truth)
    return value


def cast(a: Activations, dtype: torch.dtype) -> Activations:
    """Activations in another precision."""
    return Activations(a.logits_BKHW.to(dtype), {k: v.to(dtype) for k, v in a.taps.items()})


def leaves(a: Activations) -> list[torch.Tensor]:
    """All tensors, made to collect gradients."""
    return [t.requires_grad_() for t in (a.logits_BKHW, *a.taps.values())]


def scene(
    loss: DistillationLoss, student: Activations, teacher: Activations, truth: torch.Tensor
) -> Scene:
    """The same as arrays, for the formula."""

    def arrays(a: Activations) -> dict[str, np.ndarray]:
        return {"logits": a.logits_BKHW.numpy()} | {k: v.numpy() for k, v in a.taps.items()}

    learnt = {name: p.detach().numpy() for name, p in loss.state_dict().items()}
    return Scene(arrays(student), arrays(teacher), truth.numpy(), learnt)
