"""The ``data:`` section of a job: which frames, at which size, how they are split and augmented."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from kdsweep.spec.base import Spec

AugmentPreset = Literal["none", "light", "standard", "strong"]
ImageSize = Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class HoldoutSpec(Spec):
    """A seeded hold-out of contiguous blocks of frames, so that neighbours stay on one side.

    Attributes:
        val: Share of the frames that validate.
        test: Share of the frames kept for the test split.
        block: Frames in a block; frames of one recording are at most this far from a border.
        seed: Which blocks are drawn.
    """

    val: float = Field(0.2, gt=0, lt=1)
    test: float = Field(0.0, ge=0, lt=1)
    block: PositiveInt = 50
    seed: int = Field(0, ge=0)


class PartsSpec(Spec):
    """A split by named parts (recordings, towns, folders)."""

    train: Names = Field(min_length=1)
    val: Names = Field(min_length=1)
    test: Names = ()


class BaseDataSpec(Spec):
    """What every source understands.

    Attributes:
        path: Folder of the data set; ``--data SOURCE=PATH`` fills it in.
        image_size: (height, width) in pixels that frames are resized to.
        augment: Named augmentation of the training split.
        num_train: Use only this many training frames, evenly spaced; all if left out.
        num_val: Likewise for validation.
        workers: Loader processes; chosen from the trial's CPU share if left out.
        cache: Folder of the decode cache; the user's cache folder if left out.
    """

    path: str | None = None
    image_size: ImageSize
    augment: AugmentPreset = "standard"
    num_train: PositiveInt | None = None
    num_val: PositiveInt | None = None
    workers: int | None = Field(None, ge=0)
    cache: str | None = None


class RoadscenesData(BaseDataSpec):
    """Generated driving scenes with CARLA's 13 classes; the embedded default.

    Attributes:
        scenes: Training scenes to generate.
        val_scenes: Validation scenes, from another part of the generator's stream.
        test_scenes: Test scenes.
        scene_size: (height, width) in pixels of the files that are written.
        seed: Seed of the generator.
    """

    source: Literal["roadscenes"] = "roadscenes"
    scenes: PositiveInt = 96
    val_scenes: PositiveInt = 48
    test_scenes: int = Field(48, ge=0)
    scene_size: ImageSize = (300, 400)
    seed: int = Field(0, ge=0)


class LyftData(BaseDataSpec):
    """The Lyft-Udacity challenge (CARLA 0.8.2, 800×600, 13 classes) in its published layout.

    Attributes:
        hood_void: Vehicle pixels in rows ≥ 496 of 600 (the ego car's hood) become void.
        merge_road_lines: Road lines are labelled as road.
        split: Parts by name, or a seeded hold-out of contiguous blocks.
    """

    source: Literal["lyft"]
    hood_void: bool = True
    merge_road_lines: bool = False
    split: PartsSpec | HoldoutSpec = HoldoutSpec()


class CamvidData(BaseDataSpec):
    """CamVid in the SegNet layout: 480×360, 11 classes, 11 = void."""

    source: Literal["camvid"]


class CityscapesData(BaseDataSpec):
    """Cityscapes (``leftImg8bit``/``gtFine``) with the standard 19 train ids."""

    source: Literal["cityscapes"]


class FolderData(BaseDataSpec):
    """A user's own ``images/``, ``masks/`` and ``classes.yaml``.

    Attributes:
        split: Parts (first-level subfolders) by name, or a seeded hold-out of contiguous blocks.
    """

    source: Literal["folder"]
    split: PartsSpec | HoldoutSpec = HoldoutSpec()


DataSpec = Annotated[
    RoadscenesData | LyftData | CamvidData | CityscapesData | FolderData,
    Field(discriminator="source"),
]
