"""What a data source is, and how one is built.

A source lists its frames split by split and decodes one frame at a time; resizing, caching and
loading are the same for all of them (``cache.py``, ``loaders.py``). Adding a source takes one file
in ``sources/`` and one class with its keys in ``kdsweep/config/data.py``; ``docs/extending.md``
says how another package brings both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from kdsweep.config.data import BaseDataConfig
from kdsweep.data.merging import merged_classes
from kdsweep.data.pictures import FrameError, read_mask, read_rgb
from kdsweep.errors import DataError
from kdsweep.labels import VOID

SplitName = Literal["train", "val", "test", "unlabelled"]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done and how many there are."""


class Frame(NamedTuple):
    """One photograph and its labels.

    Attributes:
        name: Unique within the source, for example ``dataA/02_00_100``.
        mask: Its label image; the photograph itself where there is none.
    """

    name: str
    image: Path
    mask: Path

    @property
    def is_labelled(self) -> bool:
        """Whether it has labels."""
        return self.mask != self.image

    def without_labels(self) -> Frame:
        """Return the same photograph without its labels."""
        return self._replace(mask=self.image)


class Source(ABC):
    """A data set as published, or as a user keeps it.

    Attributes:
        name: The name in the registry.
        published: Where the data set can be had, in words for an error message; empty for a
            user's own data.
        layout: The folder that is expected, as a text tree.
        repair: What to do about files that cannot be used.
        root: The folder.
        classes: Class names by id.
        palette: RGB colour of each class, uint8.
        embedded: Whether the data comes with kdsweep rather than from real cameras.
        notice: What every report on this data must say, if anything.
        image_bits: Bits of a channel of the images that hold something (``data.image_bits``).
        remarks: What should be said once about how the folder was read.
        caveats: What should be said wherever scores on it stand.
        draws_by_class: Whether :meth:`splits` may decode masks, so that no split lacks a class.
        own_classes: Whether the list of classes is the user's own, so that all should occur.
    """

    name: ClassVar[str]
    published: ClassVar[str] = ""
    layout: ClassVar[str]
    repair: ClassVar[str] = "repair, fetch again or remove these files, then run again"

    embedded: ClassVar[bool] = False
    notice: ClassVar[str | None] = None

    image_bits: int = 8
    remarks: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    own_classes: bool = False
    draws_by_class: bool = True
    _merged: np.ndarray | None = None

    root: Path
    classes: tuple[str, ...]
    palette: np.ndarray

    @abstractmethod
    def splits(self) -> Mapping[SplitName, list[Frame]]:
        """The frames of each split, in a fixed order; ``test`` may be missing.

        Raises:
            DataError: Files are missing or the layout is another one; all problems in one message.
        """

    @abstractmethod
    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """Class ids of one decoded mask file.

        Args:
            mask: What the file holds: uint8 of (H, W) or (H, W, 3).

        Returns:
            uint8 of (H, W), ids below ``len(classes)`` or :data:`VOID`.

        Raises:
            FrameError: The mask holds ids that the source does not know.
        """

    def options(self) -> dict[str, Any]:
        """Return whatever changes the labels of the same files: part of the cache's key."""
        deep = {"image_bits": self.image_bits} if self.image_bits != 8 else {}
        merged = {} if self._merged is None else {"merged": self._merged.tolist()}
        return {"classes": list(self.classes), **deep, **merged}

    def recording(self, frame: Frame) -> str:
        """Return the recording (drive, town) of a frame: its folder, or how its name begins."""
        *folders, name = frame.name.split("/")
        folders = [folder for folder in folders if folder not in get_args(SplitName)]
        return folders[0] if folders else name.partition("_")[0]

    def explain_masks(self) -> str | None:
        """Return what the masks hold and what to write, for classes that do not occur."""
        return None

    def merge(self, classes: Mapping[str, Any]) -> None:
        """Merge, rename or leave out classes (``data.classes``).

        Raises:
            ConfigError: It names classes that the source does not have.
        """
        names, self._merged = merged_classes(self.classes, classes)
        first = [int(np.flatnonzero(self._merged == number)[0]) for number in range(len(names))]
        self.classes, self.palette = names, self.palette[first]

    def read(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Decodes one frame at its own size.

        Returns:
            The image, uint8 of (H, W, 3) in RGB, and the labels, uint8 of (H, W); all void where
            there are none.

        Raises:
            FrameError: A file cannot be decoded, sizes differ or ids are unknown.
        """
        image = read_rgb(frame.image, self.image_bits)
        if not frame.is_labelled:
            return image, np.full(image.shape[:2], VOID, np.uint8)
        labels = self.read_labels(frame.mask)
        if image.shape[:2] != labels.shape:
            # Some tools label what is stored, whatever the EXIF note says.
            stored = read_rgb(frame.image, self.image_bits, turned=False)
            if stored.shape[:2] == labels.shape:
                return stored, labels
            raise FrameError(
                frame.mask,
                f"mask is {_size(labels)}, but the image {frame.image.name} is {_size(image)}",
            )
        return image, labels

    def read_labels(self, path: Path) -> np.ndarray:
        """Decodes one mask file to class ids (see :meth:`read`)."""
        try:
            labels = self.labels_from(self.read_values(path))
            return labels if self._merged is None else self._merged[labels]
        except UnknownIdsError as problem:
            raise FrameError(path, f"{problem} outside the {len(self.classes)} classes") from None

    def read_values(self, path: Path) -> np.ndarray:
        """Return what a mask file holds, as :meth:`labels_from` takes it."""
        return read_mask(path)


class UnknownIdsError(Exception):
    """A mask holds values that stand for no class; :meth:`Source.read_labels` names the file."""


def build_source(config: BaseDataConfig, cache: Path, progress: Progress | None) -> Source:
    """Return the source that a ``data:`` section describes.

    Args:
        config: The section.
        cache: Folder of the decode cache, where a source may keep what it makes.
        progress: Called with what is being done, how many are done and how many there are.

    Raises:
        DataError: The data set is missing or laid out differently.
        ConfigError: The package of the source cannot be loaded.
    """
    source: Source = config.load_implementation(("data", "source"))(config, cache, progress)
    source.image_bits = config.image_bits
    if config.classes is not None and not config.makes_classes:
        source.merge(config.classes)
    return source


def lookup(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Maps the ids of a file to class ids.

    Args:
        ids: uint8 of (H, W).
        table: int16 of 256 entries; -1 marks ids that must not occur.

    Returns:
        uint8 of (H, W).

    Raises:
        UnknownIdsError: An id occurs that must not.
    """
    present = np.bincount(ids.ravel(), minlength=256) > 0
    unknown = np.flatnonzero(present & (table < 0))
    if unknown.size:
        shown = ", ".join(map(str, unknown[:5])) + (", …" if unknown.size > 5 else "")
        raise UnknownIdsError(f"holds id{'s' if unknown.size > 1 else ''} {shown}")
    return np.where(table < 0, VOID, table).astype(np.uint8)[ids]


def id_table(num_classes: int, void: tuple[int, ...] = (VOID,)) -> np.ndarray:
    """A table for :func:`lookup` in which ids are already class ids, ``void`` apart."""
    table = np.full(256, -1, np.int16)
    table[:num_classes] = np.arange(num_classes)
    table[list(void)] = VOID
    return table


def required_folder(path: str | None, source: type[Source]) -> Path:
    """The folder a source was given.

    Raises:
        DataError: None was given, or it is not there; the message says where the data set is
            published and what the folder must look like.
    """
    if path is None:
        raise DataError(
            f"{source.name}: no folder given; kdsweep does not ship this data set\n"
            f"{expected_layout(source)}\n"
            f"  try:     --data {source.name}=PATH, or `path:` in the `data:` section"
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "is not there"
        raise DataError(f"{source.name}: {folder} {what}\n{expected_layout(source)}")
    return folder.resolve()


def expected_layout(source: type[Source]) -> str:
    """Where a source is published and what its folder looks like, indented for a message."""
    tree = "\n".join(f"    {line}" for line in source.layout.strip("\n").splitlines())
    where = f"  from:    {source.published}\n" if source.published else ""
    return f"{where}  layout:  PATH is the folder that holds\n{tree}"


def _size(array: np.ndarray) -> str:
    """``800×600`` (width × height), as image viewers say it."""
    return f"{array.shape[1]}×{array.shape[0]}"
