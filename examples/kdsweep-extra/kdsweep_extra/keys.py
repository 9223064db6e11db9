"""The keys of both, with defaults and meaning. This file is always read: it loads no torch."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from kdsweep.spec.base import Names
from kdsweep.spec.data import BaseDataSpec
from kdsweep.spec.losses import LossSpec, Stride


class CosineSpec(LossSpec):
    """One minus the cosine between the networks' class scores at each pixel."""

    implementation = "kdsweep_extra.loss:Cosine"

    weight: NonNegativeFloat = 2.0
    stride: Stride = 1
    centred: bool = Field(default=False, description="Subtract each pixel's mean score first.")


class PairsData(BaseDataSpec):
    """A folder with ``NAME_image.png`` and ``NAME_labels.png``."""

    implementation = "kdsweep_extra.source:build"

    source: Literal["pairs"]
    classes: Names = Field(min_length=2, description="Names of the classes by id.")
    every: PositiveInt = Field(default=5, description="One in so many pairs validates.")
