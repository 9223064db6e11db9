"""Which frames train, validate and test, and which of those that train keep their labels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from kdsweep.config.base import Config, Names, broken_rule


class HoldoutConfig(Config):
    """A seeded hold-out of contiguous blocks of frames, so that neighbours stay on one side.

    Attributes:
        val: Share of the frames that validate.
        test: Share of the frames kept for the test split.
        block: Frames in a block; frames of one recording are at most this far from a border. 1
            draws single frames, which puts neighbours on both sides.
        seed: Which blocks are drawn.
        parts: Use frames of these parts (recordings, towns, folders) only; ``null`` uses all.
    """

    val: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.0, ge=0, lt=1)
    block: PositiveInt = 50
    seed: int = Field(default=0, ge=0)
    parts: Annotated[Names, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> HoldoutConfig:
        if self.val + self.test >= 1:
            raise broken_rule(
                f"val + test is {self.val + self.test:g}, which leaves no frame to train on",
                allowed="two shares whose sum is < 1",
            )
        return self


class PartsConfig(Config):
    """A split by named parts (recordings, towns, folders).

    Attributes:
        train: Parts that train.
        val: Parts that validate.
        test: Parts kept for the test split.
    """

    train: Names = Field(min_length=1)
    val: Names = Field(min_length=1)
    test: Names = ()

    @model_validator(mode="after")
    def _parts_do_not_overlap(self) -> PartsConfig:
        taken: dict[str, str] = {}
        for side in ("train", "val", "test"):
            for index, part in enumerate(getattr(self, side)):
                if part in taken:
                    raise broken_rule(
                        f"this part is in {taken[part]} already",
                        at=(side, index),
                        allowed="each part in one split only, else scores measure memory",
                    )
                taken[part] = side
        return self


class LabelledConfig(Config):
    """Which training frames keep their labels.

    Attributes:
        recordings: Those of these recordings (drives, towns, folders).
    """

    recordings: Annotated[Names, Field(min_length=1)]
