"""A user's own data: ``images/`` and ``masks/`` with the same names, and a ``classes.yaml``.

Masks are 8-bit files of ids, palette files (their indices are the ids) or coloured files (matched
against the palette of ``classes.yaml``). First-level subfolders of ``images/`` are the parts that a
split can name; each of them counts as one recording.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from kdsweep.config.data import FolderData
from kdsweep.data.classes_file import ClassTable, default_palette, read_classes
from kdsweep.data.file_errors import Problems
from kdsweep.data.fingerprint import file_facts, fingerprint
from kdsweep.data.pictures import (
    LOSSLESS_SUFFIXES,
    PICTURE_SUFFIXES,
    FrameError,
    mask_palette,
    read_mask,
)
from kdsweep.data.source import (
    Frame,
    Progress,
    Source,
    SplitName,
    expected_layout,
    required_folder,
)
from kdsweep.data.splitting import Holdout, Parts, Recording, natural_order, split_rule
from kdsweep.errors import DataError
from kdsweep.labels import VOID

IMAGES, MASKS, CLASSES = "images", "masks", "classes.yaml"


class FolderSource(Source):
    """Reads images and masks of the same name.

    Args:
        root: Folder that holds ``images/`` and ``masks/``.
        split: By part, or a hold-out of contiguous blocks.
        cache: Where the outcome of a look through all masks is kept, which is needed where there
            is no ``classes.yaml``.
    """

    name = "folder"
    layout = """
images/0001.jpg    (subfolders allowed: images/town/0001.jpg with masks/town/0001.png)
masks/0001.png     8-bit ids, a palette file, or colours listed in classes.yaml
classes.yaml       names: [road, car, …]   palette: [[128, 64, 128], …]   void: 255   (optional)
"""

    def __init__(self, root: Path, *, split: Parts | Holdout, cache: Path) -> None:
        self.root = root
        self._split = split
        for folder in (IMAGES, MASKS):
            if not (root / folder).is_dir():
                raise DataError(
                    f"folder: no folder {folder} in {root}\n{expected_layout(type(self))}"
                )
        self._frames = self._paired()
        classes = root / CLASSES
        if classes.is_file():
            self._table = read_classes(classes)
        else:
            self._table = _guessed_classes([f.mask for f in self._frames], root, cache)
        self.classes = self._table.names
        self.palette = self._table.palette

    @override
    def options(self) -> dict[str, Any]:
        table = self._table
        return super().options() | {
            "ids": table.ids,
            "void": [table.void_ids, table.void_colours],
            "palette": table.palette.tolist() if table.coloured else None,
        }

    @override
    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        return self._table.labels_from(mask)

    @override
    def splits(self) -> Mapping[SplitName, list[Frame]]:
        recordings: dict[str, list[Frame]] = {}
        for frame in self._frames:
            part = frame.name.split("/")[0] if "/" in frame.name else "."
            recordings.setdefault(part, []).append(frame)
        return self._split.split([Recording(part, f) for part, f in recordings.items()])

    def _paired(self) -> list[Frame]:
        problems = Problems(self.name, self.root)
        images = self._files(IMAGES, PICTURE_SUFFIXES, problems)
        masks = self._files(MASKS, LOSSLESS_SUFFIXES, problems)
        for stem in images.keys() - masks.keys():
            problems.add(images[stem], f"has no partner {MASKS}/{stem}.png")
        for stem in masks.keys() - images.keys():
            problems.add(masks[stem], f"has no partner {IMAGES}/{stem}.*")
        problems.raise_if_any(
            len(images) + len(masks),
            "give image and mask the same name, and masks one of "
            + ", ".join(sorted(LOSSLESS_SUFFIXES)),
        )
        stems = sorted(images, key=lambda stem: natural_order(Path(stem)))
        return [Frame(stem, images[stem], masks[stem]) for stem in stems]

    def _files(self, kind: str, suffixes: frozenset[str], problems: Problems) -> dict[str, Path]:
        """Picture files by their path below ``kind`` without suffix."""
        files: dict[str, Path] = {}
        for path in sorted((self.root / kind).rglob("*")):
            if path.suffix.lower() not in suffixes or path.name.startswith("."):
                continue
            stem = path.relative_to(self.root / kind).with_suffix("").as_posix()
            if stem in files:
                problems.add(path, f"two files of this name: also {files[stem].name}")
            files[stem] = path
        return files


def listed_classes(path: str | None) -> tuple[str, ...] | None:
    """Class names of a folder that lists them, without a look at its frames.

    Returns:
        Names by class id; ``None`` if there is no such folder or it has no ``classes.yaml``.

    Raises:
        DataError: The file is there and cannot be used.
    """
    if path is None or not (Path(path) / CLASSES).is_file():
        return None
    return read_classes(Path(path) / CLASSES).names


def build(config: FolderData, cache: Path, progress: Progress | None) -> FolderSource:
    """The source that a config describes."""
    return FolderSource(
        required_folder(config.path, FolderSource), split=split_rule(config.split), cache=cache
    )


def _guessed_classes(masks: list[Path], root: Path, cache: Path) -> ClassTable:
    """Classes ``class_0`` … up to the highest id in any mask, 255 apart."""
    kept = cache / "classes" / f"{fingerprint(file_facts(masks, root))}.json"
    try:
        highest = json.loads(kept.read_text(encoding="utf-8"))["highest_id"]
    except (OSError, ValueError, KeyError):
        highest = _highest_id(masks, root)
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({"highest_id": highest}), encoding="utf-8")
        draft.replace(kept)
    num_classes = highest + 1
    stored = mask_palette(masks[0])
    colours = default_palette(num_classes)
    if stored is not None and len(stored) >= num_classes:
        colours = stored[:num_classes]
    names = tuple(f"class_{i}" for i in range(num_classes))
    return ClassTable(names, colours, tuple(range(num_classes)))


def _highest_id(masks: list[Path], root: Path) -> int:
    """The highest id in any mask but 255."""
    problems = Problems("folder", root)

    def highest(path: Path) -> int | FrameError:
        try:
            mask = read_mask(path)
        except FrameError as problem:
            return problem
        if mask.ndim == 3 and not (mask == mask[..., :1]).all():
            return FrameError(path, "holds colours, and there is no classes.yaml to name them")
        ids = mask[mask != VOID]
        return int(ids.max()) if ids.size else -1

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(highest, masks))
    for outcome in found:
        if isinstance(outcome, FrameError):
            problems.add_frame(outcome)
    problems.raise_if_any(len(masks), f"repair these files, or write {root / CLASSES}")
    best = max((o for o in found if isinstance(o, int)), default=-1)
    if best < 0:
        raise DataError(
            f"folder: no labelled pixel in {root / MASKS} ({len(masks)} masks)\n"
            f"{expected_layout(FolderSource)}"
        )
    return best
