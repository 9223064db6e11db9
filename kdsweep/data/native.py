"""Frames of a split at the size of their files, which the decode cache does not keep.

They are decoded whenever they are asked for, some ahead of time in threads. Frames of one split may
have different sizes.

Shape suffixes: H rows, W columns, C channels (RGB).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kdsweep.data.cache import num_threads
from kdsweep.data.pictures import FrameError
from kdsweep.data.source import Frame, Source
from kdsweep.errors import DataError

_MOST_THREADS = 4  # the other cores belong to networks
_AHEAD = 8

T = TypeVar("T")


@dataclass(frozen=True)
class NativeLabels:
    """The labels of a split, frame by frame in the split's order; can be gone through again."""

    source: Source
    frames: Sequence[Frame]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield uint8 class ids of (H, W), 255 = void.

        Raises:
            DataError: A file cannot be used any more.
        """
        read = self.source.read_labels
        return _ahead([frame.mask for frame in self.frames], read)


@dataclass(frozen=True)
class NativeFrames:
    """Photographs and labels of a split, frame by frame in the split's order.

    Attributes:
        labels: The labels alone, which are read in a fraction of the time.
    """

    labels: NativeLabels

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield uint8 RGB of (H, W, C) and uint8 class ids of (H, W).

        Raises:
            DataError: A file cannot be used any more.
        """
        return _ahead(self.labels.frames, self.labels.source.read)


Key = TypeVar("Key", Path, Frame)


def _ahead(what: Sequence[Key], read: Callable[[Key], T]) -> Iterator[T]:
    """Read in order, a few ahead of what is asked for."""
    with ThreadPoolExecutor(min(num_threads(), _MOST_THREADS)) as threads:
        pending = deque(threads.submit(read, one) for one in what[:_AHEAD])
        try:
            for place in range(len(what)):
                found = pending.popleft().result()
                pending.extend(
                    threads.submit(read, one) for one in what[place + _AHEAD : place + _AHEAD + 1]
                )
                yield found
        except FrameError as problem:
            raise DataError(
                f"{problem}\n  try:     repair the file, or score at the cache's size "
                "(train.validate_at: resized, --protocol resized)"
            ) from None
        finally:
            for future in pending:
                future.cancel()
