"""A segmentation network that takes plain pixels and can be tapped.

Shape legend: B batch, H W image height and width, K classes, C channels, h w feature map size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kdsweep.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Activations(NamedTuple):
    """What one forward pass gives.

    Attributes:
        logits_BKHW: Class scores at the size of the image.
        taps: Feature maps by tap name, each of shape (B, C, h, w).
    """

    logits_BKHW: Tensor
    taps: dict[str, Tensor]

    def split(self, size: int) -> tuple[Activations, Activations]:
        """The activations of the first ``size`` images, and those of the others."""
        first = {name: tap[:size] for name, tap in self.taps.items()}
        others = {name: tap[size:] for name, tap in self.taps.items()}
        return Activations(self.logits_BKHW[:size], first), Activations(
            self.logits_BKHW[size:], others
        )

    def detach(self) -> Activations:
        """The same values cut off from the graph, in float32."""
        return Activations(
            self.logits_BKHW.detach(), {name: tap.detach() for name, tap in self.taps.items()}
        )


class SegmentationModel(Protocol):
    """What is used of a model of segmentation-models-pytorch."""

    encoder: Any
    decoder: Any
    segmentation_head: Any


class SegmentationNetwork(nn.Module):
    """A segmentation network with its normalisation in front and named feature taps.

    Normalisation lives inside, so that one batch of pixels serves a teacher and students whose
    encoders were pretrained with different statistics, and so that it ships with the student.

    Args:
        model: Network of segmentation-models-pytorch with encoder, decoder and head.
        num_classes: Channels of its logits.
        mean: Of the RGB channels, on a scale of 0 to 1.
        std: Likewise.
        taps: Names of the feature maps to return; see :meth:`tap_channels`.
    """

    model: SegmentationModel
    shift_C11: Tensor
    scale_C11: Tensor

    def __init__(
        self,
        model: SegmentationModel,
        num_classes: int,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        taps: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.num_classes = num_classes
        self.taps = tuple(dict.fromkeys(tap for tap in taps if tap != "logits"))
        # Buffers without persistence: they follow the module between devices, but weights files
        # hold only what was learned.
        scale = 255.0 * torch.tensor(std, dtype=torch.float32)
        self.register_buffer("shift_C11", 255.0 * torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer("scale_C11", (1.0 / scale).view(-1, 1, 1), False)

    def normalize(self, images_BHWC: Tensor) -> Tensor:
        """Pixels as the encoder wants them.

        Args:
            images_BHWC: uint8 RGB.

        Returns:
            float32 of shape (B, 3, H, W), in channels-last memory order.
        """
        images_BCHW = images_BHWC.permute(0, 3, 1, 2).float()
        return images_BCHW.sub_(self.shift_C11).mul_(self.scale_C11)

    def see_pixels_as(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        """Normalise pixels by other statistics than the encoder's published ones.

        Args:
            mean: By channel, on a scale of 0 to 1. Nothing changes where it is what it was, to five
                digits, or not known.
            std: Likewise.
        """
        if mean is None or std is None:
            return
        shift_C11 = 255.0 * torch.tensor(mean).view(-1, 1, 1).to(self.shift_C11)
        scale_C11 = 1.0 / (255.0 * torch.tensor(std).view(-1, 1, 1).to(self.scale_C11))
        if not torch.allclose(shift_C11, self.shift_C11, rtol=1e-5, atol=1e-5):
            self.shift_C11.copy_(shift_C11)
        if not torch.allclose(scale_C11, self.scale_C11, rtol=1e-5):
            self.scale_C11.copy_(scale_C11)

    def forward(self, images_BHWC: Tensor) -> Activations:
        """Run the network.

        Args:
            images_BHWC: uint8 RGB.

        Returns:
            Logits and the taps asked for.
        """
        features = self.model.encoder(self.normalize(images_BHWC))
        decoded_BChw = self.model.decoder(features)
        logits_BKHW = self.model.segmentation_head(decoded_BChw)
        return Activations(logits_BKHW, self._collect(features, decoded_BChw))

    def _collect(self, features: Sequence[Tensor], decoded_BChw: Tensor) -> dict[str, Tensor]:
        collected = {}
        for tap in self.taps:
            if tap == "decoder":
                collected[tap] = decoded_BChw
            else:
                # Feature 0 of an encoder is the image itself, so tap encoder.0 is feature 1.
                collected[tap] = features[int(tap.removeprefix("encoder.")) + 1]
        return collected

    def tap_channels(self) -> dict[str, int]:
        """Channels of every tap: ``encoder.0`` (first stage) …, ``decoder``, ``logits``."""
        stages = list(self.model.encoder.out_channels)[1:]
        # Some transformers (MiT) have no first stage and say so with zero channels.
        channels = {f"encoder.{i}": int(c) for i, c in enumerate(stages) if c > 0}
        channels["decoder"] = int(self.model.segmentation_head[0].in_channels)
        channels["logits"] = self.num_classes
        return channels

    @property
    def stride(self) -> int:
        """Image sizes must be multiples of this; 1 where any size will do."""
        if not getattr(self.model, "requires_divisible_input_shape", True):
            return 1
        return int(self.model.encoder.output_stride)

    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def check_taps(
    taps: Sequence[str], available: Iterable[str], who: str, path: tuple[str | int, ...]
) -> None:
    """Refuse taps that a network does not have.

    Raises:
        ConfigError: The first unknown tap, with its place in the job.
    """
    available = list(available)
    for index, tap in enumerate(taps):
        if tap not in available:
            raise ConfigError(
                f"the {who} has no such tap", path=(*path, index), value=tap, allowed=available
            )
