"""The ``teacher:`` and ``student:`` sections of a job: one segmentation network each."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

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


class ModelConfig(Config):
    """One segmentation network.

    Attributes:
        arch: Architecture by its segmentation-models-pytorch name (``unet``, ``fpn``, …).
        encoder: Encoder by its segmentation-models-pytorch name (``resnet18``,
            ``mobilenet_v2``, ``tu-convnext_tiny``, …).
        encoder_weights: ``null`` starts from random weights, ``imagenet`` from published ones.
        options: Further arguments of the architecture, for example
            ``{decoder_channels: [64, 32, 16]}``.
    """

    arch: str = "unet"
    encoder: str = "resnet18"
    encoder_weights: Literal["imagenet"] | None = None
    options: Options = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short name for tables: the encoder, with the architecture where it is not U-Net."""
        return self.encoder if self.arch == "unet" else f"{self.arch}-{self.encoder}"
