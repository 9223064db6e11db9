"""The ``train:`` section of a job: losses on labels, optimisers, schedules, precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.metrics import BEST, RESIZED, Protocol, Select

ClassWeights = Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=2)]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["poly", "cosine", "cyclic", "constant"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


class CrossEntropyConfig(Config):
    """Cross-entropy, averaged over valid pixels.

    Attributes:
        weight: Weight of the term.
        label_smoothing: Share of the probability spread over all classes.
    """

    weight: PositiveFloat = 1.0
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class DiceConfig(Config):
    """Soft Dice loss over the classes present in the batch.

    Attributes:
        weight: Weight of the term.
    """

    weight: PositiveFloat = 1.0


class FocalConfig(Config):
    """Focal loss.

    Attributes:
        weight: Weight of the term.
        gamma: Exponent of the modulating factor.
    """

    weight: PositiveFloat = 1.0
    gamma: NonNegativeFloat = 2.0


class SupervisedConfig(Config):
    """Sum of losses against the labels.

    Attributes:
        ce, dice, focal: A loss, ``{}`` for its defaults; at least one of the three.
        class_weights: One positive weight per class for ``ce`` and ``focal``, or ``inverse_log``
            (computed from the training labels: 1 / ln(1.02 + frequency), ENet 1606.02147).
    """

    ce: CrossEntropyConfig | None = None
    dice: DiceConfig | None = None
    focal: FocalConfig | None = None
    class_weights: ClassWeights | Literal["inverse_log"] | None = None

    @model_validator(mode="after")
    def _terms_fit(self) -> SupervisedConfig:
        if self.ce is None and self.dice is None and self.focal is None:
            raise broken_rule(
                "no loss against the labels",
                allowed="at least one of ce, dice, focal",
                hint="write `ce: {}` for plain cross-entropy",
            )
        if self.class_weights is not None and self.ce is None and self.focal is None:
            raise broken_rule(
                "class weights have no effect on dice alone",
                at=("class_weights",),
                hint="add `ce: {}` or `focal: {}`, or take class_weights out",
            )
        return self


class NetworkTrainConfig(Config):
    """What differs for one network; what is left out or ``null`` follows ``train``.

    Attributes:
        lr: Peak learning rate.
        optimizer: The optimiser.
        weight_decay: Its weight decay.
        momentum: Its momentum, for ``sgd`` only.
        schedule: Course of the learning rate after its warm-up.
        warmup_epochs: Linear warm-up of the learning rate, in epochs.
        clip_norm: Gradient norm above which gradients are scaled down.
    """

    lr: PositiveFloat | None = None
    optimizer: OptimizerName | None = None
    weight_decay: NonNegativeFloat | None = None
    momentum: float | None = Field(default=None, ge=0, lt=1)
    schedule: ScheduleName | None = None
    warmup_epochs: NonNegativeFloat | None = None
    clip_norm: PositiveFloat | None = None


class TrainConfig(Config):
    """How the networks are trained.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Frames in one forward pass.
        accumulate: Forward passes per optimiser step.
        lr: Peak learning rate.
        optimizer: The optimiser.
        weight_decay: Its weight decay.
        momentum: Its momentum, for ``sgd`` only.
        schedule: Course of the learning rate after its warm-up.
        warmup_epochs: Linear warm-up of the learning rate, in epochs.
        clip_norm: Gradient norm above which gradients are scaled down; ``null`` never.
        supervised: Losses against the labels.
        unlabelled_ratio: Unlabelled frames for each labelled one of a batch, where the data have
            any and a student learns from them.
        precision: ``auto`` is bf16 autocast on CUDA devices that have it, else float32.
        channels_last: NHWC memory layout, faster on CPUs and GPUs alike; ``null`` means ``true``.
        compile: Compile the networks with ``torch.compile``, in one of its modes; ``true`` means
            ``default``. ``reduce-overhead`` and ``max-autotune`` use CUDA graphs, which CPUs do not
            have, and which are left out, with a warning, where batches are gathered
            (``accumulate``) or the teacher learns from its student (``mutual``).
        validate_at: Size at which networks are scored: ``resized`` compares with labels resized to
            ``data.image_size``, ``native`` enlarges the logits to the size of the label files and
            compares there, as papers do. The same in a whole sweep.
        select: Epoch whose student is kept and whose score a trial has: the ``best`` on validation
            frames, so its score is somewhat too high, or the ``last``. The same in a whole sweep.
        seed: Seed of initial weights, order of frames, augmentation and dropout.
        teacher: What differs for the teacher.
        student: What differs for the student.
    """

    epochs: PositiveInt
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    lr: PositiveFloat = 1e-3
    optimizer: OptimizerName = "adamw"
    weight_decay: NonNegativeFloat = 1e-2
    momentum: float = Field(default=0.9, ge=0, lt=1)
    schedule: ScheduleName = "poly"
    warmup_epochs: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = 5.0
    supervised: SupervisedConfig = Field(
        default_factory=lambda: SupervisedConfig(ce=CrossEntropyConfig())
    )
    unlabelled_ratio: PositiveFloat = 1.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    channels_last: bool | None = None
    compile: bool | CompileMode = False
    validate_at: Protocol = RESIZED
    select: Select = BEST
    seed: int = Field(default=0, ge=0)
    teacher: NetworkTrainConfig = Field(default_factory=NetworkTrainConfig)
    student: NetworkTrainConfig = Field(default_factory=NetworkTrainConfig)

    @property
    def unlabelled_batch_size(self) -> int:
        """Unlabelled frames in one forward pass."""
        return max(1, round(self.batch_size * self.unlabelled_ratio))

    @property
    def compile_mode(self) -> CompileMode | None:
        """The mode of ``torch.compile``; ``None`` where nothing is compiled."""
        if isinstance(self.compile, bool):
            return "default" if self.compile else None
        return self.compile
