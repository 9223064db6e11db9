"""A user's own data: images and masks of the same names, and a ``classes.yaml``.

Masks are files of ids, palette files or coloured files. First-level subfolders are the parts that
a split can name; each of them counts as one recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from kdsweep.config.data import BaseDataConfig, FolderData
from kdsweep.config.splits import HoldoutConfig
from kdsweep.data.classes_file import ClassTable, class_table, classes_file, read_classes
from kdsweep.data.fingerprint import file_facts, fingerprint, kept_json
from kdsweep.data.folder_frames import find_frames, part_of
from kdsweep.data.guessed_classes import guessed_classes
from kdsweep.data.merging import merged_classes
from kdsweep.data.palettes import as_colours, check_indices, find_difference
from kdsweep.data.pictures import FrameError, read_mask
from kdsweep.data.source import (
    Frame,
    Progress,
    Source,
    SplitName,
    expected_layout,
    required_folder,
)
from kdsweep.data.splitting import Recording, evenly_spaced, split_rule
from kdsweep.errors import ConfigError, DataError
from kdsweep.labels import VOID


class FolderSource(Source):
    """Reads images and masks of the same name.

    Args:
        config: Where they are, and how they are split.
        cache: Where the outcome of a look through all masks is kept, which is needed where there
            is no ``classes.yaml``.
    """

    name = "folder"
    repair = (
        "repair or remove these files, or say in classes.yaml what values that are missing there "
        "are (void: [11, 255]), then run again"
    )
    layout = """
images/0001.jpg    (subfolders allowed: images/town/0001.jpg with masks/town/0001.png)
masks/0001.png     8-bit ids, a palette file, or colours listed in classes.yaml
classes.yaml       names: [road, car, …]   palette: [[128, 64, 128], …]   void: 255   (optional)
"""

    def __init__(self, config: FolderData, root: Path, cache: Path) -> None:
        self.root = root
        self._cache = cache
        self._split = config.split
        for folder in () if config.pairs else (config.images, config.masks):
            if not (root / folder).is_dir():
                raise DataError(
                    f"folder: no folder {folder} in {root}\n{expected_layout(type(self))}"
                )
        found = find_frames(config, root)
        self._frames, self._own_splits = found.frames, found.own_splits
        masks = [frame.mask for frame in self._frames]
        self._table, remarks = self._classes(config, masks, cache)
        if "unknown_ids" in config.accept:
            self._table = replace(self._table, others_are_void=True)
            self.caveats = ("ids and colours that stand for no class are void, as was accepted",)
        self.own_classes = config.makes_classes or classes_file(root) is not None
        self._difference = find_difference(masks, root)
        if not self._table.colours and "differing_palettes" not in config.accept:
            check_indices(self._difference, root)
        if self._own_splits and self._split == "auto":
            remarks = [*remarks, "the split is the folder's own"]
        self.remarks = (*found.remarks, *remarks)
        self.classes = self._table.names
        self.palette = self._table.palette

    def _classes(
        self, config: FolderData, masks: list[Path], cache: Path
    ) -> tuple[ClassTable, list[str]]:
        file = classes_file(self.root)
        if config.makes_classes:
            if file is not None:
                raise ConfigError(
                    f"{file.name} says what the masks hold, so classes are merged by name",
                    path=("data", "classes"),
                    value=config.classes,
                    allowed=f"names out of {', '.join(read_classes(file).names)}",
                )
            return class_table(config.classes, "data.classes"), []
        if file is not None:
            return read_classes(file), []
        return guessed_classes(masks, self.root, cache)

    @override
    def options(self) -> dict[str, Any]:
        table = self._table
        return super().options() | {
            "ids": sorted(table.ids.items()),
            "colours": sorted(table.colours.items()),
            **({"others_are_void": True} if table.others_are_void else {}),
        }

    @override
    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        return self._table.labels_from(mask)

    @override
    def read_values(self, path: Path) -> np.ndarray:
        values = super().read_values(path)
        if not self._table.colours:
            return values
        return as_colours(path, values, self._table, alike=self._difference is None)

    @override
    def explain_masks(self) -> str | None:
        pixels = np.zeros(256, np.int64)
        for frame in evenly_spaced(self._frames, 50):
            values = read_mask(frame.mask)
            if values.ndim == 3:
                return None
            pixels += np.bincount(values.ravel(), minlength=256)
        held = [int(value) for value in np.flatnonzero(pixels)]
        shares = ", ".join(
            f"{value} ({pixels[value] / pixels.sum():.0%}"
            + (", void)" if self._table.ids.get(value) == VOID else ")")
            for value in held[:20]
        )
        text = f"the masks hold {shares}" + (", …" if len(held) > 20 else "")
        if held == [0, VOID] and len(self.classes) == 2:
            text += f"; names: {{0: {self.classes[0]}, 255: {self.classes[1]}}} in classes.yaml"
        return text

    @override
    def splits(self) -> Mapping[SplitName, list[Frame]]:
        if self._split == "auto" and self._own_splits:
            found: dict[SplitName, list[Frame]] = {}
            for frame in self._frames:
                found.setdefault(self._own_splits[frame.name], []).append(frame)
            return found
        if self._split == "auto":
            rule = split_rule(HoldoutConfig(), self._classes_in if self.draws_by_class else None)
        else:  # as it was before it looked at classes, so that old experiments keep their split
            rule = split_rule(self._split)
        recordings: dict[str, list[Frame]] = {}
        for frame in self._frames:
            recordings.setdefault(part_of(frame.name), []).append(frame)
        return rule.split([Recording(part, frames) for part, frames in recordings.items()])

    def _classes_in(self, frames: Sequence[Frame]) -> list[frozenset[int]]:
        """The classes of each frame; what cannot be read is said when it is decoded."""
        facts = [file_facts([frame.mask for frame in frames], self.root), self.options()]
        kept = self._cache / "classes" / f"{fingerprint(facts)}.json"
        return [frozenset(found) for found in kept_json(kept, lambda: self._look(frames))]

    def _look(self, frames: Sequence[Frame]) -> list[list[int]]:
        def look(frame: Frame) -> list[int]:
            try:
                labels = self.read_labels(frame.mask)
            except FrameError:
                return []
            held = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
            return [int(value) for value in held if value != VOID]

        with ThreadPoolExecutor() as threads:
            return list(threads.map(look, frames))


def listed_classes(config: BaseDataConfig) -> tuple[str, ...] | None:
    """Return class names of a ``folder`` that lists them, without a look at its frames.

    Returns:
        Names by class id; ``None`` if it is another source, or the folder has no ``classes.yaml``.

    Raises:
        DataError: The file is there and cannot be used.
        ConfigError: ``classes`` names others.
    """
    file = None
    if isinstance(config, FolderData) and config.path is not None:
        file = classes_file(Path(config.path))
    if file is None:
        return None
    names = read_classes(file).names
    return names if config.classes is None else merged_classes(names, config.classes)[0]


def build(config: FolderData, cache: Path, progress: Progress | None) -> FolderSource:
    """Return the source that a config describes."""
    return FolderSource(config, required_folder(config.path, FolderSource), cache)
