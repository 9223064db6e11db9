"""The reader of a user's own data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import make_data
import numpy as np
import pytest

from kdsweep.config.data import FolderData
from kdsweep.config.splits import HoldoutConfig, PartsConfig
from kdsweep.data.pictures import FrameError
from kdsweep.data.sources.folder import FolderSource
from kdsweep.errors import DataError
from kdsweep.labels import VOID

STEMS = [f"{i}" for i in range(4)]
HALF = HoldoutConfig(val=0.5, block=1)
NAMED = "names: [road, car, person]\n"


def _source(root: Path, cache: Path, split: Any = HALF, **keys: Any) -> FolderSource:
    config = FolderData(source="folder", image_size=(8, 8), split=split, **keys)
    return FolderSource(config, root, cache)


def test_names_and_palette_come_from_the_file(tmp_path: Path, cache: Path) -> None:
    text = NAMED + "palette: [[128, 64, 128], [0, 0, 142], [220, 20, 60]]\nvoid: 9\n"
    source = _source(make_data.folder(tmp_path, STEMS, classes=text), cache)
    assert source.classes == ("road", "car", "person")
    assert source.palette.tolist() == [[128, 64, 128], [0, 0, 142], [220, 20, 60]]
    assert source.labels_from(np.array([[0, 2, 9]], np.uint8)).tolist() == [[0, 2, VOID]]


def test_ids_may_be_mapped(tmp_path: Path, cache: Path) -> None:
    text = "names: {7: road, 26: car}\nvoid: [0, 255]\n"
    root = make_data.folder(tmp_path, STEMS, num_classes=1, classes=text)
    labels = _source(root, cache).labels_from(np.array([[7, 26, 0, 255]], np.uint8))
    assert labels.tolist() == [[0, 1, VOID, VOID]]


def test_coloured_masks_are_matched_against_the_palette(tmp_path: Path, cache: Path) -> None:
    text = "names: [road, car]\npalette: [[128, 64, 128], [0, 0, 142]]\nvoid: [[0, 0, 0]]\n"
    source = _source(make_data.folder(tmp_path, STEMS, num_classes=1, classes=text), cache)
    colours = np.array([[[0, 0, 142], [128, 64, 128], [0, 0, 0]]], np.uint8)
    assert source.labels_from(colours).tolist() == [[1, 0, VOID]]
    path = make_data.save(tmp_path / "mask.png", colours + 1)
    with pytest.raises(FrameError, match=r"holds the colour \(1, 1, 143\) outside the 2 classes"):
        source.read_labels(path)


def test_without_a_file_classes_are_counted(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, num_classes=3)
    for stem in STEMS:
        mask = make_data.ids(int(stem), 3)
        mask[0, 0], mask[0, 1] = VOID, 4
        make_data.save(root / "masks" / f"{stem}.png", mask)
    source = _source(root, cache)
    assert source.classes == tuple(f"class_{i}" for i in range(5))
    kept = list((cache / "classes").iterdir())
    assert len(kept) == 1
    # The outcome is kept: the second look does not read the masks.
    mask = root / "masks" / "1.png"
    before = mask.stat()
    mask.write_bytes(b"x" * before.st_size)
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _source(root, cache).classes == source.classes


def test_palette_files_are_read_by_index(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    colours = [128, 64, 128, 0, 0, 142, 220, 20, 60] + [0] * (253 * 3)
    for stem in STEMS:
        make_data.save(root / "masks" / f"{stem}.png", make_data.ids(int(stem), 3), colours)
    source = _source(root, cache)
    assert source.palette.tolist() == [[128, 64, 128], [0, 0, 142], [220, 20, 60]]
    labels = source.read_labels(root / "masks" / "1.png")
    assert (labels == make_data.ids(1, 3)).all()


def test_subfolders_are_parts(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, ["town/a", "town/b", "city/east/a", "city/west/a"])
    splits = _source(root, cache, PartsConfig(train=("city",), val=("town",))).splits()
    assert [frame.name for frame in splits["train"]] == ["city/east/a", "city/west/a"]
    assert [frame.name for frame in splits["val"]] == ["town/a", "town/b"]


def test_missing_partners_and_double_names_are_named(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    (root / "masks" / "1.png").unlink()
    make_data.save(root / "images" / "2.png", make_data.picture(0))
    with pytest.raises(DataError) as caught:
        _source(root, cache)
    assert "images/1.jpg: has no partner masks/1.png" in str(caught.value)
    assert "images/2.png: two files of this name: also 2.jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("names: [road\n", "no YAML"),
        ("[road, car]\n", "not a mapping"),
        ("palette: [[1, 2, 3]]\n", "names are missing"),
        ("name: [road]\n", "did you mean `names`?"),
        ("names: []\n", "names must be a list"),
        ("names: [road, 3]\n", "names must be a list"),
        ("names: {300: road}\n", "names must be a list"),
        ("names: [road, road]\n", "names occur twice"),
        ("names: [road, car]\npalette: [[1, 2, 3]]\n", "2 names but 1 colours"),
        ("names: [road]\npalette: [[1, 2]]\n", "palette must be a list"),
        ("names: [a, b]\npalette: [[1, 2, 3], [1, 2, 3]]\n", "two classes share a colour"),
        ("names: [road, car]\nvoid: 1\n", "a class and void at once"),
        ("names: [road]\nvoid: nothing\n", "void must be ids"),
        ("names: [road]\nnames: [car]\n", "no YAML"),
    ],
)
def test_mistakes_in_classes_are_explained(
    tmp_path: Path, cache: Path, text: str, problem: str
) -> None:
    root = make_data.folder(tmp_path, STEMS, num_classes=1, classes=text)
    with pytest.raises(DataError) as caught:
        _source(root, cache)
    assert problem in str(caught.value)
    assert str(root / "classes.yaml") in str(caught.value)


def test_coloured_masks_need_a_palette(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    make_data.save(root / "masks" / "1.png", make_data.picture(1))
    with pytest.raises(
        DataError, match=r"masks/1.png: holds colours, and there is no classes.yaml"
    ):
        _source(root, cache)


def test_grey_masks_stored_in_colour_are_read_as_grey(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    make_data.save(root / "masks" / "1.png", make_data.ids(1, 3)[..., None].repeat(3, 2))
    labels = _source(root, cache).read_labels(root / "masks" / "1.png")
    assert (labels == make_data.ids(1, 3)).all()
