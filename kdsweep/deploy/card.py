"""What a trained student says of itself: its classes, pixels, network, and where it comes from.

The card of a trial's ``best`` folder, and what is written into exported files. Reading it runs no
code, and whatever it says is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kdsweep.config.metrics import RESIZED, SEEN, MiouOver, Protocol
from kdsweep.config.model import ModelConfig
from kdsweep.errors import ModelFileError
from kdsweep.labels import VOID

_LONGEST_SIDE = 16384
# Metadata of files that other programs read too; each value is JSON.
_IN_METADATA = ("classes", "palette", "image_size", "mean", "std", "model", "provenance", "notice")
_LATER = ("data", "image_bits")  # files of earlier versions do without

Name = Annotated[str, Field(min_length=1, max_length=200)]
Channel = Annotated[int, Field(ge=0, le=255)]
Side = Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]
Share = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Plain = str | int | float | bool | None


class DataName(BaseModel):
    """Which data a student was trained on.

    Attributes:
        fingerprint: Of their identity.
        short: A name for people, like ``camvid 367+101, a3f9``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    short: Name


class Card(BaseModel):
    """A student's card.

    Attributes:
        classes: Class names by id.
        palette: RGB colour of each class.
        image_size: Height and width of the images it was trained on.
        image_bits: Bits of a channel that its images held; 8 but for those of some cameras.
        mean: What is taken from RGB pixels on a scale of 0 to 1.
        std: What they are divided by afterwards.
        model: Its network.
        epoch: Epochs it was trained for.
        miou: Its mIoU on validation frames at that epoch.
        miou_over: The classes that count in it.
        protocol: The size at which it was scored.
        source: Data set.
        data: Which state of it; ``None`` in cards of earlier versions.
        notice: What must be said wherever its scores are shown.
        provenance: Experiment, trial, commit, versions.
    """

    # What newer versions add must not keep older ones from reading the rest.
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    classes: tuple[Name, ...] = Field(min_length=1, max_length=VOID)
    palette: tuple[tuple[Channel, Channel, Channel], ...]
    image_size: tuple[Side, Side]
    image_bits: Annotated[int, Field(ge=8, le=16)] = 8
    mean: tuple[Share, Share, Share]
    std: tuple[Spread, Spread, Spread]
    model: ModelConfig
    epoch: int | None = None
    miou: float | None = None
    miou_over: MiouOver = SEEN
    protocol: Protocol = RESIZED
    source: str | None = None
    data: DataName | None = None
    notice: str | None = None
    provenance: dict[str, Plain] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_colour_a_class(self) -> Card:
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        return self

    @classmethod
    def from_json(cls, text: str | bytes, where: object) -> Card:
        """Read a card from JSON; ``where`` it lies is said in errors.

        Raises:
            ModelFileError: It is no card, or says something that cannot be.
        """
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{where}: is no JSON ({error})") from None
        return cls._checked(tree, where)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: object) -> Card:
        """Read what :meth:`to_metadata` wrote.

        Raises:
            ModelFileError: Something is missing, or cannot be.
        """
        tree = {}
        for key in (*_IN_METADATA, *(key for key in _LATER if key in metadata)):
            if key not in metadata:
                raise ModelFileError(
                    f"{where}: has no metadata {key!r}, so kdsweep did not export it\n"
                    "  try:     kdsweep export EXPERIMENT --format onnx"
                )
            try:
                tree[key] = json.loads(metadata[key])
            except (ValueError, RecursionError) as error:
                raise ModelFileError(f"{where}: metadata {key!r} is no JSON ({error})") from None
        return cls._checked(tree, where)

    @classmethod
    def _checked(cls, tree: Any, where: object) -> Card:
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            said = f"{place}: {first['msg']}" if place else first["msg"]
            raise ModelFileError(f"{where}: its card cannot be right: {said}") from None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return self.model_dump(mode="json")

    def to_metadata(self) -> dict[str, str]:
        """As texts by name, for files whose metadata are texts."""
        tree = self.to_json()
        return {key: json.dumps(tree[key], ensure_ascii=False) for key in (*_IN_METADATA, *_LATER)}
