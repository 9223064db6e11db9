"""The ``distill:`` section of a job: what the student learns from its teacher, and how strongly.

One class per loss, one field per loss in :class:`DistillSpec`. The losses themselves live in
``kdsweep/distill``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kdsweep.spec.base import Names, Spec, broken_rule

Taps = Annotated[Names, Field(min_length=1)]
TeacherMode = Literal["online", "frozen", "ema"]
RampName = Literal["linear", "cosine", "constant"]

# What becomes of the teacher; all else in the section concerns a student alone.
TEACHER_KEYS = ("teacher", "checkpoint", "ema_decay", "head_start_epochs")
_ARTICLE = {"frozen": "a frozen", "ema": "an averaged"}


class LossSpec(Spec):
    """What every distillation loss understands.

    Attributes:
        weight: λ of the term; 0 leaves the term out.
        ramp: Course of the weight from 0 to 1 over ``warmup_epochs``; ``null`` follows ``distill``.
        warmup_epochs: Length of the ramp, in epochs; ``null`` follows ``distill``.
        until_epoch: The term ends after so many epochs; ``null`` follows ``distill``.
    """

    min_classes: ClassVar[int] = 2  # with fewer the loss says nothing

    weight: NonNegativeFloat
    ramp: RampName | None = None
    warmup_epochs: NonNegativeFloat | None = None
    until_epoch: PositiveFloat | None = None

    def options(self) -> dict[str, Any]:
        """What the loss itself is built with."""
        return self.model_dump(exclude=set(LossSpec.model_fields))


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


class PixelKLSpec(LossSpec):
    """Per-pixel KL divergence of softened class probabilities.

    Attributes:
        temperature: T that divides the logits of both networks.
        stride: Logits are average-pooled to this stride first; 1 keeps them as they are.
        standardize: Bring both networks' logits to mean 0 and variance 1 over the classes first;
            published with temperature 2 and weight 9.
    """

    # Weight and temperature of CIRKD's and DIST's segmentation code.
    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    stride: PositiveInt = 1
    standardize: bool = False


class ChannelWiseSpec(LossSpec):
    """Per-channel KL divergence over all positions, on logits or features.

    Attributes:
        weight: λ of the term; 0 leaves the term out. The default is 50 without logits among the
            taps.
        temperature: T that divides the activations.
        taps: Where the activations are taken.
        stride: Logits are average-pooled to this stride first.
    """

    # All of the paper, for logits of stride 8.
    weight: NonNegativeFloat = 3.0
    temperature: PositiveFloat = 4.0
    taps: Taps = ("logits",)
    stride: PositiveInt = 8

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


class DistSpec(LossSpec):
    """Correlation of class probabilities, between classes and between pixels.

    Attributes:
        temperature: T that divides the logits of both networks.
        beta: Weight of the correlation over the classes of each pixel.
        gamma: Weight of the correlation over the pixels of each class.
        stride: Logits are average-pooled to this stride first; 1 keeps them as they are.
    """

    # The authors' code for Cityscapes, for logits of stride 8.
    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    beta: NonNegativeFloat = 1.0
    gamma: NonNegativeFloat = 1.0
    stride: PositiveInt = 8

    @model_validator(mode="after")
    def _has_a_part(self) -> DistSpec:
        _refuse_no_parts(beta=self.beta, gamma=self.gamma)
        return self


class DKDSpec(LossSpec):
    """KL divergence in two parts: labelled class against the rest, and within the rest.

    Attributes:
        temperature: T that divides the logits of both networks.
        alpha: Weight of the part of the labelled class.
        beta: Weight of the part of the other classes; 8 for CIFAR-100, 0.5 for ImageNet.
        stride: Logits are average-pooled to this stride first; 1 keeps them as they are.
    """

    # With two classes there is one other class, whose share of the rest is always 1.
    min_classes: ClassVar[int] = 3

    # The segmentation code of GDKD; the paper has values for classification alone.
    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    alpha: NonNegativeFloat = 1.0
    beta: NonNegativeFloat = 2.0
    stride: PositiveInt = 1

    @model_validator(mode="after")
    def _has_a_part(self) -> DKDSpec:
        _refuse_no_parts(alpha=self.alpha, beta=self.beta)
        return self


class MutualSpec(LossSpec):
    """Per-pixel KL divergence by which teacher and students learn from each other.

    Attributes:
        temperature: T that divides the logits of both networks.
        stride: Logits are average-pooled to this stride first; 1 keeps them as they are.
    """

    # The paper adds the divergence to the cross-entropy as it is.
    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    stride: PositiveInt = 1


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


class PairwiseSpec(LossSpec):
    """Squared distance of affinities between the nodes of an image.

    Attributes:
        taps: Where the features are taken.
        max_side: Features are average-pooled to at most so many nodes along each side.
    """

    weight: NonNegativeFloat = 10.0
    taps: Taps = ("encoder.4",)
    max_side: PositiveInt = 32


class IFVDSpec(LossSpec):
    """How far features vary within their class, as similarity to the class's prototype.

    Attributes:
        taps: Where the features are taken.
    """

    weight: NonNegativeFloat = 200.0
    taps: Taps = ("decoder",)


class CrossImageSpec(LossSpec):
    """Relations between the pixels of different images of a batch; needs ``batch_size`` ≥ 2.

    Attributes:
        temperature: τ that divides the similarities.
        taps: Where the features are taken.
        max_side: Features are average-pooled to at most so many nodes along each side.
    """

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 0.1
    taps: Taps = ("decoder",)
    max_side: PositiveInt = 12


class CorrelationSpec(LossSpec):
    """One minus the Pearson correlation of student and teacher features, channel by channel.

    Attributes:
        taps: Where the features are taken.
    """

    weight: NonNegativeFloat = 6.0
    taps: Taps = ("encoder.4",)


class MaskedSpec(LossSpec):
    """Generating the teacher's features from a part of the student's.

    Attributes:
        taps: Where the features are taken.
        mask_ratio: Share of the student's positions that are hidden.
    """

    weight: NonNegativeFloat = 0.08
    taps: Taps = ("encoder.3",)
    mask_ratio: float = Field(default=0.75, ge=0, lt=1)


class ReviewSpec(LossSpec):
    """Features of several stages, fused from deep to shallow, against the teacher's.

    Attributes:
        taps: Where the features are taken, from shallow to deep.
        width: Channels while fusing.
    """

    weight: NonNegativeFloat = 1.0
    taps: Taps = ("encoder.1", "encoder.2", "encoder.3", "encoder.4")
    width: PositiveInt = 64

    @model_validator(mode="after")
    def _goes_deeper(self) -> ReviewSpec:
        stages = [tap for tap in self.taps if tap.startswith("encoder.")]
        in_order = sorted(stages, key=lambda tap: (len(tap), tap))
        if stages != in_order:
            raise broken_rule(
                "stages that do not go from shallow to deep",
                at=("taps",),
                allowed=f"this order: {', '.join(in_order)}",
            )
        return self


class DistillSpec(Spec):
    """Which losses, from which teacher, and how their sum grows and ends.

    Attributes:
        pixel_kl, channel_wise, dist, dkd, mutual, hint, attention: A loss; ``null`` means not used,
            ``{}`` used with its defaults.
        pairwise, ifvd, cross_image, correlation, masked, review: A loss; ``null`` means not used,
            ``{}`` used with its defaults.
        teacher: What students learn from: ``online`` is the teacher as it trains beside them,
            ``ema`` the running average of its weights, ``frozen`` a teacher that has stopped
            training (after ``head_start_epochs``, or the one in ``checkpoint``).
        checkpoint: A trained teacher to begin with: the ``best`` folder of a trial whose student
            it was. ``null`` begins with the weights of ``teacher.encoder_weights``.
        ema_decay: Share of the old average kept at each step, for ``teacher: ema``.
        head_start_epochs: Epochs that the teacher trains alone before its students begin; they
            come on top of ``train.epochs``.
        ramp: Course of all weights from 0 to 1: ``linear``, ``cosine``, or ``constant`` (no ramp).
        warmup_epochs: Length of the ramp, in epochs of the student.
        until_epoch: Distillation ends after so many epochs of the student; ``null`` never.
        gate: ``lead`` scales all weights by how far the teacher is ahead of the student on the
            training batches, down to nothing while it is not ahead; ``null`` does not.
    """

    pixel_kl: PixelKLSpec | None = None
    channel_wise: ChannelWiseSpec | None = None
    dist: DistSpec | None = None
    dkd: DKDSpec | None = None
    mutual: MutualSpec | None = None
    hint: HintSpec | None = None
    attention: AttentionSpec | None = None
    pairwise: PairwiseSpec | None = None
    ifvd: IFVDSpec | None = None
    cross_image: CrossImageSpec | None = None
    correlation: CorrelationSpec | None = None
    masked: MaskedSpec | None = None
    review: ReviewSpec | None = None
    teacher: TeacherMode = "online"
    checkpoint: str | None = None
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    head_start_epochs: NonNegativeInt = 0
    ramp: RampName = "linear"
    warmup_epochs: NonNegativeFloat = 0.0
    until_epoch: PositiveFloat | None = None
    gate: Literal["lead"] | None = None

    @model_validator(mode="after")
    def _has_a_teacher_to_freeze(self) -> DistillSpec:
        if self.teacher == "frozen" and not self.head_start_epochs and self.checkpoint is None:
            raise broken_rule(
                "a frozen teacher that was never trained",
                at=("teacher",),
                allowed="frozen together with head_start_epochs ≥ 1 or a checkpoint",
                hint="head_start_epochs: 5 trains it first; checkpoint: experiments/latest/trials/"
                "0007/best takes a trained one",
            )
        return self

    @model_validator(mode="after")
    def _ends_after_it_has_begun(self) -> DistillSpec:
        for name, term in self.terms().items():
            ramp, warmup, until = self.course(term)
            if until is not None and ramp != "constant" and until <= warmup:
                raise broken_rule(
                    f"{name} ends after {until:g} epochs, before its warm-up of {warmup:g} epochs "
                    f"is over",
                    at=("until_epoch",) if term.until_epoch is None else (name, "until_epoch"),
                    allowed="until_epoch > warmup_epochs",
                )
        return self

    @model_validator(mode="after")
    def _mutual_learning_needs_a_learning_teacher(self) -> DistillSpec:
        if "mutual" in self.terms() and self.teacher != "online":
            raise broken_rule(
                f"mutual learning with {_ARTICLE[self.teacher]} teacher, which does not learn "
                f"from the student",
                at=("mutual",),
                allowed="mutual with teacher: online; pixel_kl with the others",
            )
        return self

    def course(self, term: LossSpec) -> tuple[RampName, float, float | None]:
        """Ramp, warm-up and end of a term: its own where it has them."""
        return (
            self.ramp if term.ramp is None else term.ramp,
            self.warmup_epochs if term.warmup_epochs is None else term.warmup_epochs,
            self.until_epoch if term.until_epoch is None else term.until_epoch,
        )

    def terms(self) -> dict[str, LossSpec]:
        """The terms with a weight above zero, by name, in the order of the fields."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {n: s for n, s in named if isinstance(s, LossSpec) and s.weight > 0}
