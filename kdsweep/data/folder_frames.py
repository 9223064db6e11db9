"""The frames of a user's own folder: images and masks paired by name, or by a list."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kdsweep.config.data import FolderData
from kdsweep.data.file_errors import Problems
from kdsweep.data.pairing import (
    LOSSLESS_SUFFIXES,
    PICTURE_SUFFIXES,
    advice,
    picture_files,
    without_ending,
)
from kdsweep.data.source import Frame, SplitName
from kdsweep.data.splitting import natural_order
from kdsweep.errors import DataError

# What people call the parts of their own split.
SPLIT_NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass
class FolderFrames:
    """What was found.

    Attributes:
        frames: In the order of their names.
        own_splits: The split of each frame by name, where the folder or list has its own.
        remarks: What should be said about it.
    """

    frames: list[Frame]
    own_splits: dict[str, SplitName] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def part_of(name: str) -> str:
    """Return the part that a frame belongs to: the first folder of its name."""
    return name.split("/")[0] if "/" in name else "."


def find_frames(config: FolderData, root: Path) -> FolderFrames:
    """Return the frames that a section describes.

    Raises:
        DataError: Folders or files are missing, or have no partner; all problems in one message.
    """
    if config.pairs is not None:
        return _listed(Path(config.pairs), root, skip=config.skip_unlabelled)
    problems = Problems("folder", root)
    images = picture_files(root / config.images, PICTURE_SUFFIXES, problems)
    masks = picture_files(root / config.masks, LOSSLESS_SUFFIXES, problems)
    images = without_ending(images, config.image_suffix)
    masks = without_ending(masks, config.mask_suffix)
    found = FolderFrames([])
    unlabelled = sorted(images.keys() - masks.keys())
    if config.skip_unlabelled:
        left_out = unlabelled
    else:  # a test split without masks is as published
        names = {SPLIT_NAMES.get(part_of(name)) for name in unlabelled}
        labelled = {SPLIT_NAMES.get(part_of(name)) for name in images.keys() & masks.keys()}
        left_out = unlabelled if names == {"test"} and {"train", "val"} <= labelled else []
    if left_out:
        found.remarks.append(
            f"{len(left_out)} images have no mask: not used with labels (first: {left_out[0]})"
        )
    for stem in images.keys() - masks.keys() - set(left_out):
        problems.add(images[stem], f"has no partner {config.masks}/{stem}.png")
    for stem in masks.keys() - images.keys():
        problems.add(masks[stem], f"has no partner {config.images}/{stem}.*")
    problems.raise_if_any(len(images) + len(masks), _how_to_pair(config, root, images, masks))
    stems = sorted(images.keys() & masks.keys(), key=lambda stem: natural_order(Path(stem)))
    found.frames = [Frame(stem, images[stem], masks[stem]) for stem in stems]
    parts = {part_of(stem) for stem in stems}
    if parts <= SPLIT_NAMES.keys() and {"train", "val"} <= {SPLIT_NAMES[part] for part in parts}:
        found.own_splits = {stem: SPLIT_NAMES[part_of(stem)] for stem in stems}
    return found


def _how_to_pair(
    config: FolderData, root: Path, images: Mapping[str, Path], masks: Mapping[str, Path]
) -> str:
    """What to do about files without partners."""
    if not masks and picture_files(root / config.masks):
        return (
            "save masks as PNG: JPEG changes the ids of pixels, at borders most of all, and what "
            "they were cannot be told afterwards"
        )
    if not images.keys() & masks.keys() and (key := advice(images, masks)):
        return key
    suffixes = ", ".join(sorted(LOSSLESS_SUFFIXES))
    return (
        f"give image and mask the same name, and masks one of {suffixes}; "
        "images without labels are left out by skip_unlabelled: true"
    )


def _listed(file: Path, root: Path, *, skip: bool) -> FolderFrames:
    """The frames that a CSV file names."""
    problems = Problems("folder", root)
    found = FolderFrames([])
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"folder: the list of pairs {file} cannot be read: {error}") from None
    columns = list(rows[0]) if rows else []
    if not {"image", "mask"} <= set(columns):
        raise DataError(
            f"folder: {file} has the columns {', '.join(map(str, columns)) or '(none)'}\n"
            "  allowed: image, mask, and perhaps split (train, val or test), with commas between"
        )
    num_left_out = 0
    for line, row in enumerate(rows, 2):
        image, mask, split = ((row.get(key) or "").strip() for key in ("image", "mask", "split"))
        if not mask and skip:
            num_left_out += 1
            continue
        if not image or not mask:
            problems.add(file, f"line {line} names no {'mask' if image else 'image'}")
            continue
        paths = _below(root, image), _below(root, mask)
        missing = [path for path in paths if not path.is_file()]
        for path in missing:
            problems.add(path, f"named in line {line} of {file.name}, but is not there")
        if split and split not in SPLIT_NAMES:
            problems.add(file, f"line {line}: {split!r} is not train, val or test")
        elif not missing:
            # The same on every machine, so not with the folders above the data set's.
            inside = paths[0].is_relative_to(root)
            stem = paths[0].relative_to(root) if inside else PurePosixPath(image.replace("\\", "/"))
            name = unicodedata.normalize("NFC", stem.with_suffix("").as_posix())
            found.frames.append(Frame(name, *paths))
            if split:
                found.own_splits[name] = SPLIT_NAMES[split]
    if found.own_splits and len(found.own_splits) < len(found.frames):
        problems.add(file, "the column split is empty in some lines and not in others")
    times = Counter(frame.name for frame in found.frames)
    for name in (name for name, count in times.items() if count > 1):
        problems.add(file, f"names the image {name} twice")
    problems.raise_if_any(2 * len(rows), "correct the list; its paths are relative to `path`")
    if num_left_out:
        found.remarks.append(f"{num_left_out} images have no mask: not used with labels")
    return found


def _below(root: Path, name: str) -> Path:
    """A path as a list has it, which may come from Windows."""
    path = root / name
    return path if path.exists() else root / name.replace("\\", "/")
