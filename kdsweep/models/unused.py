"""Leaving out parts of a model that its output does not depend on.

Encoders of segmentation-models-pytorch keep all their stages when only the first few are used
(``encoder_depth: 3``, or PSPNet as it comes). Such stages would be counted as parameters, be saved,
and ship: for a ResNet18 cut after three stages they are 94 % of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Large enough for every architecture (PAN's pyramid needs 128), two images for batch norm.
_PROBE_SIZE = (128, 128)


class Bypass(nn.Module):
    """Stands where a module stood whose result nobody uses."""

    def forward(self, first: Any, *_: Any, **__: Any) -> Any:
        """The first argument, as it is."""
        return first


def unused_modules(model: nn.Module, size: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Names of the modules that the model's output does not depend on.

    A module is unused if none of its parameters gets a gradient from the output. The model is
    probed on a copy without memory, which takes some tenths of a second whatever its size.

    Args:
        model: Takes float images (B, 3, H, W).
        size: (height, width) that it was built for, if it takes no other.
    """
    size = size or _PROBE_SIZE
    probe = copy.deepcopy(model).to("meta").train()
    expected = _run(probe, size)
    expected.sum().backward()
    idle = {name for name, parameter in probe.named_parameters() if parameter.grad is None}
    dropped: list[str] = []
    for name, module in probe.named_modules():
        inside = [f"{name}.{key}" for key, _ in module.named_parameters()]
        below = any(name.startswith(f"{parent}.") for parent in dropped)
        if name and inside and not below and idle.issuperset(inside):
            dropped.append(name)
    if not dropped:
        return ()
    drop_modules(probe, dropped)
    assert _run(probe, size).shape == expected.shape
    return tuple(dropped)


def drop_modules(model: nn.Module, names: Iterable[str]) -> None:
    """Let the inputs of some modules bypass them, in place."""
    for name in names:
        _bypass(model, name)


def _run(probe: nn.Module, size: tuple[int, int]) -> Tensor:
    output: Tensor = probe(torch.zeros((2, 3, *size), device="meta"))
    return output


def _bypass(model: nn.Module, name: str) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, Bypass())
