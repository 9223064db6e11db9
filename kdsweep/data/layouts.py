"""Which layout a folder has, and the ``data:`` section that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdsweep.data.folder_frames import SPLIT_NAMES
from kdsweep.data.pairing import LOSSLESS_SUFFIXES, common_ending, picture_files
from kdsweep.errors import DataError

# (image, mask, split) below the folder, as the columns of a list of pairs.
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Layout:
    """A layout that was recognised.

    Attributes:
        name: What it is called.
        section: Keys of the ``data:`` section beside ``path`` and ``image_size``.
        rows: Pairs of files with their split, where no keys describe them.
    """

    name: str
    section: dict[str, Any]
    rows: list[Row] = field(default_factory=list)


def recognise(root: Path) -> Layout:
    """Return the layout of a folder.

    Raises:
        DataError: It is none that is known; says what was looked for and what is there.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "is not there"
        raise DataError(f"{root} {what}")
    for look in (_published, _named_folders, _splits_first):
        layout = look(root)
        if layout is not None:
            return layout
    there = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    shown = ", ".join(there[:12]) + (", …" if len(there) > 12 else "")
    raise DataError(
        f"{root}: no layout that is known\n"
        f"  there:   {shown or 'nothing'}\n"
        "  known:   camvid, lyft, cityscapes; images and masks in two folders (images/ masks/, "
        "img_dir/ ann_dir/, JPEGImages/ SegmentationClass/, …), or in two folders of each split\n"
        "  try:     name the folders (--set data.images=… --set data.masks=…), or list the files "
        "(--set data.pairs=FILE.csv)"
    )


def _published(root: Path) -> Layout | None:
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return Layout("Cityscapes", {"source": "cityscapes"})
    for folder in (root, root / "CamVid"):
        if (folder / "train").is_dir() and (folder / "trainannot").is_dir():
            stems = [picture_files(folder / name) for name in ("trainannot", "train")]
            ending = None if stems[0].keys() & stems[1].keys() else common_ending(*stems)
            more = {"mask_suffix": ending} if ending else {}
            return Layout("CamVid as SegNet has it", {"source": "camvid", **more})
    if any(True for depth in ("", "*/", "*/*/") for _ in root.glob(f"{depth}CameraSeg")):
        return Layout("Lyft-Udacity challenge", {"source": "lyft"})
    return None


# Folders of images and of masks, by the tool or data set that calls them so.
_FOLDERS: tuple[tuple[str, str, str], ...] = (
    ("images and masks in two folders", "images", "masks"),
    ("mmsegmentation", "img_dir", "ann_dir"),
    ("BDD100K", "images/10k", "labels/sem_seg/masks"),
    ("BDD100K", "images/10k", "labels/sem_seg"),
    ("CamVid with its original 32 colours", "701_StillsRaw_full", "LabeledApproved_full"),
    ("Pascal VOC, or an export of CVAT or LabelMe", "JPEGImages", "SegmentationClass"),
    ("an export of LabelMe", "JPEGImages", "SegmentationClassPNG"),
    ("ADE20K", "images", "annotations"),
)
_IMAGES = ("images", "image", "imgs", "img", "rgb", "leftImg8bit", "CameraRGB", "frames")
_MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annots", "annot", "gt", "gtFine"),
    *("segmentation", "seg", "ann", "ground_truth", "CameraSeg"),
)


def _named_folders(root: Path) -> Layout | None:
    others = (
        ("images and masks in two folders", image, mask) for image in _IMAGES for mask in _MASKS
    )
    for name, images, masks in (*_FOLDERS, *others):
        if (root / images).is_dir() and (root / masks).is_dir():
            return _two_folders(root, name, images, masks)
    return None


def _two_folders(root: Path, name: str, images: str, masks: str) -> Layout:
    section: dict[str, Any] = {"source": "folder"}
    if (images, masks) != ("images", "masks"):
        section |= {"images": images, "masks": masks}
    found = picture_files(root / images), picture_files(root / masks, LOSSLESS_SUFFIXES)
    if not found[0].keys() & found[1].keys():
        for key, one, other in (("mask_suffix", 1, 0), ("image_suffix", 0, 1)):
            ending = common_ending(found[one], found[other])
            if ending is not None:
                section[key] = ending
                break
    rows = list(_voc_rows(root, images, masks)) if "VOC" in name else []
    if {"train", "val"} <= {split for _, _, split in rows}:
        return Layout(name, {"source": "folder"}, rows)
    return Layout(name, section)


def _voc_rows(root: Path, images: str, masks: str) -> Iterator[Row]:
    """The lists of ``ImageSets``, of which ``SegmentationClass`` may be a part."""
    listed = picture_files(root / images)
    for split in ("train", "val", "test"):
        for folder in ("Segmentation", "Main"):
            names = root / "ImageSets" / folder / f"{split}.txt"
            if not names.is_file():
                continue
            for line in names.read_text(encoding="utf-8-sig").split():
                mask = root / masks / f"{line}.png"
                if line in listed and mask.is_file():
                    yield _row(root, listed[line], mask, split)
            break


def _splits_first(root: Path) -> Layout | None:
    """``training/images``, ``training/v1.2/labels`` (Mapillary Vistas) and the like."""
    rows: list[Row] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            continue
        masks_in = [*_MASKS, "v2.0/labels", "v1.2/labels"]
        pairs = ((image, mask) for image in _IMAGES for mask in masks_in)
        for image, mask in pairs:
            if (folder / image).is_dir() and (folder / mask).is_dir():
                images = picture_files(folder / image)
                masks = picture_files(folder / mask, LOSSLESS_SUFFIXES)
                ending = "" if images.keys() & masks.keys() else common_ending(masks, images) or ""
                rows += [
                    _row(root, images[stem], masks[stem + ending], split)
                    for stem in sorted(images)
                    if stem + ending in masks
                ]
                break
    if not {"train", "val"} <= {split for _, _, split in rows}:
        return None
    return Layout("two folders of each split", {"source": "folder"}, rows)


def _row(root: Path, image: Path, mask: Path, split: str) -> Row:
    return image.relative_to(root).as_posix(), mask.relative_to(root).as_posix(), split
