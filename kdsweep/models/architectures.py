"""Segmentation networks by name, built by segmentation-models-pytorch."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kdsweep.errors import ConfigError, did_you_mean
from kdsweep.models.without_wandb import smp, timm

# DPT runs its decoder on tokens and has no feature maps to tap.
ARCHITECTURES: dict[str, type[nn.Module]] = {
    name: cls for name, cls in smp.MODEL_ARCHITECTURES_MAPPING.items() if name != "dpt"
}
_OWN_ARGUMENTS = {"encoder_name", "encoder_weights", "in_channels", "classes", "activation"}
_UNSUPPORTED_OPTIONS = {"aux_params", "kwargs", "self"}


def architecture_names() -> list[str]:
    """Names of all architectures, sorted."""
    return sorted(ARCHITECTURES)


def option_names(arch: str) -> list[str]:
    """Names of the options that architecture ``arch`` takes, sorted."""
    parameters = inspect.signature(ARCHITECTURES[arch].__init__).parameters
    return sorted(set(parameters) - _OWN_ARGUMENTS - _UNSUPPORTED_OPTIONS)


def option_defaults(arch: str) -> dict[str, Any]:
    """Defaults of the options that architecture ``arch`` takes."""
    parameters = inspect.signature(ARCHITECTURES[arch].__init__).parameters
    return {name: parameters[name].default for name in option_names(arch)}


def check_encoder_name(encoder: str) -> None:
    """Refuse an encoder that neither segmentation-models-pytorch nor timm has.

    Raises:
        ConfigError: No such encoder; path ``("encoder",)``.
    """
    if encoder.startswith("tu-"):
        name = encoder.removeprefix("tu-")
        if not timm.is_model(name):
            known = [f"tu-{model}" for model in timm.list_models()]
            raise ConfigError(
                "unknown timm encoder",
                path=("encoder",),
                value=encoder,
                allowed=known,
                hint=did_you_mean(encoder, known)
                or "python -c \"import timm; print(timm.list_models('*convnext*'))\" lists them",
            )
    elif encoder not in smp.encoders.encoders:
        raise ConfigError(
            "unknown encoder",
            path=("encoder",),
            value=encoder,
            allowed=[*smp.encoders.get_encoder_names(), "tu-<any timm model>"],
        )


def check_names(arch: str, encoder: str, options: Mapping[str, Any]) -> None:
    """Refuse names that do not exist, without building anything.

    Raises:
        ConfigError: Unknown architecture, encoder or option.
    """
    if arch not in ARCHITECTURES:
        raise ConfigError(
            "unknown architecture", path=("arch",), value=arch, allowed=architecture_names()
        )
    check_encoder_name(encoder)
    for name in options:
        if name not in option_names(arch):
            raise ConfigError(
                f"architecture {arch!r} has no such option",
                path=("options",),
                value=name,
                allowed=option_names(arch),
            )


def build_model(
    arch: str,
    encoder: str,
    num_classes: int,
    *,
    encoder_weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    encoder_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a segmentation network for RGB images; see ``build_network``.

    Its ``encoder_weights`` are ``None`` for random ones, or ``imagenet``; ``encoder_options`` are
    further arguments of a timm encoder.

    Returns:
        A module with ``encoder``, ``decoder`` and ``segmentation_head``.

    Raises:
        ConfigError: A name or option is not allowed, or the options do not fit together.
    """
    options = dict(options or {})
    check_names(arch, encoder, options)
    weights: str | bool | None = encoder_weights
    if encoder.startswith("tu-") and encoder_weights is not None:
        weights = True  # timm names the weights in the model name ("tu-resnet18.a1_in1k")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return ARCHITECTURES[arch](
                encoder_name=encoder,
                encoder_weights=weights,
                in_channels=3,
                classes=num_classes,
                **options,
                **(encoder_options or {}),
            )
    except (LookupError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        if torch.cuda.is_available() and isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise ConfigError(
            f"{arch} with encoder {encoder} cannot be built: {_first_line(error)}",
            path=("options",) if options else ("encoder",),
            value=options or encoder,
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
