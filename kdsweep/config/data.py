"""The ``data:`` section of a job: which frames, at which size, how they are split and augmented.

One class per source. The sources themselves live in ``kdsweep/data/sources``; other packages add
some by entry points of the group ``kdsweep.sources``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from annotated_types import DocInfo
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)

from kdsweep.config.base import broken_rule
from kdsweep.config.model import Options
from kdsweep.config.plugins import PluggedConfig, family
from kdsweep.config.splits import HoldoutConfig, LabelledConfig, PartsConfig
from kdsweep.registry import Registry


def _members_of_classes(classes: dict[str, Any]) -> dict[str, Any]:
    if not set(classes) - {"void"}:
        raise broken_rule("no class", allowed="names of classes, each with what it is made of")
    for name, members in classes.items():
        for member in members if isinstance(members, list) else [members]:
            if not (_is_byte(member) or isinstance(member, str) or _is_colour(member)):
                raise broken_rule(
                    "not something that a class is made of",
                    at=(name,),
                    allowed="names of classes, ids 0 … 255, or a list of [r, g, b] colours",
                )
    return classes


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


AugmentPreset = Literal["none", "light", "standard", "strong"]
# What stands in the file takes the place of its name when a job or space is read.
AugmentPipeline = Annotated[
    Options,
    DocInfo("a file (.yaml, .yml or .json) that albumentations saved"),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": r"\.(ya?ml|json)$"}, {"type": "object"}]}
    ),
]
AugmentOn = Literal["auto", "cpu", "device"]
# ``void`` apart, each name is a class; what it is made of is read with the data set.
Classes = Annotated[
    Options,
    DocInfo("a mapping from names to names, ids or [[r, g, b], …] colours"),
    AfterValidator(_members_of_classes),
]
Problem = Literal[
    "empty_class", "one_class", "mostly_void", "overlap", "differing_palettes", "unknown_ids"
]
NumClasses = Annotated[int, Field(ge=2, le=255)]  # ids are bytes, and 255 is void
ImageSize = Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False)]
CropScale = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)]
_SceneSide = Annotated[int, Field(ge=16)]
SceneSize = Annotated[tuple[_SceneSide, _SceneSide], Field(strict=False)]


class BaseDataConfig(PluggedConfig):
    """What every source understands.

    Attributes:
        source: Which data set it is.
        path: Folder of the data set; ``--data SOURCE=PATH`` fills it in.
        image_size: (height, width) in pixels that frames are resized to.
        classes: Classes merged, renamed or left out: by new name what each is made of, ``void``
            for what counts nowhere. Classes that are not named stay as they are. In a ``folder``
            without a ``classes.yaml`` it says what ids or colours of the masks mean.
        accept: Problems of the data that do not stop the training; the report names them.
        image_bits: Bits of a channel of the images that hold something, where that is more than
            8: a camera's 12 bits come in files of 16.
        crop: (height, width) in pixels of crops to train on, drawn from frames of ``image_size``
            that are scaled at random; validation sees whole frames. ``null`` trains on whole
            frames.
        crop_scale: Least and greatest factor by which a frame is scaled before a crop is cut; what
            a crop has beyond the frame is black, and void in the labels. Only with ``crop``.
        augment: Augmentation of the training split: by name, or by a pipeline of your own. The
            file's content becomes part of the job.
        augment_on: Where it is done: in the loader processes, frame by frame (``cpu``), or on the
            device that trains, batch by batch (``device``). The frames are the same but for
            rounding. ``auto`` is the device where that is a GPU; a pipeline of your own runs on the
            CPU.
        num_classes: Outputs of the networks, where they have more than the data have classes; the
            classes beyond occur in no label. ``null`` is as many as the data have.
        num_train: Use at most so many training frames, evenly spaced; all if left out.
        num_val: Likewise for validation.
        unlabelled: A folder of pictures without labels, searched with its subfolders. Students see
            them beside the labelled frames, and learn from their teacher what they show.
        labelled: Which training frames keep their labels; those of the others are not used, and
            the frames count as unlabelled. ``null`` keeps all.
        num_labelled: Keep the labels of at most so many training frames, evenly spaced.
        all_labels: Train on all labels after all, for as many batches an epoch as without: what
            the labels left out would give. No such student is ever called best.
        unlabelled_augment: Augmentation of unlabelled frames for the student; the teacher sees
            the same part of the frame in its own colours.
        workers: Loader processes; chosen from the trial's CPU share if left out.
        cache: Folder of the decode cache; the user's cache folder if left out.
    """

    source: str
    path: str | None = None
    image_size: ImageSize
    classes: Classes | None = None
    accept: Annotated[tuple[Problem, ...], Field(strict=False)] = ()
    image_bits: Annotated[int, Field(ge=8, le=16)] = 8
    crop: ImageSize | None = None
    crop_scale: CropScale = (0.5, 2.0)
    augment: AugmentPreset | AugmentPipeline = "standard"
    augment_on: AugmentOn = "auto"
    num_classes: NumClasses | None = None
    num_train: PositiveInt | None = None
    num_val: PositiveInt | None = None
    unlabelled: str | None = None
    labelled: LabelledConfig | None = None
    num_labelled: PositiveInt | None = None
    all_labels: bool = False
    unlabelled_augment: AugmentPreset = "strong"
    workers: int | None = Field(default=None, ge=0)
    cache: str | None = None

    @property
    def makes_classes(self) -> bool:
        """Whether ``classes`` says what values of masks mean, and not what becomes of classes."""
        for members in (self.classes or {}).values():
            for member in members if isinstance(members, list) else [members]:
                if not isinstance(member, str):
                    return True
        return False

    @property
    def has_unlabelled(self) -> bool:
        """Whether there may be training frames without labels."""
        return self.leaves_labels_out or self.unlabelled is not None

    @property
    def leaves_labels_out(self) -> bool:
        """Whether there are labels that are not used."""
        return any((self.labelled, self.num_labelled))

    def most_labelled(self, num_frames: int) -> int:
        """Return how many of so many training frames keep their labels at most."""
        return min(num_frames, self.num_labelled or num_frames)

    @property
    def train_size(self) -> tuple[int, int]:
        """(height, width) of what networks train on; they are validated at ``image_size``."""
        return self.crop or self.image_size

    @model_validator(mode="after")
    def _crops_can_be_drawn(self) -> BaseDataConfig:
        if self.crop_scale[0] > self.crop_scale[1]:
            raise broken_rule(
                "the least scale is above the greatest",
                at=("crop_scale",),
                allowed="[least, greatest], such as [0.5, 2.0]",
            )
        if self.crop is not None and not isinstance(self.augment, str):
            raise broken_rule(
                "a pipeline of your own cuts its own crops",
                at=("crop",),
                allowed="null; or an augmentation by name",
                hint="RandomResizedCrop in the pipeline does the same",
            )
        return self

    @model_validator(mode="after")
    def _labels_are_left_out(self) -> BaseDataConfig:
        if self.all_labels and not self.leaves_labels_out:
            raise broken_rule(
                "no labels are left out that could be used after all",
                at=("all_labels",),
                allowed="false; or labelled, num_labelled or unlabelled_scenes beside it",
            )
        return self

    @model_validator(mode="after")
    def _a_pipeline_runs_on_the_cpu(self) -> BaseDataConfig:
        if self.augment_on == "device" and not isinstance(self.augment, str):
            raise broken_rule(
                "a pipeline of your own runs on the CPU",
                at=("augment_on",),
                allowed="auto or cpu; device with an augmentation by name",
                hint="leave augment_on out",
            )
        return self


SOURCES: Registry[type[BaseDataConfig]] = family(
    "data source", "kdsweep.sources", BaseDataConfig, lambda name: False
)


@SOURCES.register("roadscenes")
class RoadscenesData(BaseDataConfig):
    """Generated driving scenes with CARLA's 13 classes; the embedded default.

    They are written into the cache folder; there is no ``path`` to read from.

    Attributes:
        scenes: Training scenes to generate, with labels.
        unlabelled_scenes: Further training scenes, whose labels are not used.
        val_scenes: Validation scenes, from another part of the generator's stream.
        test_scenes: Test scenes.
        scene_size: (height, width) in pixels of the files that are written.
        seed: Seed of the generator.
    """

    implementation = "kdsweep.data.sources.roadscenes:build"

    source: Literal["roadscenes"] = "roadscenes"
    scenes: PositiveInt = 96
    unlabelled_scenes: NonNegativeInt = 0
    val_scenes: PositiveInt = 32
    test_scenes: int = Field(default=48, ge=0)
    scene_size: SceneSize = (300, 400)
    seed: int = Field(default=0, ge=0)

    @property
    def num_scenes(self) -> int:
        """Training scenes in all."""
        return self.scenes + self.unlabelled_scenes

    @property
    def leaves_labels_out(self) -> bool:
        """See :attr:`BaseDataConfig.leaves_labels_out`."""
        return super().leaves_labels_out or self.unlabelled_scenes > 0

    def most_labelled(self, num_frames: int) -> int:
        """See :meth:`BaseDataConfig.most_labelled`: as large a share of them as of all scenes."""
        share = max(1, round(num_frames * self.scenes / self.num_scenes))
        return min(super().most_labelled(num_frames), share)

    @model_validator(mode="after")
    def _is_not_read_from_a_folder(self) -> RoadscenesData:
        if self.path is not None:
            raise broken_rule(
                "roadscenes are generated, not read from a folder",
                at=("path",),
                allowed="no path; data.cache says where they are written",
            )
        return self


@SOURCES.register("lyft")
class LyftData(BaseDataConfig):
    """The Lyft-Udacity challenge (CARLA 0.8.2, 800×600, 13 classes) in its published layout.

    Attributes:
        hood_void: Vehicle pixels in rows ≥ 496 of 600 (the ego car's hood) become void.
        merge_road_lines: Road lines are labelled as road.
        split: Parts by name, or a seeded hold-out of contiguous blocks.
    """

    implementation = "kdsweep.data.sources.lyft:build"

    source: Literal["lyft"]
    hood_void: bool = True
    merge_road_lines: bool = False
    split: PartsConfig | HoldoutConfig = Field(default_factory=HoldoutConfig)


@SOURCES.register("camvid")
class CamvidData(BaseDataConfig):
    """CamVid in the SegNet layout: 480×360, 11 classes, 11 = void, or its original 32 colours.

    Attributes:
        mask_suffix: What the names of masks have beyond those of their images, such as ``_L``.
    """

    implementation = "kdsweep.data.sources.camvid:build"

    source: Literal["camvid"]
    mask_suffix: str | None = None


@SOURCES.register("cityscapes")
class CityscapesData(BaseDataConfig):
    """Cityscapes (``leftImg8bit``/``gtFine``) with the standard 19 train ids."""

    implementation = "kdsweep.data.sources.cityscapes:build"

    source: Literal["cityscapes"]


@SOURCES.register("folder")
class FolderData(BaseDataConfig):
    """A user's own images and masks, with a ``classes.yaml``.

    Attributes:
        images, masks: Folders in ``path`` that hold them.
        image_suffix, mask_suffix: What the names of images or masks have beyond those of their
            partners: ``_mask`` for ``0001.jpg`` and ``0001_mask.png``.
        pairs: A CSV file with the columns ``image`` and ``mask``, paths in ``path``, and perhaps
            ``split`` (train, val, test); it takes the place of the folders.
        skip_unlabelled: Leave out images without a mask, which are an error else. To learn from
            them, name their folder in ``unlabelled`` too: images with a mask in it do not count.
        split: ``auto`` takes folders called train, val and test (or the column of ``pairs``) as
            they are, and else holds out blocks of frames such that no split lacks a class, where
            that is possible. Or parts (first-level subfolders) by
            name, or a seeded hold-out of contiguous blocks.
    """

    implementation = "kdsweep.data.sources.folder:build"

    source: Literal["folder"]
    images: str = "images"
    masks: str = "masks"
    image_suffix: str | None = None
    mask_suffix: str | None = None
    pairs: str | None = None
    skip_unlabelled: bool = False
    split: PartsConfig | HoldoutConfig | Literal["auto"] = "auto"


if TYPE_CHECKING:
    DataConfig = BaseDataConfig
else:
    DataConfig = Annotated[
        Union[tuple(SOURCES.members().values())],  # noqa: UP007 (as many as there are)
        Field(discriminator="source"),
    ]
