"""``kdsweep data PATH``: from a folder that nobody has described yet to what it holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsweep.config import load_job
from kdsweep.config.data import DataConfig, FolderData
from kdsweep.config.document import Document
from kdsweep.config.loading import JOB_KEYS
from kdsweep.config.overrides import set_value
from kdsweep.data.cache import writing_cache
from kdsweep.data.classes_file import classes_file
from kdsweep.data.dataset import open_data
from kdsweep.data.fingerprint import default_cache, fingerprint
from kdsweep.data.folder_frames import SPLIT_NAMES, find_frames, part_of
from kdsweep.data.guessed_classes import listed
from kdsweep.data.health import Health, look_through
from kdsweep.data.layouts import Layout, Row, recognise
from kdsweep.data.mask_values import MaskValues, look_at
from kdsweep.data.pairing import picture_files
from kdsweep.data.pictures import FrameError, needed_bits, usual_size
from kdsweep.data.source import Progress, build_source
from kdsweep.data.splitting import evenly_spaced
from kdsweep.errors import ConfigError, DataError

_LONG_SIDE, _STRIDE = 512, 32
_SIZED = 25
_LAYOUT_KEYS = ("data.images=", "data.masks=", "data.pairs=")


@dataclass(frozen=True)
class Look:
    """A data set that was looked at.

    Attributes:
        layout: What its layout is called.
        section: The ``data:`` section that reads it.
        values: What its masks hold.
        health: What is in it, and what is wrong.
        table: A ``classes.yaml`` to begin with, where there is none.
        rows: Pairs of files, where the section needs a list of them.
        unlabelled: A folder with pictures that no mask belongs to, where one was looked for.
    """

    layout: str
    section: dict[str, Any]
    values: MaskValues
    health: Health
    table: dict[str, Any] | None
    rows: list[Row]
    unlabelled: Path | None = None
    num_unlabelled: int = 0


def look_at_folder(
    root: Path,
    image_size: tuple[int, int] | None = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    *,
    with_unlabelled: bool = False,
) -> Look:
    """Recognise a folder's layout, decode its frames and look through them.

    Args:
        root: The folder.
        image_size: (height, width) in pixels that frames are resized to; by most of the frames if
            left out: at most 512, multiples of 32.
        overrides: Keys of the ``data:`` section that are known, as ``data.KEY=VALUE``; with
            ``images``, ``masks`` or ``pairs`` no layout is looked for.
        progress: Called with what is being done, how many frames are done and how many there are.
        with_unlabelled: Whether to look for pictures without masks too, which are an error else.

    Raises:
        DataError: There is no layout that is known, or files cannot be read.
        ConfigError: A key is unknown, or its value not allowed.
    """
    root = root.expanduser().resolve()
    is_named = any(text.startswith(_LAYOUT_KEYS) for text in overrides)
    layout = Layout("as it was named", {"source": "folder"}) if is_named else recognise(root)
    document = Document({"data": {**layout.section, "path": str(root)}})
    for text in overrides:
        if not text.startswith("data."):
            raise ConfigError("only keys of data can be set here", file=f"--set {text}")
        set_value(document, text, JOB_KEYS)
    section: dict[str, Any] = document.tree["data"]
    is_own = section["source"] == "folder"
    if layout.rows:
        section["pairs"] = str(_kept_rows(layout.rows))
    unlabelled = _unlabelled(root, section) if with_unlabelled else (None, 0)
    table = values = None
    if is_own:
        masks = _masks(root, section)
        try:
            values = look_at(masks, every=classes_file(root) is None)
        except FrameError as error:
            raise DataError(f"{error}") from None
        if classes_file(root) is None and "classes" not in section:
            table = values.table()
            if not table["names"]:
                raise DataError(
                    f"folder: no labelled pixel in {len(masks)} masks of {root}: "
                    f"they hold nothing but {listed(sorted(values.ids)) or 'black'}, which is void"
                )
            section["classes"] = _as_classes(table)
    section["image_size"] = list(image_size or (_STRIDE, _STRIDE))
    frames = build_source(_config(section), default_cache(), None).splits()
    images = [frame.image for split in frames.values() for frame in split]
    some = evenly_spaced(images, _SIZED)
    if image_size is None and (size := usual_size(some)) is not None:
        section["image_size"] = list(_image_size(size))
    if (bits := needed_bits(images)) > 8:
        section["image_bits"] = bits
    data = open_data(_config(section), progress)
    if values is None:
        values = look_at([frame.mask for frame in frames["train"]])
    return Look(layout.name, section, values, look_through(data), table, layout.rows, *unlabelled)


def write_rows(rows: list[Row]) -> str:
    """Return pairs of files as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("image", "mask", "split"), *rows])
    return text.getvalue()


def _config(section: dict[str, Any]) -> DataConfig:
    """The section, checked as that of a job is."""
    return load_job({"data": section, "student": {}, "train": {"epochs": 1}}).data


def _masks(root: Path, section: dict[str, Any]) -> list[Path]:
    config = _config({**section, "image_size": [_STRIDE, _STRIDE]})
    assert isinstance(config, FolderData)
    for folder in () if config.pairs else (config.images, config.masks):
        if not (root / folder).is_dir():
            raise DataError(f"folder: no folder {folder} in {root}")
    found = [frame.mask for frame in find_frames(config, root).frames]
    if not found:
        raise DataError(f"folder: no masks in {root}")
    return found


def _unlabelled(root: Path, section: dict[str, Any]) -> tuple[Path | None, int]:
    """The folder with pictures that no mask belongs to, which the section then skips."""
    for name in ("unlabelled", "unlabeled"):
        if (root / name).is_dir() and (pictures := picture_files(root / name)):
            return root / name, len(pictures)
    if section["source"] != "folder":  # published sets name all of their frames
        return None, 0
    config = _config({**section, "image_size": [_STRIDE, _STRIDE], "skip_unlabelled": True})
    assert isinstance(config, FolderData)
    if config.pairs or not (root / config.images).is_dir():
        return None, 0
    if not (root / config.masks).is_dir():
        return None, 0
    labelled = {frame.image for frame in find_frames(config, root).frames}
    # A test split without masks is as published, and not to be learnt from.
    num = sum(
        path not in labelled and SPLIT_NAMES.get(part_of(name)) != "test"
        for name, path in picture_files(root / config.images).items()
    )
    if not num or not labelled:  # without any pair the message on names says more
        return None, 0
    section["skip_unlabelled"] = True
    return root / config.images, num


def _kept_rows(rows: list[Row]) -> Path:
    text = write_rows(rows)
    folder = default_cache() / "pairs"
    path = folder / f"{fingerprint(rows)}.csv"
    with writing_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def _as_classes(table: dict[str, Any]) -> dict[str, Any]:
    """A table of names as ``data.classes`` has it."""
    names, void = table["names"], table.get("void")
    if "palette" in table:
        members = {name: [colour] for name, colour in zip(names, table["palette"], strict=True)}
    else:
        members = {name: [value] for value, name in names.items()}
    return members if void is None else {**members, "void": void}


def _image_size(size: tuple[int, int]) -> tuple[int, int]:
    """A size of the shape of an image, which networks of stride 32 take."""
    scale = min(1.0, _LONG_SIDE / max(size))
    tall, wide = (max(1, int(side * scale / _STRIDE)) * _STRIDE for side in size)
    return tall, wide
