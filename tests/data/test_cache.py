"""The decode cache."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import make_data
import numpy as np
import pytest

from kdsweep.config.data import CamvidData, LyftData
from kdsweep.config.splits import HoldoutConfig
from kdsweep.data import Split, class_frequencies, open_data
from kdsweep.data.cache import once
from kdsweep.data.fingerprint import default_cache
from kdsweep.data.pictures import resize_image, resize_labels
from kdsweep.data.source import Frame
from kdsweep.data.sources.lyft import LyftSource
from kdsweep.errors import DataError
from kdsweep.labels import VOID

SIZE = (8, 12)


def _config(root: Path, cache: Path) -> LyftData:
    return LyftData(
        source="lyft",
        path=str(root),
        image_size=SIZE,
        split=HoldoutConfig(val=0.5, block=1),
        cache=str(cache),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_data.lyft_part(tmp_path / "data" / "dataA", [f"02_00_{i}" for i in range(6)])
    return tmp_path / "data"


def _entries(cache: Path) -> set[str]:
    return {p.name for p in (cache / "frames").iterdir() if p.is_dir()}


def test_holds_decoded_and_resized_frames(root: Path, cache: Path) -> None:
    data = open_data(_config(root, cache))
    assert isinstance(data.train.images_NHWC, np.memmap)
    for split in (data.train, data.val):
        for index, name in enumerate(split.names):
            number = int(name.rpartition("_")[2])
            expected = resize_image(make_data.picture(number), SIZE)
            assert (split.images_NHWC[index] == expected).all()
            labels = resize_labels(make_data.ids(number, 13), SIZE)
            shown = split.labels_NHW[index]
            # The hood is void; all else is as in the file.
            assert (shown[shown != VOID] == labels[shown != VOID]).all()


def test_is_built_once_and_read_only(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_data(_config(root, cache))
    with pytest.raises(ValueError, match="read-only"):
        first.train.images_NHWC[0] = 0

    def refuse(self: LyftSource, frame: Frame) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(LyftSource, "read", refuse)
    again = open_data(_config(root, cache))
    assert (again.train.images_NHWC == first.train.images_NHWC).all()
    assert again.val.names == first.val.names


def test_is_built_anew_when_anything_changes(root: Path, cache: Path) -> None:
    config = _config(root, cache)
    open_data(config)
    known = _entries(cache)
    changes = [
        config.model_copy(update={"image_size": (6, 8)}),
        config.model_copy(update={"hood_void": False}),
        config.model_copy(update={"merge_road_lines": True}),
    ]
    for changed in changes:
        open_data(changed)
        assert len(_entries(cache) - known) == 2
        known = _entries(cache)
    image = root / "dataA" / "CameraRGB" / "02_00_0.png"
    os.utime(image, ns=(1, 1))
    open_data(config)
    assert len(_entries(cache) - known) == 1  # only the split that has this frame
    make_data.save(image, make_data.picture(99))
    data = open_data(config)
    split = data.train if "dataA/02_00_0" in data.train.names else data.val
    shown = split.images_NHWC[split.names.index("dataA/02_00_0")]
    assert (shown == resize_image(make_data.picture(99), SIZE)).all()


def test_a_subset_decodes_no_more_than_it_needs(root: Path, cache: Path) -> None:
    data = open_data(_config(root, cache).model_copy(update={"num_train": 2, "num_val": 1}))
    assert (len(data.train), len(data.val)) == (2, 1)


def test_a_moved_data_set_keeps_its_entry(root: Path, cache: Path) -> None:
    open_data(_config(root, cache))
    known = _entries(cache)
    moved = root.rename(root.with_name("moved"))
    open_data(_config(moved, cache))
    assert _entries(cache) == known


def test_progress_is_told(root: Path, cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    open_data(_config(root, cache), lambda what, done, total: told.append((what, done, total)))
    assert [(what, done) for what, done, _ in told[:3]] == [
        ("decoding lyft train", i) for i in (1, 2, 3)
    ]
    assert told[-1] == ("decoding lyft val", 3, 3)


def test_a_broken_build_leaves_nothing_and_a_dead_builder_is_cleaned_up(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: LyftSource, frame: Frame) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LyftSource, "read", die)
        with pytest.raises(KeyboardInterrupt):
            open_data(_config(root, cache))
    assert _entries(cache) == set()
    # What SIGKILL leaves behind: drafts without anyone who holds their lock.
    stale = [cache / "frames" / f"{key}.draft-host-1" for key in ("a" * 20, "b" * 20)]
    for draft in stale:
        draft.mkdir()
        (draft / "images.npy").write_bytes(b"half")
    data = open_data(_config(root, cache))
    assert not any(draft.exists() for draft in stale)
    assert len(data.train) == 3


def test_drafts_of_living_builders_are_left_alone(tmp_path: Path) -> None:
    with once(tmp_path / "one") as one, once(tmp_path / "two") as two:
        assert one is not None
        assert two is not None
        assert one.is_dir()
    assert (tmp_path / "one").is_dir()
    assert (tmp_path / "two").is_dir()


def _open_in_process(config: LyftData, names: multiprocessing.Queue[tuple[str, ...]]) -> None:
    names.put(open_data(config).train.names)


def test_processes_build_it_together(root: Path, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    names: multiprocessing.Queue[tuple[str, ...]] = context.Queue()
    config = _config(root, cache)
    processes = [context.Process(target=_open_in_process, args=(config, names)) for _ in range(2)]
    for process in processes:
        process.start()
    seen = {names.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert len(seen) == 1
    assert len(_entries(cache)) == 2
    assert not list((cache / "frames").glob("*.draft-*"))


def test_a_damaged_entry_says_what_to_remove(root: Path, cache: Path) -> None:
    open_data(_config(root, cache))
    for folder in (p for p in (cache / "frames").iterdir() if p.is_dir()):
        os.truncate(folder / "images.npy", 200)
    with pytest.raises(DataError, match="remove that folder"):
        open_data(_config(root, cache))


def test_a_cache_that_cannot_be_written_says_so(root: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(DataError, match="KDSWEEP_CACHE"):
        open_data(_config(root, in_the_way))


def test_a_full_disk_is_noticed_before_the_work(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdsweep.data.cache.free_bytes", lambda folder: 100)
    with pytest.raises(DataError, match="the disk is full"):
        open_data(_config(root, cache))


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KDSWEEP_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("KDSWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "kdsweep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "kdsweep"


def test_a_split_travels_by_name_not_by_contents(root: Path, cache: Path) -> None:
    split = open_data(_config(root, cache)).train
    packed = pickle.dumps(split)
    assert len(packed) < 1000
    assert (pickle.loads(packed).images_NHWC == split.images_NHWC).all()
    in_memory = Split(np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2), np.uint8), ("a",))
    assert pickle.loads(pickle.dumps(in_memory)).names == ("a",)


def test_class_frequencies_leave_void_out() -> None:
    labels = np.array([[[0, 0, 1, VOID]], [[0, VOID, VOID, VOID]]], np.uint8)
    split = Split(np.zeros((2, 1, 4, 3), np.uint8), labels, ("a", "b"))
    assert class_frequencies(split, 3).tolist() == [0.75, 0.25, 0.0]
    empty = Split(split.images_NHWC, np.full_like(labels, VOID), split.names)
    assert class_frequencies(empty, 3).tolist() == [0.0, 0.0, 0.0]


def test_all_unusable_files_of_all_splits_are_in_one_error(tmp_path: Path, cache: Path) -> None:
    root = make_data.camvid(tmp_path / "camvid", num_train=6, num_val=3)
    cut = root / "train" / "train_000.png"
    cut.write_bytes(cut.read_bytes()[:100])
    (root / "train" / "train_001.png").write_text("no picture")
    make_data.save(root / "trainannot" / "train_002.png", make_data.ids(0, 11, (9, 9)))
    make_data.save(root / "trainannot" / "train_003.png", make_data.ids(0, 11) + 20)
    (root / "val" / "val_000.png").write_bytes(b"")
    make_data.save(root / "valannot" / "val_001.png", np.full(make_data.SIZE, 300, np.uint16))
    config = CamvidData(source="camvid", path=str(root), image_size=SIZE, cache=str(cache))
    with pytest.raises(DataError) as caught:
        open_data(config)
    message = str(caught.value)
    assert "camvid: 6 of 18 files" in message
    assert "train/train_000.png: cannot be decoded" in message
    assert "train/train_001.png: is no picture" in message
    assert "trainannot/train_002.png: mask is 9×9, but the image train_002.png is 16×12" in message
    assert "trainannot/train_003.png: holds ids 20, " in message
    assert "outside the 11 classes" in message
    assert "val/val_000.png: is an empty file" in message
    assert "… and 1 more" in message
    assert _entries(cache) == set()


def test_an_empty_split_is_an_error(tmp_path: Path, cache: Path) -> None:
    root = make_data.camvid(tmp_path / "camvid")
    (root / "val.txt").write_text("\n")
    config = CamvidData(source="camvid", path=str(root), image_size=SIZE, cache=str(cache))
    with pytest.raises(DataError, match="no frames in the val split"):
        open_data(config)
