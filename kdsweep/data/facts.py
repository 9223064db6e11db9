"""What is seen of each frame while a split is decoded; kept beside it in the decode cache.

Shape suffixes: N frames, V values of labels (0 … 255).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kdsweep.data.pictures import is_turned

_FILE = "facts.npz"


@dataclass(frozen=True, eq=False)
class SplitFacts:
    """One entry for each frame, in the order of the split.

    Attributes:
        digests_N2: Content of image file and mask file, 16 hexadecimal digits each (``S16``).
        sizes_N2: (height, width) of the files in pixels, int32.
        pixels_NV: Pixels of each class id at that size, int64; those of 255 are void.
        turned_N: Whether the EXIF note says that the image does not lie upright.
        looks_N: Coarse looks of the images, uint64: near-duplicates differ in few bits.
    """

    digests_N2: np.ndarray
    sizes_N2: np.ndarray
    pixels_NV: np.ndarray
    turned_N: np.ndarray
    looks_N: np.ndarray

    @classmethod
    def empty(cls, num_frames: int) -> SplitFacts:
        """Return facts of so many frames, to be filled by :meth:`note`."""
        return cls(
            np.zeros((num_frames, 2), "S16"),
            np.zeros((num_frames, 2), np.int32),
            np.zeros((num_frames, 256), np.int64),
            np.zeros(num_frames, bool),
            np.zeros(num_frames, np.uint64),
        )

    def note(
        self, index: int, files: tuple[Path, Path], image: np.ndarray, labels: np.ndarray
    ) -> None:
        """Fill in one frame.

        Args:
            index: Its place in the split.
            files: Its image and its mask.
            image: uint8 of (H, W, 3), at any size.
            labels: uint8 of (H, W), at the size of the file.
        """
        contents = [path.read_bytes() for path in files]
        self.digests_N2[index] = [digest(content) for content in contents]
        self.sizes_N2[index] = labels.shape
        # Half the time of numpy's bincount; exact up to 16 million pixels of one class.
        counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
        self.pixels_NV[index] = counts.ravel()
        self.turned_N[index] = is_turned(files[0], contents[0])
        self.looks_N[index] = look(image)

    def write(self, folder: Path) -> None:
        """Keep them in the folder of a split."""
        np.savez_compressed(folder / _FILE, **vars(self))

    @classmethod
    def read(cls, folder: Path) -> SplitFacts | None:
        """Return what :meth:`write` kept, if anything."""
        if not (folder / _FILE).is_file():
            return None
        with np.load(folder / _FILE) as found:
            missing = cls.__dataclass_fields__.keys() - set(found)
            if missing:
                raise ValueError(f"{_FILE} has no {', '.join(sorted(missing))}")
            return cls(**found)


def digest(content: bytes) -> bytes:
    """Return a name for a file's content: 16 hexadecimal digits of its BLAKE2b."""
    return hashlib.blake2b(content, digest_size=8).hexdigest().encode("ascii")


def look(image_HWC: np.ndarray) -> np.uint64:
    """Return 64 bits, each of which says whether a patch is brighter than its right neighbour.

    Source: "dHash", N. Krawetz, hackerfactor.com, 2013.
    """
    # Every third pixel is plenty for 72 averages.
    grey = cv2.cvtColor(np.ascontiguousarray(image_HWC[::3, ::3]), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(grey[:, 1:] < grey[:, :-1]).view(np.uint64)[0]
