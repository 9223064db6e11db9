"""Which encoders there are, how large they are, and whether their weights are at hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from kdsweep.errors import ConfigError
from kdsweep.models.pretrained import are_here, has_weights
from kdsweep.models.without_wandb import smp, timm

# So many are counted where they are listed: each has to be built.
MOST_COUNTED = 40


@dataclass(frozen=True)
class Encoder:
    """One encoder.

    Attributes:
        name: As ``encoder`` takes it.
        weights: Names of its published weights, and whether they can be had without a network.
        params: Its parameters; ``None`` where they were not counted.
        usable: Whether a network can be built on it; ``None`` where that was not tried.
    """

    name: str
    weights: dict[str, bool]
    params: int | None = None
    usable: bool | None = None


def encoders(word: str = "") -> list[Encoder]:
    """Return what is known of the encoders of :func:`encoder_names`, without a network.

    Raises:
        ConfigError: None is called so.
    """
    names = encoder_names(word)
    if not names:
        raise ConfigError(
            "no encoder has this in its name",
            value=word,
            allowed=encoder_names() + encoder_names("tu-"),
        )
    found = []
    for name in names:
        weights = published_weights(name)
        if len(names) > MOST_COUNTED:
            found.append(Encoder(name, weights))
        else:
            params = count_parameters(name)
            found.append(Encoder(name, weights, params, params is not None))
    return found


def encoder_names(word: str = "") -> list[str]:
    """Return encoders by name: segmentation-models-pytorch's, and timm's (``tu-…``) for a word.

    Args:
        word: What the names have in them, in upper or lower case.
    """
    names = list(smp.encoders.get_encoder_names())
    if word:
        names += [f"tu-{name}" for name in timm.list_models()]
    return [name for name in names if word.lower() in name.lower()]


def published_weights(name: str) -> dict[str, bool]:
    """Return the names of an encoder's published weights, and whether they are at hand.

    Files are looked for, and no network is asked.
    """
    if name.startswith("tu-"):
        names = ["imagenet"] if has_weights(name, "imagenet") else []
    else:
        names = list(smp.encoders.encoders[name]["pretrained_settings"])
    return {weights: are_here(name, weights) for weights in names}


def count_parameters(name: str) -> int | None:
    """Return how many parameters an encoder has; takes 0.02 to 0.5 s.

    Returns:
        ``None`` where segmentation-models-pytorch cannot make an encoder of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                with torch.device("meta"):
                    encoder = smp.encoders.get_encoder(name, weights=None)
            except RuntimeError:  # a few read values while they are built
                encoder = smp.encoders.get_encoder(name, weights=None)
        except Exception:  # whatever a network raises that has no stages to tap
            return None
    return sum(parameter.numel() for parameter in encoder.parameters())
