"""The keys of both, with defaults and meaning. This file is always read: it loads no torch."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from kdsweep.config.base import Names
from kdsweep.config.data import BaseDataConfig
from kdsweep.config.losses import LossConfig, Stride


class CosineConfig(LossConfig):
    """One minus the cosine between the networks' class scores at each pixel."""

    implementation = "kdsweep_extra.loss:Cosine"

    weight: NonNegativeFloat = 2.0
    stride: Stride = 1
    centred: bool = Field(default=False, description="Subtract each pixel's mean score first.")


class PairsData(BaseDataConfig):
    """A folder with ``NAME_image.png`` and ``NAME_labels.png``."""

    implementation = "kdsweep_extra.source:build"

    source: Literal["pairs"]
    names: Names = Field(min_length=2, description="Names of the classes by id.")
    every: PositiveInt = Field(default=5, description="One in so many pairs validates.")
