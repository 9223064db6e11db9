"""From the ``data:`` section of a job to decoded splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from kdsweep.config.data import DataConfig, FolderData, RoadscenesData
from kdsweep.data.cache import cached_splits
from kdsweep.data.carla import CLASSES
from kdsweep.data.classes_file import default_palette
from kdsweep.data.fingerprint import default_cache
from kdsweep.data.identity import Identity
from kdsweep.data.labelling import part_with_labels
from kdsweep.data.native import NativeFrames, NativeLabels
from kdsweep.data.source import Frame, Progress, Source, SplitName, build_source, expected_layout
from kdsweep.data.sources.roadscenes import RoadscenesSource, expected, weather
from kdsweep.data.split import Split
from kdsweep.data.splitting import evenly_spaced
from kdsweep.errors import ConfigError, DataError

_TRAINED: tuple[SplitName, ...] = ("train", "val")


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """A data set, ready to train on.

    Attributes:
        name: Name of the source.
        classes: Class names by id, one for each output of a network; those that the data do not
            have are called ``unused 13``, …
        palette: RGB colour of each class, uint8 of (C, 3).
        train, val: Decoded splits.
        test: Decoded test split, where the source has one.
        unlabelled: Decoded training frames without labels, all void, where there are any.
        epoch_frames: Training frames that make an epoch; all of them for ``None``.
        embedded: Whether the frames come with kdsweep rather than from real cameras.
        notice: What must be said wherever scores on this data are shown, if anything.
        source: What the files are read by; ``None`` for frames that were made up.
        identity: What they are; ``None`` for frames that no files were looked at for.
        native: The frames of each split at the size of their files.
    """

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray
    train: Split
    val: Split
    test: Split | None
    embedded: bool
    notice: str | None
    source: Source | None = None
    identity: Identity | None = None
    native: Mapping[SplitName, NativeFrames] = field(default_factory=dict, repr=False)
    unlabelled: Split | None = None
    epoch_frames: int | None = None

    @property
    def source_path(self) -> Path:
        """Folder the files are read from."""
        return Path() if self.source is None else self.source.root

    @property
    def num_classes(self) -> int:
        """Number of classes, unused ones counted, void not."""
        return len(self.classes)


@dataclass(frozen=True)
class FrameCounts:
    """What is known of a data set before anything of it is decoded.

    Attributes:
        name: Name of the source.
        num_train, num_val: Frames of an epoch and of validation.
        num_unlabelled: Training frames without labels.
        num_classes: Outputs of a network, unused ones counted.
        notice: What must be said wherever scores on this data are shown, if anything.
    """

    name: str
    num_train: int
    num_val: int
    num_classes: int
    notice: str | None
    num_unlabelled: int = 0


def count_frames(config: DataConfig) -> FrameCounts:
    """Looks for the frames of a data set, and decodes none of them.

    Generated scenes need not be there for it. A hold-out that looks at classes may come out a block
    larger or smaller.

    Raises:
        DataError: The data set is missing or laid out differently.
        ConfigError: As for :func:`open_data`.
    """
    notice: str | None
    frames: Mapping[SplitName, Sequence[Frame]]
    recording: Callable[[Frame], str]
    if isinstance(config, RoadscenesData):
        frames, recording = expected(config), partial(weather, config.seed)
        num_known, name, notice = len(CLASSES), RoadscenesSource.name, RoadscenesSource.notice
    else:
        cache = Path(config.cache).expanduser() if config.cache else default_cache()
        source = build_source(config, cache, None)
        source.draws_by_class = False  # which would decode every mask
        frames, recording = source.splits(), source.recording
        for split in _TRAINED:
            _require_frames(source, split, frames.get(split, []))
        num_known, name, notice = len(source.classes), source.name, source.notice
    found, epoch_frames = _used(config, frames, recording)
    return FrameCounts(
        name=name,
        num_train=epoch_frames or len(found["train"]),
        num_val=len(found["val"]),
        num_unlabelled=len(found.get("unlabelled", ())),
        num_classes=_num_outputs(name, num_known, config.num_classes),
        notice=notice,
    )


def open_data(config: DataConfig, progress: Progress | None = None) -> SegmentationData:
    """Checks a source and decodes it, or maps what was decoded before.

    The first call for a data set takes as long as decoding takes; every later one, from any process
    of the machine, only compares the files' names, sizes and times.

    Args:
        config: The ``data:`` section of a job.
        progress: Called with what is being done, how many frames are done and how many there are.

    Raises:
        DataError: The data set is missing, damaged or laid out differently.
        ConfigError: The section names a part that the data set does not have, or fewer classes than
            it has.
    """
    cache = Path(config.cache).expanduser() if config.cache else default_cache()
    source = build_source(config, cache, progress)
    classes, palette = _outputs(source, config.num_classes)
    listed = source.splits()
    for name in _TRAINED:
        _require_frames(source, name, listed.get(name, []))
    frames, epoch_frames = _used(config, listed, source.recording)
    splits = cached_splits(source, frames, config.image_size, cache, progress)
    return SegmentationData(
        name=source.name,
        classes=classes,
        palette=palette,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        embedded=source.embedded,
        notice=source.notice,
        source=source,
        unlabelled=splits.get("unlabelled"),
        epoch_frames=epoch_frames,
        identity=Identity.of(source, splits),
        native={
            name: NativeFrames(NativeLabels(source, some))
            for name, some in frames.items()
            if name != "unlabelled"
        },
    )


def _used(
    config: DataConfig,
    listed: Mapping[SplitName, Sequence[Frame]],
    recording: Callable[[Frame], str],
) -> tuple[dict[SplitName, list[Frame]], int | None]:
    """The frames of each split that are used, none of them empty, and how many make an epoch."""
    limits: dict[SplitName, int | None] = {"train": config.num_train, "val": config.num_val}
    frames = {name: evenly_spaced(some, limits.get(name)) for name, some in listed.items()}
    skips = isinstance(config, FolderData) and config.skip_unlabelled
    with_masks = [frame for some in listed.values() for frame in some] if skips else []
    labelled, unlabelled = part_with_labels(config, recording, frames["train"], with_masks)
    if config.all_labels:
        return {name: some for name, some in frames.items() if some}, len(labelled)
    frames |= {"train": labelled, "unlabelled": unlabelled}
    return {name: some for name, some in frames.items() if some}, None


def _outputs(source: Source, num_classes: int | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and colours of a network's outputs: the source's classes and unused ones after them."""
    # The labels stay as they are, and with them the decode cache.
    num_known = len(source.classes)
    num_outputs = _num_outputs(source.name, num_known, num_classes)
    if num_outputs == num_known:
        return source.classes, source.palette
    names = tuple(f"unused {number}" for number in range(num_known, num_outputs))
    colours = default_palette(num_outputs)[num_known:]
    return (*source.classes, *names), np.concatenate([source.palette, colours])


def _num_outputs(name: str, num_known: int, wanted: int | None) -> int:
    if wanted is not None and wanted < num_known:
        raise ConfigError(
            f"{name} has more classes than that",
            path=("data", "num_classes"),
            value=wanted,
            allowed=f"{num_known} or more, or null for {num_known}",
        )
    return wanted or num_known


def _require_frames(source: Source, name: SplitName, frames: Sequence[Frame]) -> None:
    if not frames:
        found = {split: len(listed) for split, listed in source.splits().items() if listed}
        counts = ", ".join(f"{split} has {count}" for split, count in found.items())
        raise DataError(
            f"{source.name}: no frames in the {name} split of {source.root}"
            + (f" ({counts})" if counts else "")
            + f"\n{expected_layout(type(source))}"
        )
