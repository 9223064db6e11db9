"""Augmentation presets."""

from __future__ import annotations

import make_data
import numpy as np
import pytest

from kdsweep.data.augment import presets
from kdsweep.data.augment.on_cpu import Augmenter
from kdsweep.data.augment.presets import PRESETS, Preset
from kdsweep.labels import VOID

SIZE = (24, 32)
IMAGE, LABELS = make_data.picture(0, SIZE), make_data.ids(0, 13, SIZE)
NAMED = [preset for preset in PRESETS if preset != "none"]


def test_none_leaves_frames_alone() -> None:
    image, labels = Augmenter("none", SIZE, 0)(IMAGE, LABELS, 0, 0)
    assert image is IMAGE
    assert labels is LABELS


@pytest.mark.parametrize("preset", NAMED)
def test_shapes_types_and_classes_stay(preset: str) -> None:
    augment = Augmenter(preset, SIZE, 0)
    before = IMAGE.copy(), LABELS.copy()
    allowed = {*np.unique(LABELS).tolist(), VOID}
    for index in range(60):
        image, labels = augment(IMAGE, LABELS, 0, index)
        assert image.shape == (*SIZE, 3)
        assert labels.shape == SIZE
        assert image.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels).tolist()) <= allowed
    assert (before[0] == IMAGE).all()
    assert (before[1] == LABELS).all()


@pytest.mark.parametrize("preset", NAMED)
def test_depends_on_seed_epoch_and_index_alone(preset: str) -> None:
    augment, other = Augmenter(preset, SIZE, 5), Augmenter(preset, SIZE, 5)
    expected = {(e, i): augment(IMAGE, LABELS, e, i) for e in range(3) for i in range(6)}
    for (epoch, index), (image, labels) in reversed(expected.items()):
        again = other(IMAGE, LABELS, epoch, index)
        assert (again[0] == image).all()
        assert (again[1] == labels).all()
    pictures = {image.tobytes() for image, _ in expected.values()}
    assert len(pictures) > 6
    changed = Augmenter(preset, SIZE, 6)
    assert any((changed(IMAGE, LABELS, e, i)[0] != x[0]).any() for (e, i), x in expected.items())


@pytest.mark.parametrize("preset", NAMED)
def test_image_and_labels_move_together(preset: str) -> None:
    # The picture is the label map: wherever it is moved and scaled, they must agree.
    # Areas are large, so that interpolation at their borders concerns few pixels.
    size = (96, 128)
    coarse = np.random.default_rng(3).integers(0, 2, (6, 8), np.uint8)
    labels = coarse.repeat(16, 0).repeat(16, 1)
    image = (labels * 200 + 20).astype(np.uint8)[..., None].repeat(3, 2)
    augment = Augmenter(preset, size, 1)
    shares = []
    for index in range(40):
        moved, moved_labels = augment(image, labels, 0, index)
        bright = moved.mean(axis=2)
        valid = moved_labels != VOID
        middle = (bright[valid & (moved_labels == 0)].mean() + bright[moved_labels == 1].mean()) / 2
        agree = ((bright > middle) == (moved_labels == 1))[valid]
        shares.append(agree.mean())
    # A coarse picture is off by up to two pixels.
    assert min(shares) > 0.9
    assert np.mean(shares) > 0.98


def test_labels_lie_where_their_pixels_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ramps tell where each pixel comes from; the label is the number of its column.
    monkeypatch.setitem(presets.PRESETS, "crop", Preset(exposure=(0, 0), crop=0.15))
    columns = np.broadcast_to(np.arange(SIZE[1], dtype=np.uint8), SIZE)
    image = columns[..., None].repeat(3, 2) * 3
    augment = Augmenter("crop", SIZE, 0)
    done = [augment(image, columns, 0, index) for index in range(40)]
    offsets = [moved[..., 0] / 3 - moved_labels for moved, moved_labels in done]
    assert np.abs(offsets).max() <= 0.5 + 1 / 3
    assert abs(np.mean(offsets)) < 0.05


def test_draws_are_independent_of_each_other() -> None:
    # With one seed for all transforms, only flipped frames would change in brightness.
    size = (16, 16)
    image = np.zeros((*size, 3), np.uint8)
    image[:, 8:] = 120
    labels = (image[..., 0] > 0).astype(np.uint8)
    augment = Augmenter("light", size, 0)
    seen = set()
    for index in range(60):
        moved, moved_labels = augment(image, labels, 0, index)
        flipped = bool(moved_labels[0, 0])
        recoloured = int(moved.max()) != 120 or int(moved.min()) != 0
        seen.add((flipped, recoloured))
    assert len(seen) == 4


def test_frames_that_cannot_be_written_to_are_fine() -> None:
    image, labels = IMAGE.copy(), LABELS.copy()
    image.flags.writeable = labels.flags.writeable = False
    augment = Augmenter("strong", SIZE, 0)
    for index in range(60):
        augment(image, labels, 0, index)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown preset"):
        Augmenter("wild", SIZE, 0)
