"""Generated scenes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdsweep.config.data import RoadscenesData
from kdsweep.data import open_data
from kdsweep.data.carla import CLASSES, NONE, ROAD
from kdsweep.data.pictures import read_mask, read_rgb
from kdsweep.data.scenes import render
from kdsweep.data.scenes.write import Task, image_path, write_scenes


def test_scenes_are_repeatable_and_differ() -> None:
    first, again = render(3, 8, 90, 120), render(3, 8, 90, 120)
    assert (first.image == again.image).all()
    assert (first.labels == again.labels).all()
    for other in (render(3, 9, 90, 120), render(4, 8, 90, 120)):
        assert (first.image != other.image).any()


def test_scenes_are_repeatable_across_processes() -> None:
    code = "from kdsweep.data.scenes import render; print(int(render(0, 5, 90, 120).image.sum()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )  # fmt: skip
    assert int(done.stdout) == int(render(0, 5, 90, 120).image.sum())


@pytest.mark.parametrize("size", [(16, 16), (40, 700), (96, 128), (200, 120), (600, 800)])
def test_scenes_come_in_any_shape(size: tuple[int, int]) -> None:
    for index in range(4):
        scene = render(0, index, *size)
        assert scene.image.shape == (*size, 3)
        assert scene.labels.shape == size
        assert scene.image.dtype == scene.labels.dtype == np.uint8


def test_all_classes_occur_and_none_swallows_the_rest() -> None:
    labels = np.stack([render(0, index, 150, 200).labels for index in range(40)])
    shares = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    assert len(shares) == len(CLASSES)
    assert (shares > 2e-4).all(), dict(zip(CLASSES, shares, strict=True))
    assert shares[ROAD] < 0.5
    assert shares[NONE] < 0.4
    # Small things are frequent, though they are small.
    present = [(labels == label).any(axis=(1, 2)).mean() for label in range(len(CLASSES))]
    assert min(present) > 0.3


def test_colour_alone_does_not_give_the_class_away() -> None:
    # The best that a table from colours to classes can do, learned on 30 scenes.
    def coded(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        scenes = [render(0, first + i, 96, 128) for i in range(count)]
        bins = np.stack([scene.image for scene in scenes]).astype(int) >> 4
        codes = (bins[..., 0] << 8) | (bins[..., 1] << 4) | bins[..., 2]
        return codes.ravel(), np.stack([scene.labels for scene in scenes]).ravel()

    num = len(CLASSES)
    codes, labels = coded(0, 30)
    table = np.bincount(codes * num + labels, minlength=4096 * num).reshape(4096, num).argmax(1)
    codes, labels = coded(1000, 15)
    matrix = np.bincount(labels.astype(int) * num + table[codes], minlength=num * num)
    matrix = matrix.reshape(num, num)
    hits = np.diag(matrix)
    iou = hits / np.maximum(matrix.sum(0) + matrix.sum(1) - hits, 1)
    assert iou.mean() < 0.25


def test_files_are_in_the_lyft_layout(tmp_path: Path) -> None:
    told: list[int] = []
    task = Task(str(tmp_path), 0, (60, 80), [("train", 4), ("val", 1_000_000)])
    write_scenes(task, 1, told.append)
    path = image_path(task, "train", 4)
    assert path == tmp_path / "train/train/CameraRGB/train_000004.png"
    scene = render(0, 4, 60, 80)
    assert (read_rgb(path) == scene.image).all()
    mask = read_mask(path.parents[1] / "CameraSeg" / path.name)
    assert (mask[..., 0] == scene.labels).all()
    assert not mask[..., 1:].any()
    assert told == [1, 2]


def test_helpers_write_the_same_files(tmp_path: Path) -> None:
    scenes = [("train", index) for index in range(33)]
    told: list[int] = []
    for name, processes in (("one", 1), ("two", 2)):
        write_scenes(Task(str(tmp_path / name), 0, (30, 40), scenes), processes, told.append)
    for index in range(33):
        one, two = (
            image_path(Task(str(tmp_path / name), 0, (30, 40), scenes), "train", index)
            for name in ("one", "two")
        )
        assert one.read_bytes() == two.read_bytes()
    assert told[:33] == told[33:] == list(range(1, 34))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_helpers_that_die_are_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    scenes = [("train", index) for index in range(33)]
    task = Task(str(tmp_path), 0, (30, 40), scenes)
    told: list[int] = []
    write_scenes(task, 2, told.append)
    assert all(image_path(task, *scene).exists() for scene in scenes)
    assert told[-1] == 33


def test_more_scenes_change_no_other_split(tmp_path: Path) -> None:
    few = RoadscenesData(
        scenes=2, val_scenes=2, test_scenes=0, scene_size=(30, 40), image_size=(30, 40),
        cache=str(tmp_path),
    )  # fmt: skip
    more = few.model_copy(update={"scenes": 3})
    first, second = open_data(few), open_data(more)
    assert first.test is None
    assert (first.val.images_NHWC == second.val.images_NHWC).all()
    assert (first.train.images_NHWC == second.train.images_NHWC[:2]).all()
    assert (first.train.images_NHWC[0] != first.val.images_NHWC[0]).any()
    again = open_data(few)
    assert again.source_path == first.source_path
    assert again.source_path.is_relative_to(tmp_path / "roadscenes")
