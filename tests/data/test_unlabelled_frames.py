"""Frames without labels: which they are, and how they are served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import make_data
import numpy as np
import pytest
import torch

from kdsweep.config import load_job
from kdsweep.data import (
    VOID,
    SegmentationData,
    Split,
    UnlabelledBatch,
    UnlabelledLoader,
    count_frames,
    open_data,
)
from kdsweep.data.augment.draws import RandomCrop
from kdsweep.data.health import look_through
from kdsweep.errors import ConfigError, DataError

SIZE = (24, 32)


def section(root: Path, **data: Any) -> Any:
    tree = {"source": "camvid", "path": str(root), "image_size": [12, 16]} | data
    return load_job({"data": tree, "student": {}, "train": {"epochs": 1}}).data


def opened(root: Path, cache: Path, **data: Any) -> SegmentationData:
    config = section(root, cache=str(cache), **data)
    found, counts = open_data(config), count_frames(config)
    num_unlabelled = 0 if found.unlabelled is None else len(found.unlabelled)
    assert (counts.num_train, counts.num_unlabelled) == (len(found.train), num_unlabelled)
    return found


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Six training frames, two of each of three recordings."""
    root = tmp_path / "camvid"
    for number in range(6):
        name = f"{'ABC'[number // 2]}_{number:03d}.png"
        make_data.save(root / "train" / name, make_data.picture(number))
        make_data.save(root / "trainannot" / name, make_data.ids(number, 11))
    for folder, array in (("val", make_data.picture(9)), ("valannot", make_data.ids(9, 11))):
        make_data.save(root / folder / "A_900.png", array)
    return root


def test_all_labels_are_there_after_all_in_epochs_as_long_as_before(
    camvid: Path, tmp_path: Path
) -> None:
    parts: dict[str, Any] = {"labelled": {"recordings": ["A", "C"]}, "all_labels": True}
    config = section(camvid, cache=str(tmp_path), **parts)
    data = open_data(config)
    assert len(data.train) == 6
    assert (data.train.labels_NHW != VOID).any((1, 2)).all()
    assert data.unlabelled is None
    assert data.epoch_frames == count_frames(config).num_train == 4


def test_only_labels_that_are_left_out_can_be_used_after_all(camvid: Path) -> None:
    with pytest.raises(ConfigError, match="no labels are left out") as caught:
        section(camvid, all_labels=True)
    assert caught.value.path[-1] == "all_labels"
    assert section(camvid, all_labels=True, num_labelled=3).all_labels


def test_the_other_recordings_lose_their_labels(camvid: Path, tmp_path: Path) -> None:
    data = opened(camvid, tmp_path, labelled={"recordings": ["A", "C"]})
    assert [name[6] for name in data.train.names] == ["A", "A", "C", "C"]
    assert data.unlabelled is not None
    assert [name[6] for name in data.unlabelled.names] == ["B", "B"]
    assert (data.unlabelled.labels_NHW == VOID).all()
    whole = opened(camvid, tmp_path).train
    assert np.array_equal(data.unlabelled.images_NHWC, whole.images_NHWC[2:4])
    assert np.array_equal(data.train.labels_NHW[2:], whole.labels_NHW[4:])


def test_evenly_spaced_frames_keep_their_labels(camvid: Path, tmp_path: Path) -> None:
    data = opened(camvid, tmp_path, num_labelled=2)
    assert [name[-3:] for name in data.train.names] == ["001", "004"]
    assert data.unlabelled is not None
    assert len(data.unlabelled) == 4


def test_pictures_of_any_folder_and_size(camvid: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    make_data.save(folder / "night" / "1.jpg", make_data.picture(1, (30, 20)))
    make_data.save(folder / "2.png", make_data.picture(2, (9, 9)))
    (folder / "notes.txt").write_text("no picture")
    data = opened(camvid, tmp_path, unlabelled=str(folder))
    assert len(data.train) == 6
    assert data.unlabelled is not None
    assert data.unlabelled.names == ("unlabelled/2", "unlabelled/night/1")
    assert data.unlabelled.images_NHWC.shape == (2, 12, 16, 3)
    both = opened(camvid, tmp_path, unlabelled=str(folder), num_labelled=5).unlabelled
    assert both is not None
    assert len(both) == 3


def test_other_pictures_are_other_data(camvid: Path, tmp_path: Path) -> None:
    picture = make_data.save(tmp_path / "more" / "1.png", make_data.picture(1))
    before = opened(camvid, tmp_path, unlabelled=str(picture.parent)).identity
    make_data.save(picture, make_data.picture(2))
    after = opened(camvid, tmp_path, unlabelled=str(picture.parent)).identity
    assert before is not None
    assert after is not None
    assert before.fingerprint != after.fingerprint
    assert "6+1 and 1 unlabelled" in after.short


def test_validation_frames_among_the_unlabelled_are_named(camvid: Path, tmp_path: Path) -> None:
    data = opened(camvid, tmp_path, unlabelled=str(camvid / "val"))
    caveats = look_through(data).caveats
    assert any("1 of 1 validation frames are trained on without their labels" in c for c in caveats)
    assert not any("without" in c for c in look_through(opened(camvid, tmp_path)).caveats)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"labelled": {"recordings": ["A", "D"]}}, ["data.labelled.recordings[1]", "A, B, C"]),
        ({"labelled": {"recordings": ["A", "B", "C"]}}, ["data.labelled", "all 6"]),
        ({"num_labelled": 6}, ["data.num_labelled", "all 6"]),
    ],
)
def test_what_cannot_be_labelled_so(camvid: Path, keys: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        count_frames(section(camvid, **keys))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_without_pictures(camvid: Path, tmp_path: Path, empty: bool) -> None:
    folder = tmp_path / "none"
    if empty:
        folder.mkdir()
    with pytest.raises(DataError, match="holds no pictures" if empty else "is not a folder"):
        count_frames(section(camvid, unlabelled=str(folder)))


def test_weathers_are_the_recordings_of_roadscenes(tmp_path: Path) -> None:
    keys = {"source": "roadscenes", "scenes": 12, "val_scenes": 1, "test_scenes": 0}
    keys |= {"scene_size": [16, 16], "path": None, "labelled": {"recordings": ["clear", "rain"]}}
    data = opened(tmp_path, tmp_path, **keys)
    assert data.unlabelled is not None
    assert len(data.train) + len(data.unlabelled) == 12
    with pytest.raises(ConfigError, match="allowed: clear, overcast"):
        count_frames(section(tmp_path, **keys | {"labelled": {"recordings": ["snow"]}}))


@pytest.fixture
def split(tmp_path: Path) -> Split:
    made = Split.create(tmp_path, [str(i) for i in range(7)], SIZE)
    for index in range(7):
        made.images_NHWC[index] = make_data.picture(index, SIZE)
    made.labels_NHW[:] = VOID
    made.flush()
    return Split.open(tmp_path)


def same(one: UnlabelledBatch, other: UnlabelledBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_a_batch_depends_on_its_step_alone(split: Split, device: torch.device | None) -> None:
    whole = list(UnlabelledLoader(split, 3, "strong", seed=7, device=device).steps(0, 7))
    loader = UnlabelledLoader(split, 3, "strong", seed=7, workers=2, device=device)
    try:
        later = [*loader.steps(3, 2), *loader.steps(5, 2)]
    finally:
        loader.close()
    assert all(map(same, whole[3:], later))
    other = next(UnlabelledLoader(split, 3, "strong", seed=8, device=device).steps(0, 1))
    assert not same(whole[0], other)


def test_every_frame_is_seen_once_a_round(split: Split) -> None:
    for first, second in (
        tuple(UnlabelledLoader(split, 3, "none", seed=1).steps(2 * n, 2)) for n in range(3)
    ):
        seen = torch.cat([first.weak_BHWC, second.weak_BHWC])
        assert len({frame.numpy().tobytes() for frame in seen}) == 6
    few = next(UnlabelledLoader(split, 50, "none", seed=1).steps(0, 1))
    assert len(few.weak_BHWC) == 7


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("crop", [None, RandomCrop((20, 20), (0.4, 0.6))])
def test_teacher_and_student_see_the_same_part(
    tmp_path: Path, device: torch.device | None, crop: RandomCrop | None
) -> None:
    # A grey pattern that looks different everywhere.
    size = (96, 128)
    rng = np.random.default_rng(0)
    coarse = rng.integers(70, 170, (6, 8), np.uint8)
    pattern = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    made = Split.create(tmp_path, ["pattern"], size)
    made.images_NHWC[0] = pattern[..., None]
    made.labels_NHW[:] = VOID
    loader = UnlabelledLoader(made, 1, "strong", seed=1, device=device, crop=crop)
    num_moved = num_recoloured = 0
    for weak, strong, inside in loader.steps(0, 30):
        counts = inside[0] == 0
        assert set(inside.unique().tolist()) <= {0, VOID}
        ours, theirs = (view[0].float().mean(-1)[counts] for view in (strong, weak))
        assert torch.corrcoef(torch.stack([ours, theirs]))[0, 1] > 0.75
        # The teacher's view has the frame's own colours.
        assert theirs.quantile(0.01) >= pattern.min()
        assert theirs.quantile(0.99) <= pattern.max()
        num_recoloured += int((strong - weak.float()).abs().max() > 20)
        num_moved += weak.shape[1:3] != size or bool((weak[0, ..., 0].numpy() != pattern).any())
    assert num_recoloured > 10
    assert num_moved > 20


def test_further_scenes_have_no_labels(tmp_path: Path) -> None:
    keys = {"source": "roadscenes", "val_scenes": 1, "test_scenes": 0, "scene_size": [16, 16]}
    keys |= {"path": None}
    data = opened(tmp_path, tmp_path, scenes=4, unlabelled_scenes=8, **keys)
    assert data.unlabelled is not None
    same_scenes = opened(tmp_path, tmp_path, scenes=12, num_labelled=4, **keys)
    assert data.train.names == same_scenes.train.names
    assert same_scenes.unlabelled is not None
    assert data.unlabelled.names == same_scenes.unlabelled.names
    few = opened(tmp_path, tmp_path, scenes=4, unlabelled_scenes=8, num_train=6, **keys)
    assert len(few.train) == 2
