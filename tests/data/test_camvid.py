"""The reader of CamVid in the SegNet layout."""

from __future__ import annotations

from pathlib import Path

import make_data
import numpy as np
import pytest

from kdsweep.data.source import Frame
from kdsweep.data.sources.camvid import CamvidSource
from kdsweep.errors import DataError
from kdsweep.labels import VOID


def test_lists_with_foreign_prefixes_are_followed(tmp_path: Path) -> None:
    root = make_data.camvid(tmp_path)
    (root / "train.txt").write_text(
        "/SegNet/CamVid/train/train_002.png /SegNet/CamVid/trainannot/train_002.png\n\n"
        "C:\\data\\train\\train_000.png C:\\data\\trainannot\\train_000.png\n"
    )
    splits = CamvidSource(root).splits()
    assert [frame.name for frame in splits["train"]] == ["train/train_002", "train/train_000"]
    assert splits["train"][0].mask == root / "trainannot" / "train_002.png"
    assert len(splits["val"]) == 2
    assert "test" not in splits


def test_lists_are_optional(tmp_path: Path) -> None:
    with_lists = CamvidSource(make_data.camvid(tmp_path / "a")).splits()
    without = CamvidSource(make_data.camvid(tmp_path / "b", lists=False)).splits()
    assert [f.name for f in with_lists["train"]] == [f.name for f in without["train"]]


def test_the_parent_of_camvid_may_be_given(tmp_path: Path) -> None:
    make_data.camvid(tmp_path / "CamVid")
    assert CamvidSource(tmp_path).root == tmp_path / "CamVid"


def test_a_test_split_is_used_where_there_is_one(tmp_path: Path) -> None:
    root = make_data.camvid(tmp_path, lists=False)
    make_data.save(root / "test" / "a.png", make_data.picture(0))
    make_data.save(root / "testannot" / "a.png", make_data.ids(0, 12))
    assert [frame.name for frame in CamvidSource(root).splits()["test"]] == ["test/a"]


def test_id_11_is_void_and_12_is_an_error(tmp_path: Path) -> None:
    root = make_data.camvid(tmp_path)
    mask = np.tile(np.arange(12, dtype=np.uint8), (4, 1))
    path = make_data.save(tmp_path / "mask.png", mask)
    source = CamvidSource(root)
    assert source.read_labels(path)[0].tolist() == [*range(11), VOID]
    make_data.save(path, mask + 1)
    with pytest.raises(Exception, match=r"mask.png: holds id 12 outside the 11 classes"):
        source.read(Frame("", tmp_path / "train" / "train_000.png", path))


@pytest.mark.parametrize("lists", [True, False])
def test_missing_files_are_all_named(tmp_path: Path, lists: bool) -> None:
    root = make_data.camvid(tmp_path, lists=lists)
    (root / "trainannot" / "train_001.png").unlink()
    (root / "val" / "val_000.png").unlink()
    with pytest.raises(DataError) as caught:
        CamvidSource(root).splits()
    message = str(caught.value)
    assert "2 of 12 files" in message
    assert "trainannot/train_001.png: " in message
    assert "val/val_000.png: " in message
    assert ("named in train.txt" in message) == lists


def test_a_line_that_names_no_pair_is_an_error(tmp_path: Path) -> None:
    root = make_data.camvid(tmp_path)
    (root / "val.txt").write_text("val_000.png\n")
    with pytest.raises(DataError, match=r"val.txt: line 1 is not"):
        CamvidSource(root).splits()
