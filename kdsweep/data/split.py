"""One split in memory-mapped arrays.

Shape suffixes: N frames, H rows, W columns, C channels (RGB) or classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kdsweep.data.facts import SplitFacts
from kdsweep.labels import VOID

_IMAGES, _LABELS, _NAMES = "images.npy", "labels.npy", "names.json"
_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Split:
    """Decoded frames of one split.

    Attributes:
        images_NHWC: uint8, RGB.
        labels_NHW: uint8 class ids; 255 is void.
        names: One for each frame.
    """

    images_NHWC: np.ndarray
    labels_NHW: np.ndarray
    names: tuple[str, ...]
    _folder: Path | None = None

    @cached_property
    def facts(self) -> SplitFacts | None:
        """What was seen while they were decoded; ``None`` for frames that were not."""
        # Not with the arrays: loader processes map those too, and ask for nothing else.
        return None if self._folder is None else SplitFacts.read(self._folder)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of every frame."""
        return self.labels_NHW.shape[1], self.labels_NHW.shape[2]

    @classmethod
    def open(cls, folder: Path) -> Split:
        """Maps a folder that :meth:`create` has filled; read-only."""
        return cls(
            np.load(folder / _IMAGES, mmap_mode="r"),
            np.load(folder / _LABELS, mmap_mode="r"),
            tuple(json.loads((folder / _NAMES).read_text(encoding="utf-8"))),
            folder,
        )

    @classmethod
    def create(cls, folder: Path, names: Sequence[str], image_size: tuple[int, int]) -> Split:
        """Maps new arrays for so many frames, to be written and then :meth:`flush`-ed.

        Raises:
            OSError: The disk has no room for them.
        """
        shape = (len(names), *image_size)
        images = np.lib.format.open_memmap(folder / _IMAGES, "w+", np.uint8, (*shape, 3))
        labels = np.lib.format.open_memmap(folder / _LABELS, "w+", np.uint8, shape)
        for name in (_IMAGES, _LABELS):
            _reserve(folder / name)
        (folder / _NAMES).write_text(json.dumps(list(names)), encoding="utf-8")
        return cls(images, labels, tuple(names))

    def flush(self) -> None:
        """Writes what :meth:`create` mapped to disk."""
        for array in (self.images_NHWC, self.labels_NHW):
            if isinstance(array, np.memmap):
                array.flush()

    def __reduce__(self) -> tuple[Callable[..., Split], tuple[object, ...]]:
        # A mapped array would be pickled by its contents; loader processes map the file again.
        filename = getattr(self.images_NHWC, "filename", None)
        if filename is not None:
            return Split.open, (Path(filename).parent,)
        return Split, (self.images_NHWC, self.labels_NHW, self.names)


def _reserve(path: Path) -> None:
    """Take the whole file's room on the disk now.

    A mapped file has holes until they are written to, and a disk that is full by then ends the
    process (SIGBUS) where it should be an error.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def class_frequencies(split: Split, num_classes: int) -> np.ndarray:
    """Share of each class in the valid pixels of a split.

    Returns:
        float64 of (num_classes,), summing to 1; all zero where no pixel is valid.
    """
    counts = np.zeros(256, np.int64)
    for start in range(0, len(split), _CHUNK):
        counts += np.bincount(split.labels_NHW[start : start + _CHUNK].ravel(), minlength=256)
    counts[VOID] = 0
    valid = counts[:num_classes].astype(np.float64)
    return valid / max(valid.sum(), 1.0)
