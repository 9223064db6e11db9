"""The reader of the Lyft-Udacity layout."""

from __future__ import annotations

from pathlib import Path

import make_data
import numpy as np
import pytest

from kdsweep.config.data import LyftData
from kdsweep.config.splits import HoldoutConfig, PartsConfig
from kdsweep.data import open_data
from kdsweep.data.carla import CLASSES, ROAD, ROAD_LINE, TRAFFIC_SIGN, VEHICLE
from kdsweep.data.source import Frame
from kdsweep.data.sources.lyft import LyftSource
from kdsweep.data.splitting import Holdout, Parts
from kdsweep.errors import ConfigError, DataError
from kdsweep.labels import VOID

HALF = Holdout(val=0.5, test=0.0, block=1, seed=0)


def _source(root: Path, hood: bool = False, merge: bool = False) -> LyftSource:
    return LyftSource(root, hood_void=hood, merge_road_lines=merge, split=HALF)


@pytest.mark.parametrize(
    ("made", "given", "part"),
    [
        ("dataA/dataA", ".", "dataA"),
        ("dataA", ".", "dataA"),
        ("Train", ".", "Train"),
        ("dataA/dataA", "dataA", "dataA"),
        ("dataA/dataA", "dataA/dataA", "dataA"),
    ],
)
def test_finds_all_published_layouts(tmp_path: Path, made: str, given: str, part: str) -> None:
    make_data.lyft_part(tmp_path / made, ["02_00_000", "02_00_001", "02_00_002", "02_00_003"])
    splits = _source(tmp_path / given).splits()
    names = {frame.name for frames in splits.values() for frame in frames}
    assert names == {f"{part}/02_00_00{i}" for i in range(4)}


def test_parts_split_by_name(tmp_path: Path, cache: Path) -> None:
    for number, part in enumerate(("dataA", "dataB", "dataC", "dataE")):
        make_data.lyft_part(tmp_path / part / part, [f"0{number}_00_{i}" for i in range(3)])
    config = LyftData(
        source="lyft",
        path=str(tmp_path),
        image_size=make_data.SIZE,
        split=PartsConfig(train=("dataA", "dataB"), val=("dataC",), test=("dataE",)),
        cache=str(cache),
    )
    data = open_data(config)
    assert [name.split("/")[0] for name in data.train.names] == ["dataA"] * 3 + ["dataB"] * 3
    assert {name.split("/")[0] for name in data.val.names} == {"dataC"}
    assert data.test is not None
    assert {name.split("/")[0] for name in data.test.names} == {"dataE"}


def test_an_unknown_part_names_the_known_ones(tmp_path: Path) -> None:
    make_data.lyft_part(tmp_path / "dataA", ["02_00_000"])
    source = LyftSource(
        tmp_path, hood_void=True, merge_road_lines=False, split=Parts(("dataA",), ("dataC",))
    )
    with pytest.raises(ConfigError) as caught:
        source.splits()
    assert caught.value.path == ("data", "split", "val", 0)
    assert "dataC" in str(caught.value)
    assert "allowed: dataA" in str(caught.value)


def test_the_class_is_in_the_red_channel(tmp_path: Path) -> None:
    part = make_data.lyft_part(tmp_path / "dataA", ["02_00_000"])
    frame = Frame("", part / "CameraRGB/02_00_000.png", part / "CameraSeg/02_00_000.png")
    image, labels = _source(tmp_path).read(frame)
    assert (image == make_data.picture(0)).all()
    assert (labels == make_data.ids(0, 13)).all()


@pytest.mark.parametrize(("height", "top"), [(600, 496), (300, 248), (12, 10)])
def test_the_hood_is_void_and_other_vehicles_are_not(tmp_path: Path, height: int, top: int) -> None:
    mask = np.zeros((height, 16, 3), np.uint8)
    mask[..., 0] = VEHICLE
    mask[:, :4, 0] = ROAD
    labels = _source(tmp_path, hood=True).labels_from(mask)
    assert (labels[:top, 4:] == VEHICLE).all()
    assert (labels[top:, 4:] == VOID).all()
    assert (labels[:, :4] == ROAD).all()
    assert (_source(tmp_path, hood=False).labels_from(mask)[:, 4:] == VEHICLE).all()


def test_merged_road_lines_become_road_and_their_class_goes(tmp_path: Path) -> None:
    source = _source(tmp_path, hood=True, merge=True)
    assert len(source.classes) == len(source.palette) == 12
    assert "RoadLines" not in source.classes
    mask = np.tile(np.arange(13, dtype=np.uint8), (12, 1))
    labels = source.labels_from(mask)
    names = [source.classes[label] for label in labels[0]]
    expected = [name if name != "RoadLines" else "Roads" for name in CLASSES]
    assert names == expected
    assert labels[0, ROAD_LINE] == labels[0, ROAD]
    assert labels[-1, VEHICLE] == VOID
    assert labels[-1, TRAFFIC_SIGN] != VOID


def test_missing_partners_are_all_named_in_one_error(tmp_path: Path) -> None:
    part = make_data.lyft_part(tmp_path / "dataA", [f"02_00_{i:03d}" for i in range(12)])
    for number in range(8):
        (part / "CameraSeg" / f"02_00_{number:03d}.png").unlink()
    (part / "CameraRGB" / "02_00_011.png").unlink()
    with pytest.raises(DataError) as caught:
        _source(tmp_path).splits()
    message = str(caught.value)
    assert "9 of 15 files" in message
    assert "dataA/CameraRGB/02_00_000.png: has no partner in CameraSeg" in message
    assert "… and 4 more" in message


def test_frames_are_in_their_natural_order(tmp_path: Path) -> None:
    make_data.lyft_part(tmp_path / "dataA", [f"F_{i}" for i in (10, 9, 1, 2)])
    listed = LyftSource(
        tmp_path, hood_void=True, merge_road_lines=False, split=Parts(("dataA",), ("dataA",))
    ).splits()["train"]
    assert [frame.name for frame in listed] == ["dataA/F_1", "dataA/F_2", "dataA/F_9", "dataA/F_10"]


def test_a_hold_out_may_be_drawn_from_some_parts_alone(tmp_path: Path, cache: Path) -> None:
    for number, part in enumerate(("dataA", "dataB")):
        make_data.lyft_part(tmp_path / part, [f"0{number}_00_{i}" for i in range(10)])

    def opened(parts: tuple[str, ...]) -> list[str]:
        split = HoldoutConfig(val=0.2, block=1, parts=parts)
        data = open_data(
            LyftData(
                source="lyft",
                path=str(tmp_path),
                image_size=make_data.SIZE,
                split=split,
                cache=str(cache),
            )
        )
        assert len(data.val) == 0.2 * (len(data.train) + len(data.val))
        return sorted({name.split("/")[0] for name in (*data.train.names, *data.val.names)})

    assert opened(("dataB",)) == ["dataB"]
    assert opened(("dataA", "dataB")) == ["dataA", "dataB"]
    with pytest.raises(ConfigError, match="no such part") as caught:
        opened(("dataA", "data_b"))
    assert caught.value.path == ("data", "split", "parts", 1)
    assert "did you mean `dataB`?" in str(caught.value)
