"""What a data set is, whatever folder it lies in, and how two of them differ in words."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import make_data
import pytest

from kdsweep.config import load_job
from kdsweep.config.job import data_section
from kdsweep.data import open_data
from kdsweep.data.identity import Identity, changed_data, differences

STEMS = [f"{i:02d}" for i in range(6)]
NAMED = "names: [road, car, person]\n"


def _identity(root: Path, cache: Path, **changes: object) -> Identity:
    data = {"source": "folder", "path": str(root), "cache": str(cache), "image_size": [32, 32]}
    data |= {"split": {"val": 0.34, "block": 1}, **changes}
    job = load_job({"data": data, "student": {"encoder": "resnet18"}, "train": {"epochs": 1}})
    opened = open_data(job.data)
    assert opened.identity is not None
    return opened.identity


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_data.folder(tmp_path / "data", STEMS, classes=NAMED)


def test_place_time_and_size_make_no_difference(root: Path, tmp_path: Path, cache: Path) -> None:
    first = _identity(root, cache)
    assert first.short == f"folder 4+2, {first.fingerprint[:4]}"
    copy = shutil.copytree(root, tmp_path / "elsewhere")
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    assert _identity(copy, cache).fingerprint == first.fingerprint
    assert _identity(root, cache, image_size=[64, 32]).fingerprint == first.fingerprint
    assert _identity(root, cache, num_classes=5).fingerprint == first.fingerprint


def test_it_is_the_same_on_every_machine() -> None:
    splits = {"train": {"a": ("00", "01")}, "val": {"b": ("02", "03")}}
    identity = Identity("folder", ("road", "car"), {"void": [(255,), ()]}, splits)
    assert identity.fingerprint == "b68b01fe9c11d792456d"
    assert identity.name == {"fingerprint": identity.fingerprint, "short": "folder 1+1, b68b"}
    again = Identity.from_json(json.loads(json.dumps(identity.to_json())))
    assert again.fingerprint == identity.fingerprint
    assert differences(identity, again) == []


def test_differences_are_told_in_words(root: Path, cache: Path) -> None:
    before = _identity(root, cache)
    make_data.save(root / "masks" / "00.png", make_data.ids(9, 3))
    assert differences(before, _identity(root, cache)) in (
        ["train: 1 mask changed (00)"],
        ["val: 1 mask changed (00)"],
    )
    make_data.folder(root, [*STEMS, "06", "07", "08", "09"], classes=NAMED)
    told = differences(before, _identity(root, cache))
    added = [line for line in told if "added" in line]
    assert sum(int(line.split()[1]) for line in added) == 4
    assert all(name in "".join(added) for name in ("06", "07", "08", "09"))
    (root / "classes.yaml").write_text("names: [road, vehicle, person]\n")
    assert "1 class renamed (car → vehicle)" in differences(before, _identity(root, cache))
    (root / "classes.yaml").write_text("names: [car, road, person]\n")
    told = differences(before, _identity(root, cache))
    assert "classes in another order (car, road, person)" in told
    (root / "classes.yaml").write_text("names: [road, car, person, pole]\n")
    now = _identity(root, cache)
    assert "1 class added (pole)" in differences(before, now)
    assert "1 class removed (pole)" in differences(now, before)
    error = str(changed_data("it", before.name, before, now, "put them back"))
    assert before.short in error
    assert now.short in error
    assert "1 class added (pole)" in error
    assert "not listed" in str(changed_data("it", before.name, None, now, "put them back"))


def test_frames_that_change_sides_are_told() -> None:
    frames = {name: (name, name) for name in "abcd"}
    part = [{name: frames[name] for name in names} for names in ("ab", "cd", "abc", "d")]
    first = Identity("folder", ("road",), {}, {"train": part[0], "val": part[1]})
    then = Identity("folder", ("road",), {}, {"train": part[2], "val": part[3]})
    assert differences(first, then) == ["1 frame moved from val to train (c)"]


def test_what_mask_values_stand_for_counts(root: Path, cache: Path) -> None:
    before = _identity(root, cache)
    (root / "classes.yaml").write_text("names: {1: road, 0: car, 2: person}\n")
    assert differences(before, _identity(root, cache)) == ["what mask values stand for (ids)"]


def test_a_section_is_what_decides_on_frames() -> None:
    plain = {"source": "folder", "path": "/a", "image_size": [32, 32], "num_train": 3}
    assert data_section(plain) == data_section({**plain, "image_size": [64, 64], "workers": 2})
    assert data_section(plain) != data_section({**plain, "num_train": 4})


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    assert Identity.read(tmp_path / "gone.json") is None
    (tmp_path / "torn.json").write_text('{"source": "fol')
    assert Identity.read(tmp_path / "torn.json") is None
