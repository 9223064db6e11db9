"""The ``teacher:`` and ``student:`` sections of a job: one segmentation network each."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Annotated, Any, Literal

from annotated_types import DocInfo
from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from kdsweep.config.base import Config, broken_rule


def _plain(value: Any) -> Any:
    """``value`` with tuples as lists; anything that YAML cannot write is an error."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    raise broken_rule(
        f"options hold {value!r}, which is no plain value",
        allowed="texts, finite numbers, true, false, null, lists and mappings of these",
    )


# A job is written to job.yaml and read again: what comes back must equal what was written.
Options = Annotated[dict[str, Any], BeforeValidator(_plain)]


WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
PACKAGE = "package:"
# A file's path becomes absolute when a job or space is read.
WeightsFile = Annotated[
    str,
    StringConstraints(pattern=r"^package:[\w.-]+$|^[^\n]*\.(safetensors|pth|pt|bin)$"),
    DocInfo("a file (.safetensors, .pth, .pt or .bin) or package:NAME"),
]
_Shares = Annotated[tuple[float, float, float], Field(strict=False)]
_Spreads = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], Field(strict=False)]


class PixelsConfig(Config):
    """What RGB pixels become before an encoder sees them, on a scale of 0 to 1.

    Attributes:
        mean: Is taken from each channel.
        std: Each channel is divided by it afterwards.
    """

    mean: _Shares
    std: _Spreads


class ModelConfig(Config):
    """One segmentation network.

    Attributes:
        arch: Architecture by its segmentation-models-pytorch name (``unet``, ``fpn``, …).
        encoder: Encoder by its segmentation-models-pytorch name (``resnet18``,
            ``mobilenet_v2``, ``tu-convnext_tiny``, …).
        encoder_weights: ``null`` starts from random weights, ``imagenet`` from published ones, a
            file from those in it, and ``package:NAME`` from the file that an installed package
            of this name brings.
        encoder_pixels: How pixels are normalised for the encoder; ``null`` as its published
            weights want them.
        options: Further arguments of the architecture, for example
            ``{decoder_channels: [64, 32, 16]}``.
    """

    arch: str = "unet"
    encoder: str = "resnet18"
    encoder_weights: Literal["imagenet"] | WeightsFile | None = None
    encoder_pixels: PixelsConfig | None = None
    options: Options = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a key that came late: old checkpoints, ledgers and cards do without it."""
        plain: dict[str, Any] = dump(self)
        if plain.get("encoder_pixels") is None:
            plain.pop("encoder_pixels", None)
        return plain

    @property
    def weights_name(self) -> str | None:
        """``encoder_weights`` for other machines: of a file its name alone."""
        return None if self.encoder_weights is None else PurePath(self.encoder_weights).name

    @property
    def label(self) -> str:
        """Short name for tables: the encoder, with the architecture where it is not U-Net."""
        return self.encoder if self.arch == "unet" else f"{self.arch}-{self.encoder}"
