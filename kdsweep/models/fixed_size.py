"""Encoders of timm that are built for one size of image: which size they have to be told."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from kdsweep.errors import ConfigError
from kdsweep.models.without_wandb import timm

Size = tuple[int, int]

_KNOWN: dict[tuple[str, Size], dict[str, Any]] = {}


def size_options(encoder: str, image_size: Size | None) -> dict[str, Any]:
    """Return what an encoder must be told when it is built, to take images of a size.

    Encoders that take them as they come are told nothing, so that they stay what they always were.

    Args:
        encoder: Encoder by name.
        image_size: (height, width) in pixels; ``None`` where it is not known.

    Raises:
        ConfigError: timm cannot build it for such images; path ``("encoder",)``.
    """
    if image_size is None or not encoder.startswith("tu-"):
        return {}
    key = (encoder, (int(image_size[0]), int(image_size[1])))
    if key not in _KNOWN:
        _KNOWN[key] = _look(*key)
    return dict(_KNOWN[key])


def _look(encoder: str, size: Size) -> dict[str, Any]:
    name = encoder.removeprefix("tu-")
    made_for = timm.get_pretrained_cfg(name)
    if made_for is None or not made_for.fixed_input_size or _problem(name, size, {}) is None:
        return {}
    told: dict[str, Any] = {"img_size": size}
    problem = _problem(name, size, told)
    if problem is None:
        return told
    height, width = made_for.input_size[1:]
    why = f" ({problem})" if isinstance(problem, AssertionError) and str(problem) else ""
    raise ConfigError(
        f"this encoder cannot be built for images of {size[0]}×{size[1]}{why}",
        path=("encoder",),
        value=encoder,
        allowed=f"with image_size: [{height}, {width}], for which it was made",
        hint="take it out, or set data.image_size to that",
    )


def _problem(name: str, size: Size, told: dict[str, Any]) -> Exception | None:
    """What is wrong with images of a size, tried on memory-less tensors."""
    with warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            model = timm.create_model(name, features_only=True, **told).eval()
        except Exception as error:  # timm's own share no base class
            # Without a size that is for whoever builds the network in memory to say.
            return error if told else None
        try:
            model(torch.zeros(1, 3, *size))
        except Exception as error:
            return error
    return None
