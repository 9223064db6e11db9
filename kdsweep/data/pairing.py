"""Finding the picture files below a folder, and the mask of each image."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kdsweep.data.file_errors import Problems

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
LOSSLESS_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})


def picture_files(
    folder: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES, problems: Problems | None = None
) -> dict[str, Path]:
    """Return the pictures below a folder by their path in it, without suffix.

    Linked folders are followed; hidden files and folders (``.ipynb_checkpoints``) are passed over.
    Names that look equal are equal, however their accents are composed (Unicode NFC).

    Args:
        folder: Where to look.
        suffixes: Lower-case suffixes of what counts.
        problems: Takes names that two files have.
    """
    files: dict[str, Path] = {}
    for path in sorted(walk(folder)):
        if path.suffix.lower() not in suffixes:
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        stem = unicodedata.normalize("NFC", stem)
        if stem in files and problems is not None:
            problems.add(path, f"two files of this name: also {files[stem].name}")
        files[stem] = path
    return files


def walk(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Yield the files below a folder, also through links, but for what is hidden.

    Args:
        folder: Where to begin.
        above: Device and inode of the folders around it, which links may lead back to.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder around it
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                yield from walk(Path(entry.path), above | {here})
            elif entry.is_file():
                yield Path(entry.path)


def without_ending(files: Mapping[str, Path], ending: str | None) -> dict[str, Path]:
    """Return files by their names without an ending; those that do not have it keep theirs."""
    return {name.removesuffix(ending or ""): path for name, path in files.items()}


def common_ending(names: Iterable[str], partners: Iterable[str]) -> str | None:
    """Return the ending that most of ``names`` have beyond those of their partners.

    ``a_mask, b_mask`` with the partners ``a, b`` have ``_mask``.
    """
    known = set(partners)
    endings: Counter[str] = Counter()
    names = list(names)
    for name in names:
        # The longest partner that begins the name: 1_2_mask belongs to 1_2, not to 1.
        for end in range(len(name) - 1, 0, -1):
            if name[:end] in known:
                endings[name[end:]] += 1
                break
    if not endings:
        return None
    ending, count = endings.most_common(1)[0]
    return ending if 2 * count > len(names) else None


def advice(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str | None:
    """Return which key would pair files of which none has a partner, if one would."""
    if ending := common_ending(masks, images):
        return f"mask_suffix: {ending} in the `data:` section (masks are called NAME{ending})"
    if ending := common_ending(images, masks):
        return f"image_suffix: {ending} in the `data:` section (images are called NAME{ending})"
    return None
