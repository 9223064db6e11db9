"""The readers on real frames; skipped where these are not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdsweep.config.data import CamvidData, LyftData
from kdsweep.data import class_frequencies, open_data
from kdsweep.data.carla import CLASSES, VEHICLE
from kdsweep.data.sources.camvid import CamvidSource
from kdsweep.data.sources.lyft import LyftSource
from kdsweep.data.splitting import Holdout
from kdsweep.labels import VOID

pytestmark = pytest.mark.real_data


def test_lyft_opens_with_a_default_job(real_lyft: Path, cache: Path) -> None:
    config = LyftData(source="lyft", path=str(real_lyft), image_size=(96, 128), cache=str(cache))
    data = open_data(config)
    # The six frames of one recording stay together.
    assert {name.rpartition("_")[0] for name in data.train.names} == {"dataA/02_00"}
    assert data.val.names == ("dataC/03_00_000", "dataC/04_00_043")
    assert len(data.train) == 6


@pytest.mark.parametrize("part", ["dataA", "dataA/dataA"])
def test_one_lyft_part_opens(real_lyft: Path, cache: Path, part: str) -> None:
    path = str(real_lyft / part)
    data = open_data(LyftData(source="lyft", path=path, image_size=(60, 80), cache=str(cache)))
    assert (len(data.train), len(data.val)) == (5, 1)
    assert all(name.startswith("dataA/02_00_") for name in data.train.names)


def test_lyft_labels_are_carlas(real_lyft: Path) -> None:
    frames = {
        "dataA/02_00_000": [
            148698, 44885, 406, 363, 8, 1335, 3807, 89175, 43481, 62380, 73582, 11871, 9,
        ],
        "dataC/04_00_043": [
            208918, 27480, 1283, 4526, 285, 2266, 5114, 94560, 36988, 9061, 83589, 5926, 4,
        ],
    }  # fmt: skip
    rule = Holdout(0.2, 0.0, 50, 0)
    plain = LyftSource(real_lyft, hood_void=False, merge_road_lines=False, split=rule)
    hoodless = LyftSource(real_lyft, hood_void=True, merge_road_lines=False, split=rule)
    listed = {frame.name: frame for frames_ in plain.splits().values() for frame in frames_}
    assert len(listed) == 8
    for name, counts in frames.items():
        image, labels = plain.read(listed[name])
        assert image.shape == (600, 800, 3)
        assert np.bincount(labels.ravel(), minlength=len(CLASSES)).tolist() == counts
        without = hoodless.read_labels(listed[name].mask)
        changed = labels != without
        assert (labels[changed] == VEHICLE).all()
        assert (without[changed] == VOID).all()
        assert not changed[:496].any()
        assert changed.sum() > 0.85 * counts[VEHICLE]


def test_camvid_has_its_published_counts(real_camvid: Path) -> None:
    source = CamvidSource(real_camvid)
    splits = source.splits()
    assert {name: len(frames) for name, frames in splits.items()} == {"train": 367, "val": 101}
    recordings = [frame.name.split("/")[1].split("_")[0] for frame in splits["train"]]
    assert {r: recordings.count(r) for r in set(recordings)} == {
        "0016E5": 204,
        "0006R0": 101,
        "0001TP": 62,
    }
    image, labels = source.read(splits["train"][0])
    assert image.shape == (360, 480, 3)
    named = {*(range(11)), VOID}
    assert set(np.unique(labels).tolist()) <= named
    rows = {name: np.nonzero(labels == i)[0].mean() for i, name in enumerate(source.classes[:6])}
    assert rows["Sky"] < rows["Building"] < rows["Road"]


def test_camvid_opens_decoded(real_camvid: Path, cache: Path) -> None:
    config = CamvidData(
        source="camvid", path=str(real_camvid), image_size=(90, 120), num_train=40, num_val=20,
        cache=str(cache),
    )  # fmt: skip
    data = open_data(config)
    assert (len(data.train), len(data.val), data.test) == (40, 20, None)
    shares = dict(zip(data.classes, class_frequencies(data.train, 11), strict=True))
    assert 0.25 < shares["Road"] < 0.4
    assert 0.15 < shares["Building"] < 0.3
    assert all(share > 0 for share in shares.values())
