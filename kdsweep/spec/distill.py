"""The ``distill:`` section of a job: what the student learns from its teacher, and how strongly.

One class per loss, one field per loss in :class:`DistillSpec`. The losses themselves live in
``kdsweep/distill``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from kdsweep.spec.base import Names, Spec

Taps = Annotated[Names, Field(min_length=1)]


class LossSpec(Spec):
    """What every distillation loss understands.

    Attributes:
        weight: λ of the term; 0 leaves the term out.
    """

    weight: NonNegativeFloat


class PixelKLSpec(LossSpec):
    """Per-pixel KL divergence of softened class probabilities.

    Attributes:
        temperature: T that divides the logits of both networks.
        stride: Logits are average-pooled to this stride first; 1 keeps them as they are.
    """

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    stride: PositiveInt = 1


class ChannelWiseSpec(LossSpec):
    """Per-channel KL divergence over all positions, on logits or features.

    Attributes:
        temperature: T that divides the activations.
        taps: Where the activations are taken.
        stride: Logits are average-pooled to this stride first.
    """

    weight: NonNegativeFloat = 3.0
    temperature: PositiveFloat = 4.0
    taps: Taps = ("logits",)
    stride: PositiveInt = 8


class HintSpec(LossSpec):
    """Mean squared distance of projected student features from the teacher's.

    Attributes:
        taps: Where the features are taken.
        normalize: Divide each feature vector by its length first.
    """

    weight: NonNegativeFloat = 1.0
    taps: Taps = ("encoder.4",)
    normalize: bool = False


class AttentionSpec(LossSpec):
    """Squared distance of normalised spatial attention maps.

    Attributes:
        taps: Where the features are taken.
    """

    weight: NonNegativeFloat = 1000.0
    taps: Taps = ("encoder.3", "encoder.4")


class DistillSpec(Spec):
    """Which losses, and how their sum grows at the start.

    Attributes:
        pixel_kl, channel_wise, hint, attention: A loss; ``null`` means not used, ``{}`` used with
            its defaults.
        warmup_epochs: Length of the linear ramp from 0 to 1 on the sum, in epochs.
    """

    pixel_kl: PixelKLSpec | None = None
    channel_wise: ChannelWiseSpec | None = None
    hint: HintSpec | None = None
    attention: AttentionSpec | None = None
    warmup_epochs: NonNegativeFloat = 0.0

    def terms(self) -> dict[str, LossSpec]:
        """The terms with a weight above zero, by name, in the order of the fields."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {n: s for n, s in named if isinstance(s, LossSpec) and s.weight > 0}
