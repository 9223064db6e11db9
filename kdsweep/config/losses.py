"""The keys of each distillation loss in ``distill:``, written here and nowhere else.

One class per loss, in the order of the guide. The losses themselves live in ``kdsweep/distill`` and
read their keys from these classes; other packages add some by entry points of the group
``kdsweep.losses``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from kdsweep.config.base import Names, broken_rule
from kdsweep.config.plugins import PluggedConfig, family
from kdsweep.registry import Registry

RampName = Literal["linear", "cosine", "constant"]
# Keys of ``distill:`` that are no losses.
OTHER_KEYS = (
    "teacher",
    "checkpoint",
    "ema_decay",
    "head_start_epochs",
    "ramp",
    "warmup_epochs",
    "until_epoch",
    "gate",
    "labelled_weight",
    "unlabelled_weight",
    "confidence_threshold",
)


class LossConfig(PluggedConfig):
    """What every distillation loss understands.

    Attributes:
        weight: λ of the term; 0 leaves the term out.
        ramp: Course of the weight from 0 to 1 over ``warmup_epochs``; ``null`` follows ``distill``.
        warmup_epochs: Length of the ramp, in epochs; ``null`` follows ``distill``.
        until_epoch: The term ends after so many epochs; ``null`` follows ``distill``.
    """

    min_classes: ClassVar[int] = 2  # with fewer the loss says nothing
    reciprocal: ClassVar[bool] = False  # whether the teacher learns from the student as well
    needs_labels: ClassVar[bool] = False  # whether it uses more of them than which are void

    weight: NonNegativeFloat
    ramp: RampName | None = None
    warmup_epochs: NonNegativeFloat | None = None
    until_epoch: PositiveFloat | None = None

    def options(self) -> dict[str, Any]:
        """The keys that only this loss has."""
        return self.model_dump(exclude=set(LossConfig.model_fields))


LOSSES: Registry[type[LossConfig]] = family(
    "distillation loss", "kdsweep.losses", LossConfig, OTHER_KEYS.__contains__
)

# Keys that several losses have.
Temperature = Annotated[
    PositiveFloat, Field(description="T that divides the logits of both networks.")
]
Stride = Annotated[
    PositiveInt,
    Field(description="Logits are average-pooled to this stride first; 1 keeps them as they are."),
]
Taps = Annotated[Names, Field(min_length=1, description="Where the features are taken.")]
MaxSide = Annotated[
    PositiveInt,
    Field(description="Features are average-pooled to at most so many nodes along each side."),
]


def _refuse_no_parts(**weights: float) -> None:
    """A term whose parts all weigh nothing would be a control by another name."""
    if not any(weights.values()):
        first, second = weights
        raise broken_rule(
            f"{first} and {second} are both 0, which leaves nothing to learn",
            at=(second,),
            allowed=f"{first} or {second} above 0",
            hint="weight: 0 leaves the whole term out",
        )


@LOSSES.register("pixel_kl")
class PixelKLConfig(LossConfig):
    """Per-pixel KL divergence of softened class probabilities."""

    implementation = "kdsweep.distill.pixel_kl:PixelKL"

    # Weight and temperature of CIRKD's and DIST's segmentation code.
    weight: NonNegativeFloat = 1.0
    temperature: Temperature = 1.0
    stride: Stride = 1
    standardize: bool = Field(
        default=False,
        description="Bring both networks' logits to mean 0 and variance 1 over the classes first; "
        "published with temperature 2 and weight 9.",
    )


@LOSSES.register("channel_wise")
class ChannelWiseConfig(LossConfig):
    """Per-channel KL divergence over all positions, on logits or features."""

    implementation = "kdsweep.distill.channel_wise:ChannelWise"

    # All of the paper, for logits of stride 8.
    weight: NonNegativeFloat = Field(
        default=3.0,
        description="λ of the term; 0 leaves the term out. The default is 50 without logits among "
        "the taps.",
    )
    temperature: PositiveFloat = Field(default=4.0, description="T that divides the activations.")
    taps: Annotated[Names, Field(min_length=1)] = Field(
        default=("logits",), description="Where the activations are taken."
    )
    stride: PositiveInt = Field(
        default=8, description="Logits are average-pooled to this stride first."
    )

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The paper's weight on features, where there are no logits among the taps."""
        taps = given.get("taps", ["logits"])
        if not isinstance(taps, list | tuple) or not all(isinstance(tap, str) for tap in taps):
            return {"weight": None}
        return {} if "logits" in taps else {"weight": 50.0}

    @model_validator(mode="before")
    @classmethod
    def _with_the_weight_of_its_taps(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "weight" in given:
            return given
        known = {k: v for k, v in cls.dependent_defaults(given).items() if v is not None}
        return {**given, **known}


@LOSSES.register("dist")
class DistConfig(LossConfig):
    """Correlation of class probabilities, between classes and between pixels."""

    implementation = "kdsweep.distill.dist:Dist"

    # The authors' code for Cityscapes, for logits of stride 8.
    weight: NonNegativeFloat = 1.0
    temperature: Temperature = 1.0
    beta: NonNegativeFloat = Field(
        default=1.0, description="Weight of the correlation over the classes of each pixel."
    )
    gamma: NonNegativeFloat = Field(
        default=1.0, description="Weight of the correlation over the pixels of each class."
    )
    stride: Stride = 8

    @model_validator(mode="after")
    def _has_a_part(self) -> DistConfig:
        _refuse_no_parts(beta=self.beta, gamma=self.gamma)
        return self


@LOSSES.register("dkd")
class DKDConfig(LossConfig):
    """KL divergence in two parts: labelled class against the rest, and within the rest."""

    implementation = "kdsweep.distill.dkd:DKD"
    needs_labels = True

    # With two classes there is one other class, whose share of the rest is always 1.
    min_classes: ClassVar[int] = 3

    # The segmentation code of GDKD; the paper has values for classification alone.
    weight: NonNegativeFloat = 1.0
    temperature: Temperature = 1.0
    alpha: NonNegativeFloat = Field(
        default=1.0, description="Weight of the part of the labelled class."
    )
    beta: NonNegativeFloat = Field(
        default=2.0,
        description="Weight of the part of the other classes; 8 for CIFAR-100, 0.5 for ImageNet.",
    )
    stride: Stride = 1

    @model_validator(mode="after")
    def _has_a_part(self) -> DKDConfig:
        _refuse_no_parts(alpha=self.alpha, beta=self.beta)
        return self


@LOSSES.register("mutual")
class MutualConfig(LossConfig):
    """Per-pixel KL divergence by which teacher and students learn from each other."""

    implementation = "kdsweep.distill.mutual:Mutual"
    reciprocal = True

    # The paper adds the divergence to the cross-entropy as it is.
    weight: NonNegativeFloat = 1.0
    temperature: Temperature = 1.0
    stride: Stride = 1


@LOSSES.register("hint")
class HintConfig(LossConfig):
    """Mean squared distance of projected student features from the teacher's."""

    implementation = "kdsweep.distill.hint:Hint"

    weight: NonNegativeFloat = 1.0
    taps: Taps = ("encoder.4",)
    normalize: bool = Field(
        default=False, description="Divide each feature vector by its length first."
    )


@LOSSES.register("attention")
class AttentionConfig(LossConfig):
    """Squared distance of normalised spatial attention maps."""

    implementation = "kdsweep.distill.attention:Attention"

    weight: NonNegativeFloat = 1000.0
    taps: Taps = ("encoder.3", "encoder.4")


@LOSSES.register("pairwise")
class PairwiseConfig(LossConfig):
    """Squared distance of affinities between the nodes of an image."""

    implementation = "kdsweep.distill.pairwise:Pairwise"

    weight: NonNegativeFloat = 10.0
    taps: Taps = ("encoder.4",)
    max_side: MaxSide = 32


@LOSSES.register("ifvd")
class IFVDConfig(LossConfig):
    """How far features vary within their class, as similarity to the class's prototype."""

    implementation = "kdsweep.distill.ifvd:IFVD"
    needs_labels = True

    weight: NonNegativeFloat = 200.0
    taps: Taps = ("decoder",)


@LOSSES.register("cross_image")
class CrossImageConfig(LossConfig):
    """Relations between the pixels of different images of a batch; needs ``batch_size`` ≥ 2."""

    implementation = "kdsweep.distill.cross_image:CrossImage"

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = Field(default=0.1, description="τ that divides the similarities.")
    taps: Taps = ("decoder",)
    max_side: MaxSide = 12


@LOSSES.register("correlation")
class CorrelationConfig(LossConfig):
    """One minus the Pearson correlation of student and teacher features, channel by channel."""

    implementation = "kdsweep.distill.correlation:Correlation"

    weight: NonNegativeFloat = 6.0
    taps: Taps = ("encoder.4",)


@LOSSES.register("masked")
class MaskedConfig(LossConfig):
    """Generating the teacher's features from a part of the student's."""

    implementation = "kdsweep.distill.masked:Masked"

    weight: NonNegativeFloat = 0.08
    taps: Taps = ("encoder.3",)
    mask_ratio: float = Field(
        default=0.75, ge=0, lt=1, description="Share of the student's positions that are hidden."
    )


@LOSSES.register("review")
class ReviewConfig(LossConfig):
    """Features of several stages, fused from deep to shallow, against the teacher's."""

    implementation = "kdsweep.distill.review:Review"

    weight: NonNegativeFloat = 1.0
    taps: Annotated[Names, Field(min_length=1)] = Field(
        default=("encoder.1", "encoder.2", "encoder.3", "encoder.4"),
        description="Where the features are taken, from shallow to deep.",
    )
    width: PositiveInt = Field(default=64, description="Channels while fusing.")

    @model_validator(mode="after")
    def _goes_deeper(self) -> ReviewConfig:
        stages = [tap for tap in self.taps if tap.startswith("encoder.")]
        in_order = sorted(stages, key=lambda tap: (len(tap), tap))
        if stages != in_order:
            raise broken_rule(
                "stages that do not go from shallow to deep",
                at=("taps",),
                allowed=f"this order: {', '.join(in_order)}",
            )
        return self
