"""The reader of Cityscapes."""

from __future__ import annotations

from pathlib import Path

import make_data
import numpy as np
import pytest

from kdsweep.data.pictures import FrameError
from kdsweep.data.sources.cityscapes import CityscapesSource
from kdsweep.errors import DataError
from kdsweep.labels import VOID

# The published table of labels: (name, label id, train id) of all evaluated classes.
PUBLISHED = [
    ("road", 7), ("sidewalk", 8), ("building", 11), ("wall", 12), ("fence", 13), ("pole", 17),
    ("traffic light", 19), ("traffic sign", 20), ("vegetation", 21), ("terrain", 22), ("sky", 23),
    ("person", 24), ("rider", 25), ("car", 26), ("truck", 27), ("bus", 28), ("train", 31),
    ("motorcycle", 32), ("bicycle", 33),
]  # fmt: skip


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    source = CityscapesSource(tmp_path)
    every = np.array([[*range(34), 255]], np.uint8)
    labels = source.labels_from(every)[0]
    assert source.classes == tuple(name for name, _ in PUBLISHED)
    for train_id, (_, label_id) in enumerate(PUBLISHED):
        assert labels[label_id] == train_id
    evaluated = {label_id for _, label_id in PUBLISHED}
    assert all(labels[i] == VOID for i in range(35) if i not in evaluated)


def test_pairs_are_found_by_city(tmp_path: Path) -> None:
    splits = CityscapesSource(make_data.cityscapes(tmp_path)).splits()
    assert [frame.name for frame in splits["val"]] == [
        "val/lindau/lindau_000000_000019",
        "val/lindau/lindau_000001_000019",
    ]
    assert len(splits["train"]) == 3
    assert "test" not in splits


def test_unknown_ids_and_missing_partners_are_errors(tmp_path: Path) -> None:
    root = make_data.cityscapes(tmp_path)
    mask = make_data.save(tmp_path / "mask.png", np.full((4, 4), 40, np.uint8))
    with pytest.raises(FrameError, match="holds id 40 outside the 19 classes"):
        CityscapesSource(root).read_labels(mask)
    (root / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"has no partner gtFine/val/lindau/lindau_000001_000019"):
        CityscapesSource(root).splits()
