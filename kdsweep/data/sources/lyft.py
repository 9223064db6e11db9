"""The Lyft-Udacity perception challenge: CARLA 0.8.2 frames of 800×600 with 13 classes.

Published in parts (``dataA`` … ``dataE``), each with ``CameraRGB`` and ``CameraSeg``. The class id
is in the red channel of the label image. A file name is ``<recording>_<frame>.png``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from kdsweep.config.data import LyftData
from kdsweep.data import carla
from kdsweep.data.file_errors import Problems
from kdsweep.data.pairing import LOSSLESS_SUFFIXES, PICTURE_SUFFIXES
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
from kdsweep.data.splitting import Holdout, Parts, Recording, natural_order, split_rule
from kdsweep.errors import DataError
from kdsweep.labels import VOID

IMAGES, MASKS = "CameraRGB", "CameraSeg"
HOOD_TOP = 496 / 600
"""Where the ego car's hood begins, as a share of the frame's height."""


class LyftSource(Source):
    """Reads the published layout.

    Args:
        root: Folder with the parts, or one part.
        hood_void: Vehicle pixels from row 496 of 600 downwards become void. That is the ego car's
            hood: 97 % of all vehicle pixels and nearly the same in every frame, so that with it
            a network that knows the hood and misses every car scores well.
        merge_road_lines: Road lines are labelled as road, and their class is dropped.
        split: By part, or a hold-out of contiguous blocks.
    """

    name = "lyft"
    published = "https://www.kaggle.com/datasets/kumaresanmanickavelu/lyft-udacity-challenge"
    layout = """
dataA/dataA/CameraRGB/02_00_000.png   (or dataA/CameraRGB/…, Train/CameraRGB/…;
dataA/dataA/CameraSeg/02_00_000.png    or PATH is one part and holds CameraRGB itself)
dataB/dataB/…
"""
    classes: tuple[str, ...] = carla.CLASSES
    palette: np.ndarray = carla.PALETTE
    _max_depth: ClassVar[int] = 3

    def __init__(
        self, root: Path, *, hood_void: bool, merge_road_lines: bool, split: Parts | Holdout
    ) -> None:
        self.root = root
        self._hood_void = hood_void
        self._split = split
        self._table = id_table(len(carla.CLASSES))
        self._vehicle = carla.VEHICLE
        if merge_road_lines:
            keep = [i for i in range(len(carla.CLASSES)) if i != carla.ROAD_LINE]
            self._table[keep] = np.arange(len(keep))
            self._table[carla.ROAD_LINE] = self._table[carla.ROAD]
            self._vehicle = keep.index(carla.VEHICLE)
            self.classes = tuple(carla.CLASSES[i] for i in keep)
            self.palette = carla.PALETTE[keep]

    @override
    def options(self) -> dict[str, Any]:
        return super().options() | {"hood_void": self._hood_void}

    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """See :meth:`Source.labels_from`; a grey mask is read as its red channel."""
        labels = lookup(mask if mask.ndim == 2 else mask[..., 0], self._table)
        if self._hood_void:
            top = round(HOOD_TOP * labels.shape[0])
            labels[top:][labels[top:] == self._vehicle] = VOID
        return labels

    @override
    def splits(self) -> Mapping[SplitName, list[Frame]]:
        return self._split.split(self._recordings())

    def _recordings(self) -> list[Recording]:
        recordings: dict[tuple[str, str], list[Frame]] = {}
        problems = Problems(self.name, self.root)
        num_files = 0
        for part, folder in self._parts().items():
            images, masks = _by_stem(folder / IMAGES, problems), _by_stem(folder / MASKS, problems)
            num_files += len(images) + len(masks)
            for stem in images.keys() - masks.keys():
                problems.add(images[stem], f"has no partner in {MASKS}")
            for stem in masks.keys() - images.keys():
                problems.add(masks[stem], f"has no partner in {IMAGES}")
            for stem in sorted(images.keys() & masks.keys(), key=lambda s: natural_order(Path(s))):
                recording = (part, stem.rpartition("_")[0])
                frame = Frame(f"{part}/{stem}", images[stem], masks[stem])
                recordings.setdefault(recording, []).append(frame)
        problems.raise_if_any(
            num_files, "fetch these files again, or take the ones without partner away"
        )
        return [Recording(part, frames) for (part, _), frames in recordings.items()]

    def _parts(self) -> dict[str, Path]:
        """Folders that hold ``CameraRGB``, by the name of the part."""
        pattern = IMAGES
        folders: list[Path] = []
        for _ in range(self._max_depth):
            folders += [path.parent for path in self.root.glob(pattern) if path.is_dir()]
            pattern = f"*/{pattern}"
        if not folders:
            raise DataError(
                f"{self.name}: no folder {IMAGES} in {self.root}, down to {self._max_depth} "
                f"levels\n{expected_layout(type(self))}"
            )
        folders.sort(key=natural_order)
        parts: dict[str, Path] = {}
        for folder in folders:
            name = folder.name
            if name in parts:
                name = folder.relative_to(self.root).as_posix()
            parts[name] = folder
        return parts


def build(config: LyftData, cache: Path, progress: Progress | None) -> LyftSource:
    """The source that a config describes."""
    return LyftSource(
        required_folder(config.path, LyftSource),
        hood_void=config.hood_void,
        merge_road_lines=config.merge_road_lines,
        split=split_rule(config.split),
    )


def _by_stem(folder: Path, problems: Problems) -> dict[str, Path]:
    """Picture files of a folder by name without suffix; files of other kinds are passed over."""
    files: dict[str, Path] = {}
    allowed = LOSSLESS_SUFFIXES if folder.name == MASKS else PICTURE_SUFFIXES
    if not folder.is_dir():
        return files
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in allowed or path.name.startswith("."):
            continue
        if path.stem in files:
            problems.add(path, f"two files of this name: also {files[path.stem].name}")
        files[path.stem] = path
    return files
