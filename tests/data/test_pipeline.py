"""Pipelines of the user's own."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import make_data
import numpy as np
import pytest

from kdsweep.config.document import read_document
from kdsweep.data import Split, TrainLoader
from kdsweep.data.augment.pipeline import PipelineAugmenter, check_pipeline
from kdsweep.errors import ConfigError
from kdsweep.labels import VOID

CLASS = "__class_fullname__"
SIZE = (32, 48)
IMAGE, LABELS = make_data.picture(0, SIZE), make_data.ids(0, 13, SIZE)


@functools.cache  # imported when it is needed: it takes seconds
def good() -> Any:
    """A pipeline of many kinds of transforms."""
    import albumentations as A

    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-10, 10), scale=(0.8, 1.2), fill_mask=VOID, p=0.7),
            A.RandomCrop(16, 24, p=0.5),
            A.Resize(*SIZE),
            A.OneOf([A.GaussianBlur(), A.GaussNoise(), A.ColorJitter()], p=0.8),
            A.SomeOf([A.CoarseDropout(fill_mask=VOID), A.RGBShift()], n=1),
        ]
    )


def saved_good() -> dict[str, Any]:
    """What albumentations writes, read again."""
    found: dict[str, Any] = json.loads(json.dumps(good().to_dict()))
    return found


def several(*transforms: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """A pipeline, written by hand."""
    tree = {"__class_fullname__": "Compose", "p": 1.0, "transforms": list(transforms)}
    return {"transform": tree | arguments}


def step(name: str, p: float = 1.0, **arguments: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": p, **arguments}


def refused(pipeline: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as found:
        check_pipeline(pipeline, SIZE)
    assert found.value.path[:2] == ("data", "augment")
    return found.value


def test_depends_on_seed_epoch_and_index_alone() -> None:
    augment, other = PipelineAugmenter(saved_good(), 5), PipelineAugmenter(saved_good(), 5)
    expected = {(e, i): augment(IMAGE, LABELS, e, i) for e in range(3) for i in range(6)}
    for (epoch, index), (image, labels) in reversed(expected.items()):
        again = other(IMAGE, LABELS, epoch, index)
        assert np.array_equal(again[0], image)
        assert np.array_equal(again[1], labels)
    assert len({image.tobytes() for image, _ in expected.values()}) == len(expected)
    changed = PipelineAugmenter(saved_good(), 6)
    assert any((changed(IMAGE, LABELS, e, i)[0] != x[0]).any() for (e, i), x in expected.items())


def test_it_does_what_the_pipeline_does() -> None:
    augment = PipelineAugmenter(several(step("VerticalFlip")), 0)
    image, labels = augment(IMAGE, LABELS, 0, 0)
    assert np.array_equal(image, IMAGE[::-1])
    assert np.array_equal(labels, LABELS[::-1])


def test_transforms_draw_independently_of_each_other() -> None:
    # With one seed for all of them, only flipped frames would be turned upside down.
    pipeline = several(step("HorizontalFlip", 0.5), step("VerticalFlip", 0.5))
    augment = PipelineAugmenter(pipeline, 0)
    assert len({augment(IMAGE, LABELS, 0, index)[1].tobytes() for index in range(40)}) == 4


def test_labels_stay_classes_and_frames_as_they_are() -> None:
    check_pipeline(saved_good(), SIZE)
    augment = PipelineAugmenter(saved_good(), 0)
    image, labels = IMAGE.copy(), LABELS.copy()
    image.flags.writeable = labels.flags.writeable = False
    for index in range(60):
        moved, moved_labels = augment(image, labels, 0, index)
        assert moved.shape == IMAGE.shape
        assert moved.dtype == moved_labels.dtype == np.uint8
        assert set(np.unique(moved_labels)) <= {*np.unique(LABELS), VOID}


def test_worker_count_changes_nothing() -> None:
    split = Split(IMAGE[None].repeat(6, 0), LABELS[None].repeat(6, 0), tuple("abcdef"))
    here = TrainLoader(split, 3, saved_good(), seed=7, workers=0)
    there = TrainLoader(split, 3, saved_good(), seed=7, workers=2)
    try:
        for epoch in (0, 3):
            for left, right in zip(here.epoch(epoch), there.epoch(epoch), strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    finally:
        there.close()


def test_all_that_albumentations_writes_can_be_read(tmp_path: Path) -> None:
    import albumentations as A

    for form in ("json", "yaml"):
        A.save(good(), tmp_path / f"augment.{form}", data_format=form)
        assert read_document(tmp_path / f"augment.{form}").tree == saved_good()


@pytest.mark.parametrize(
    ("pipeline", "place", "words"),
    [
        ({"a": 1}, (), "not a saved pipeline"),
        ({"transform": [1]}, (), "not a saved pipeline"),
        ({"transform": step("HorizontalFlip")}, ("transform",), "not a Compose"),
        (several(keypoint_params=3), ("transform",), "refuses Compose"),
        (several(3), (0,), "not a saved transform"),
        (several(step("OneOf", transforms=3)), (0, "transforms"), "not a list"),
        (several(step("HorizontlFlip")), (0, CLASS), "did you mean `HorizontalFlip`"),
        (several(step("os.system", command="true")), (0, CLASS), "not a transform that"),
        (several(step("Lambda", __name__="x")), (0, CLASS), "a Lambda is code"),
        (several(step("ReplayCompose", transforms=[])), (0, CLASS), "not a transform that"),
        (several(step("ToTensorV2")), (0, CLASS), "not a transform that"),
        (several(step("CubicSymmetry")), (0, CLASS), "not a transform that"),
        (several(step("GaussianBlur", sigma_limits=[1, 2])), (0, "sigma_limits"), "did you mean"),
        (several(step("GaussianBlur", sigma_limit="wide")), (0,), "sigma_limit"),
        (several({CLASS: "HorizontalFlip"}), (0, "p"), "missing"),
        (several(step("Mosaic")), (0,), "needs mosaic_metadata, which"),
        (
            several(step("RandomSizedBBoxSafeCrop", height=32, width=48)),
            (0,),
            "needs bboxes, which",
        ),
        (several(step("Normalize", 0.01)), (0,), "float32 images"),
        (
            several(step("NoOp"), step("RandomCrop", 0.01, height=16, width=16)),
            (1,),
            "frames of 16×16, and data.image_size is 32×48",
        ),
        (several(step("CenterCrop", height=64, width=64)), (0,), "refuses CenterCrop"),
        (several(step("Rotate", 0.1)), (0,), "does not have: 0"),
        (
            several(step("OneOf", transforms=[step("Affine", mask_interpolation=1)])),
            (0, "transforms", 0, "mask_interpolation"),
            "labels must not be interpolated",
        ),
    ],
)
def test_what_cannot_augment_frames_is_refused(
    pipeline: dict[str, Any], place: tuple[str | int, ...], words: str
) -> None:
    error = refused(pipeline)
    above = ("transform", "transforms") if place and isinstance(place[0], int) else ()
    assert error.path == ("data", "augment", *above, *place)
    assert words in str(error)
    assert error.allowed is not None or error.hint is not None


def test_a_transform_that_is_switched_off_does_not_matter() -> None:
    check_pipeline(several(step("Normalize", 0.0), step("HorizontalFlip")), SIZE)


def test_a_frame_that_comes_out_otherwise_ends_the_training() -> None:
    augment = PipelineAugmenter(several(step("RandomCrop", height=16, width=16)), 0)
    with pytest.raises(ConfigError, match="epoch 3, frame 4"):
        augment(IMAGE, LABELS, 3, 4)
