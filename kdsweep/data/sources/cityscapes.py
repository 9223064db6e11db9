"""Cityscapes with fine annotations: 2048×1024, the standard 19 train ids.

The published ``labelIds`` are mapped to train ids here, so that no preparation script is needed.
The test split of Cityscapes has no public labels and is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from kdsweep.config.data import CityscapesData
from kdsweep.data.file_errors import Problems
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
from kdsweep.errors import DataError
from kdsweep.labels import VOID

NUM_LABEL_IDS = 34
"""Ids 0 … 33; licence plates have -1, stored as 255."""

IMAGE_END, MASK_END = "_leftImg8bit.png", "_gtFine_labelIds.png"
# What the published preparation script (createTrainIdLabelImgs) writes beside them.
TRAIN_IDS_END = "_gtFine_labelTrainIds.png"


class _Label(NamedTuple):
    name: str
    label_id: int
    colour: tuple[int, int, int]


LABELS = (
    _Label("road", 7, (128, 64, 128)),
    _Label("sidewalk", 8, (244, 35, 232)),
    _Label("building", 11, (70, 70, 70)),
    _Label("wall", 12, (102, 102, 156)),
    _Label("fence", 13, (190, 153, 153)),
    _Label("pole", 17, (153, 153, 153)),
    _Label("traffic light", 19, (250, 170, 30)),
    _Label("traffic sign", 20, (220, 220, 0)),
    _Label("vegetation", 21, (107, 142, 35)),
    _Label("terrain", 22, (152, 251, 152)),
    _Label("sky", 23, (70, 130, 180)),
    _Label("person", 24, (220, 20, 60)),
    _Label("rider", 25, (255, 0, 0)),
    _Label("car", 26, (0, 0, 142)),
    _Label("truck", 27, (0, 0, 70)),
    _Label("bus", 28, (0, 60, 100)),
    _Label("train", 31, (0, 80, 100)),
    _Label("motorcycle", 32, (0, 0, 230)),
    _Label("bicycle", 33, (119, 11, 32)),
)
"""The 19 evaluated classes, in the order of their train ids."""


class CityscapesSource(Source):
    """Reads ``leftImg8bit`` and ``gtFine``, both in one folder."""

    name = "cityscapes"
    published = (
        "https://www.cityscapes-dataset.com (free account; leftImg8bit_trainvaltest.zip and "
        "gtFine_trainvaltest.zip)"
    )
    layout = """
leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
leftImg8bit/val/frankfurt/…
gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
gtFine/val/frankfurt/…
"""
    classes = tuple(label.name for label in LABELS)
    palette = np.array([label.colour for label in LABELS], np.uint8)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mask_end = MASK_END
        self._table = np.full(256, -1, np.int16)
        self._table[:NUM_LABEL_IDS] = VOID
        self._table[255] = VOID
        for train_id, label in enumerate(LABELS):
            self._table[label.label_id] = train_id
        masks = root / "gtFine" / "train"
        if not any(masks.glob(f"*/*{MASK_END}")) and any(masks.glob(f"*/*{TRAIN_IDS_END}")):
            self._mask_end = TRAIN_IDS_END
            self._table = id_table(len(LABELS))
            self.remarks = (f"there are no *{MASK_END}: *{TRAIN_IDS_END} are read",)

    @override
    def options(self) -> dict[str, Any]:
        train_ids = {"train_ids": True} if self._mask_end == TRAIN_IDS_END else {}
        return super().options() | train_ids

    @override
    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        return lookup(mask if mask.ndim == 2 else mask[..., 0], self._table)

    @override
    def splits(self) -> Mapping[SplitName, list[Frame]]:
        problems = Problems(self.name, self.root)
        splits: dict[SplitName, list[Frame]] = {}
        num_files = 0
        names: tuple[SplitName, ...] = ("train", "val")
        for split in names:
            images = self._files("leftImg8bit", split, IMAGE_END)
            masks = self._files("gtFine", split, self._mask_end)
            num_files += len(images) + len(masks)
            for stem in images.keys() - masks.keys():
                problems.add(images[stem], f"has no partner gtFine/{split}/{stem}{self._mask_end}")
            for stem in masks.keys() - images.keys():
                problems.add(masks[stem], f"has no partner leftImg8bit/{split}/{stem}{IMAGE_END}")
            splits[split] = [
                Frame(f"{split}/{stem}", images[stem], masks[stem])
                for stem in sorted(images.keys() & masks.keys())
            ]
        problems.raise_if_any(num_files, "unpack both published archives again")
        return splits

    def _files(self, kind: str, split: str, end: str) -> dict[str, Path]:
        """Files of one split by ``city/city_000000_000019``."""
        folder = self.root / kind / split
        if not folder.is_dir():
            raise DataError(
                f"cityscapes: no folder {kind}/{split} in {self.root}\n"
                f"{expected_layout(type(self))}"
            )
        return {
            path.relative_to(folder).as_posix().removesuffix(end): path
            for path in folder.glob(f"*/*{end}")
        }


def build(config: CityscapesData, cache: Path, progress: Progress | None) -> CityscapesSource:
    """The source that a config describes."""
    return CityscapesSource(required_folder(config.path, CityscapesSource))
