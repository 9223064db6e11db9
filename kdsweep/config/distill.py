"""The ``distill:`` section of a job: what the student learns from its teacher, and how strongly.

The keys of each loss are in :mod:`kdsweep.config.losses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    create_model,
    model_validator,
)

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.losses import LOSSES, LossConfig, RampName

TeacherMode = Literal["online", "frozen", "ema", "self"]

# What becomes of the teacher; all else in the section concerns a student alone.
TEACHER_KEYS = ("teacher", "checkpoint", "ema_decay", "head_start_epochs")
# What concerns batches that have frames without labels as well.
PART_KEYS = ("labelled_weight", "unlabelled_weight", "confidence_threshold")
_ARTICLE = {"frozen": "a frozen", "ema": "an averaged", "self": "no"}


if TYPE_CHECKING:
    _Losses = Config
else:
    _Losses = create_model(
        "_Losses",
        __base__=Config,
        **{
            name: (
                config | None,
                Field(
                    default=None,
                    description="A loss; ``null`` means not used, ``{}`` used with its defaults.",
                ),
            )
            for name, config in LOSSES.members().items()
        },
    )


class DistillConfig(_Losses):
    """Which losses, from which teacher, and how their sum grows and ends.

    Attributes:
        teacher: What students learn from: ``online`` is the teacher as it trains beside them,
            ``ema`` the running average of its weights, ``frozen`` a teacher that has stopped
            training (after ``head_start_epochs``, or the one in ``checkpoint``). ``self`` needs no
            teacher: a student learns from the running average of its own weights (mean teacher,
            arXiv 1703.01780).
        checkpoint: A trained teacher to begin with: the ``best`` folder of a trial whose student
            it was, a folder that ``save_pretrained`` of segmentation-models-pytorch wrote, or a
            file with such a model's ``state_dict``. ``null`` begins with the weights of
            ``teacher.encoder_weights``.
        ema_decay: Share of the old average kept at each step, for ``ema`` and ``self``.
        head_start_epochs: Epochs that the teacher trains alone before its students begin; they
            come on top of ``train.epochs``.
        ramp: Course of all weights from 0 to 1: ``linear``, ``cosine``, or ``constant`` (no ramp).
        warmup_epochs: Length of the ramp, in epochs of the student.
        until_epoch: Distillation ends after so many epochs of the student; ``null`` never.
        gate: ``lead`` scales all weights by how far the teacher is ahead of the student on the
            training batches, down to nothing while it is not ahead; ``null`` does not.
        labelled_weight: Factor of all weights on the labelled frames, where there are unlabelled
            ones as well.
        unlabelled_weight: Factor of all weights on the unlabelled frames. Losses that need labels
            see the labelled frames only.
        confidence_threshold: Pixels of unlabelled frames count where the teacher gives its first
            choice at least this probability (FixMatch, arXiv 2001.07685); 0 takes all.
    """

    teacher: TeacherMode = "online"
    checkpoint: str | None = None
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    head_start_epochs: NonNegativeInt = 0
    ramp: RampName = "linear"
    warmup_epochs: NonNegativeFloat = 0.0
    until_epoch: PositiveFloat | None = None
    gate: Literal["lead"] | None = None
    labelled_weight: NonNegativeFloat = 1.0
    unlabelled_weight: NonNegativeFloat = 1.0
    confidence_threshold: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _is_its_own_teacher(self) -> DistillConfig:
        if self.teacher == "self":
            for name in ("checkpoint", "head_start_epochs", "gate"):
                if getattr(self, name):
                    raise broken_rule(
                        "a student that is its own teacher has none that was trained before it",
                        at=(name,),
                        allowed="teacher: self without checkpoint, head_start_epochs and gate",
                    )
        return self

    @model_validator(mode="after")
    def _has_a_teacher_to_freeze(self) -> DistillConfig:
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
    def _ends_after_it_has_begun(self) -> DistillConfig:
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
    def _mutual_learning_needs_a_learning_teacher(self) -> DistillConfig:
        mutual = [name for name, term in self.terms().items() if term.reciprocal]
        if mutual and self.teacher != "online":
            raise broken_rule(
                f"mutual learning with {_ARTICLE[self.teacher]} teacher, which does not learn "
                f"from the student",
                at=mutual[:1],
                allowed=f"{mutual[0]} with teacher: online; pixel_kl with the others",
            )
        return self

    def course(self, term: LossConfig) -> tuple[RampName, float, float | None]:
        """Ramp, warm-up and end of a term: its own where it has them."""
        return (
            self.ramp if term.ramp is None else term.ramp,
            self.warmup_epochs if term.warmup_epochs is None else term.warmup_epochs,
            self.until_epoch if term.until_epoch is None else term.until_epoch,
        )

    @property
    def is_mutual(self) -> bool:
        """Whether the teacher learns from its student, so that it can have no other."""
        return any(term.reciprocal for term in self.terms().values())

    def terms(self) -> dict[str, LossConfig]:
        """The terms with a weight above zero, by name, in the order of the fields."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {n: s for n, s in named if isinstance(s, LossConfig) and s.weight > 0}
