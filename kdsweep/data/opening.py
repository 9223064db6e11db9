"""From the ``data:`` section of a job to decoded splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdsweep.data.cache import cached_splits
from kdsweep.data.fingerprint import default_cache
from kdsweep.data.source import SOURCES, Frame, Progress, Source, SplitName, expected_layout
from kdsweep.data.split import Split
from kdsweep.data.splitting import evenly_spaced
from kdsweep.errors import DataError
from kdsweep.spec.data import DataSpec


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """A data set, ready to train on.

    Attributes:
        name: Name of the source.
        classes: Class names by id.
        palette: RGB colour of each class, uint8 of (C, 3).
        train, val: Decoded splits.
        test: Decoded test split, where the source has one.
        embedded: Whether the frames come with kdsweep rather than from real cameras.
        notice: What must be said wherever scores on this data are shown, if anything.
        source_path: Folder the files are read from.
    """

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray
    train: Split
    val: Split
    test: Split | None
    embedded: bool
    notice: str | None
    source_path: Path

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)


def open_data(spec: DataSpec, progress: Progress | None = None) -> SegmentationData:
    """Checks a source and decodes it, or maps what was decoded before.

    The first call for a data set takes as long as decoding takes; every later one, from any process
    of the machine, only compares the files' names, sizes and times.

    Args:
        spec: The ``data:`` section of a job.
        progress: Called with what is being done, how many frames are done and how many there are.

    Raises:
        DataError: The data set is missing, damaged or laid out differently.
        SpecError: The section names a part that the data set does not have.
    """
    cache = Path(spec.cache).expanduser() if spec.cache else default_cache()
    source: Source = SOURCES.get(spec.source, ("data", "source"))(spec, cache, progress)
    limits: dict[SplitName, int | None] = {"train": spec.num_train, "val": spec.num_val}
    frames = {
        name: evenly_spaced(listed, limits.get(name)) for name, listed in source.splits().items()
    }
    names: tuple[SplitName, ...] = ("train", "val")
    for name in names:
        _require_frames(source, name, frames.get(name, []))
    if not frames.get("test"):
        frames.pop("test", None)
    splits = cached_splits(source, frames, spec.image_size, cache, progress)
    return SegmentationData(
        name=source.name,
        classes=source.classes,
        palette=source.palette,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        embedded=source.embedded,
        notice=source.notice,
        source_path=source.root,
    )


def _require_frames(source: Source, name: SplitName, frames: Sequence[Frame]) -> None:
    if not frames:
        raise DataError(
            f"{source.name}: no frames in the {name} split of {source.root}\n"
            f"{expected_layout(type(source))}"
        )
