"""The ``teacher:`` and ``student:`` sections of a job: one segmentation network each."""

from __future__ import annotations

from typing import Any, Literal

from kdsweep.spec.base import Spec


class ModelSpec(Spec):
    """One segmentation network.

    Attributes:
        arch: Architecture by its segmentation-models-pytorch name (``unet``, ``fpn``, …).
        encoder: Encoder by its segmentation-models-pytorch name (``resnet18``, ``tu-convnext_tiny``, …).
        encoder_weights: ``None`` starts from random weights, ``imagenet`` from published ones.
        options: Further arguments of the architecture, for example ``{decoder_channels: [64, 32, 16]}``.
    """

    arch: str = "unet"
    encoder: str = "resnet18"
    encoder_weights: Literal["imagenet"] | None = None
    options: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """Short name for tables: the encoder, with the architecture where it is not U-Net."""
        return self.encoder if self.arch == "unet" else f"{self.arch}-{self.encoder}"
