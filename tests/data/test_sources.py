"""What every source must do; a new source joins with one line in SPECS."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import make_data
import numpy as np
import pytest

from kdsweep.config.data import (
    BaseDataConfig,
    CamvidData,
    CityscapesData,
    FolderData,
    LyftData,
    RoadscenesData,
)
from kdsweep.data import SOURCES, count_frames, open_data
from kdsweep.errors import ConfigError, DataError
from kdsweep.labels import VOID

SIZE = (8, 12)
STEMS = [f"frame_{i}" for i in range(10)]


def _lyft(root: Path) -> LyftData:
    make_data.lyft_part(root / "dataA" / "dataA", STEMS)
    return LyftData(source="lyft", path=str(root), image_size=SIZE)


def _camvid(root: Path) -> CamvidData:
    return CamvidData(source="camvid", path=str(make_data.camvid(root)), image_size=SIZE)


def _cityscapes(root: Path) -> CityscapesData:
    path = str(make_data.cityscapes(root))
    return CityscapesData(source="cityscapes", path=path, image_size=SIZE)


def _folder(root: Path) -> FolderData:
    return FolderData(source="folder", path=str(make_data.folder(root, STEMS)), image_size=SIZE)


def _roadscenes(root: Path) -> RoadscenesData:
    return RoadscenesData(
        scenes=4, val_scenes=2, test_scenes=1, scene_size=(60, 80), cache=str(root), image_size=SIZE
    )


SPECS: dict[str, Callable[[Path], BaseDataConfig]] = {
    "lyft": _lyft,
    "camvid": _camvid,
    "cityscapes": _cityscapes,
    "folder": _folder,
    "roadscenes": _roadscenes,
}


def test_every_source_is_tested() -> None:
    assert sorted(SPECS) == SOURCES.names()


@pytest.fixture(params=SPECS)
def config(request: pytest.FixtureRequest, tmp_path: Path, cache: Path) -> BaseDataConfig:
    made = SPECS[request.param](tmp_path / "data")
    return made.model_copy(update={"cache": str(cache)})


def test_opens_with_consistent_arrays(config: BaseDataConfig) -> None:
    data = open_data(config)
    assert data.name == config.source
    assert data.palette.shape == (data.num_classes, 3)
    assert data.palette.dtype == np.uint8
    assert len(set(data.classes)) == data.num_classes
    for split in (data.train, data.val):
        assert split.images_NHWC.shape == (len(split), *SIZE, 3)
        assert split.labels_NHW.shape == (len(split), *SIZE)
        assert split.images_NHWC.dtype == split.labels_NHW.dtype == np.uint8
        labels = np.asarray(split.labels_NHW)
        assert (labels[labels != VOID] < data.num_classes).all()
        assert (labels != VOID).any()
        assert len(set(split.names)) == len(split)
    assert not set(data.train.names) & set(data.val.names)


def test_opening_again_gives_the_same(config: BaseDataConfig) -> None:
    first, second = open_data(config), open_data(config)
    assert first.train.names == second.train.names
    assert (first.train.images_NHWC == second.train.images_NHWC).all()
    assert (first.val.labels_NHW == second.val.labels_NHW).all()


def test_subsets_are_evenly_spaced(config: BaseDataConfig) -> None:
    every = open_data(config).train.names
    some = open_data(config.model_copy(update={"num_train": 2, "num_val": 1}))
    assert some.train.names == (every[len(every) // 4], every[3 * len(every) // 4])
    assert len(some.val) == 1
    assert open_data(config.model_copy(update={"num_train": 1000})).train.names == every


def test_only_generated_data_carries_a_notice(config: BaseDataConfig) -> None:
    data = open_data(config)
    assert data.embedded == (config.source == "roadscenes")
    assert (data.notice is not None) == data.embedded


@pytest.mark.parametrize("name", [name for name in SPECS if name != "roadscenes"])
def test_a_missing_folder_says_what_is_expected(name: str, tmp_path: Path, cache: Path) -> None:
    config = SPECS[name](tmp_path / "data").model_copy(update={"cache": str(cache)})
    source = {"lyft": "kaggle", "camvid": "SegNet", "cityscapes": "cityscapes-dataset.com"}
    for path in (None, str(tmp_path / "nowhere")):
        with pytest.raises(DataError) as caught:
            open_data(config.model_copy(update={"path": path}))
        message = str(caught.value)
        assert source.get(name, "") in message
        assert "layout:  PATH is the folder that holds" in message
        assert (
            f"--data {name}=PATH" in message if path is None else "nowhere is not there" in message
        )


@pytest.mark.parametrize("name", [name for name in SPECS if name != "roadscenes"])
def test_a_folder_of_another_kind_says_what_is_expected(
    name: str, tmp_path: Path, cache: Path
) -> None:
    config = SPECS[name](tmp_path / "data")
    other = tmp_path / "other"
    (other / "holiday").mkdir(parents=True)
    with pytest.raises(DataError, match="no folder"):
        open_data(config.model_copy(update={"path": str(other), "cache": str(cache)}))


def test_an_unknown_source_is_a_spec_error() -> None:
    with pytest.raises(ConfigError, match="unknown data source"):
        SOURCES.get("camvit", ("data", "source"))


def test_networks_may_have_more_outputs_than_the_data_have_classes(config: BaseDataConfig) -> None:
    own = open_data(config)
    more = open_data(config.model_copy(update={"num_classes": own.num_classes + 2}))
    assert more.num_classes == own.num_classes + 2
    assert more.classes[: own.num_classes] == own.classes
    assert more.classes[-1] == f"unused {own.num_classes + 1}"
    assert (more.palette[: own.num_classes] == own.palette).all()
    assert more.palette.shape == (own.num_classes + 2, 3)
    assert (more.train.labels_NHW == own.train.labels_NHW).all()
    with pytest.raises(ConfigError, match="more classes than that") as caught:
        open_data(config.model_copy(update={"num_classes": own.num_classes - 1}))
    assert caught.value.path == ("data", "num_classes")


def test_frames_are_counted_as_they_are_opened(config: BaseDataConfig, cache: Path) -> None:
    for chosen in (
        config,
        config.model_copy(update={"num_train": 2, "num_val": 1, "num_classes": 40}),
    ):
        counts = count_frames(chosen)
        assert not cache.exists() or not (cache / "frames").exists()
        data = open_data(chosen)
        assert counts.name == data.name
        assert (counts.num_train, counts.num_val) == (len(data.train), len(data.val))
        assert counts.num_classes == data.num_classes
        assert counts.notice == data.notice
        shutil.rmtree(cache / "frames")


def test_scenes_are_counted_without_drawing_them(cache: Path) -> None:
    config = RoadscenesData(image_size=(32, 32), scenes=700, val_scenes=30, cache=str(cache))
    assert (count_frames(config).num_train, count_frames(config).num_val) == (700, 30)
    assert not cache.exists() or not list(cache.iterdir())
