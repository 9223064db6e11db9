"""Crops of scaled frames: where their pixels come from, and alike on CPU and device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_device_augment import IMAGES, LABELS, SIZE
from tiny_job import make_job

from kdsweep.config import load_job
from kdsweep.config.distill import DistillConfig
from kdsweep.config.job import Job
from kdsweep.data import open_data
from kdsweep.data.augment.batch_draws import BatchDrawer
from kdsweep.data.augment.draws import RandomCrop, draw_change, frame_numbers
from kdsweep.data.augment.on_cpu import Augmenter
from kdsweep.data.augment.on_device import DeviceAugmenter
from kdsweep.data.augment.presets import preset_named
from kdsweep.data.loaders import TrainLoader
from kdsweep.data.split import Split
from kdsweep.errors import ConfigError
from kdsweep.labels import VOID
from kdsweep.ledger import TrialFolder
from kdsweep.trial import build_cohort, check_job, fingerprint, run_job

CROP = RandomCrop((32, 48), (0.5, 2.0))
ALL = list(range(len(IMAGES)))


def on_device(
    preset: str, epoch: int, indices: list[int], crop: RandomCrop = CROP
) -> tuple[np.ndarray, np.ndarray]:
    draws = BatchDrawer(preset, SIZE, 3, crop)(epoch, indices)
    images, labels = torch.from_numpy(IMAGES[indices]), torch.from_numpy(LABELS[indices])
    moved, moved_labels = DeviceAugmenter(crop.size)(images, labels, draws)
    return moved.numpy(), moved_labels.numpy()


def on_cpu(preset: str, epoch: int, crop: RandomCrop = CROP) -> tuple[np.ndarray, np.ndarray]:
    augment = Augmenter(preset, SIZE, 3, crop)
    done = [augment(IMAGES[i], LABELS[i], epoch, i) for i in ALL]
    return np.stack([image for image, _ in done]), np.stack([labels for _, labels in done])


@pytest.mark.parametrize(
    ("preset", "most"), [("none", 0.3), ("light", 0.3), ("standard", 0.6), ("strong", 0.9)]
)
def test_crops_are_those_of_the_cpu(preset: str, most: float) -> None:
    differences, wrong = [], []
    for epoch in range(6):
        images, labels = on_device(preset, epoch, ALL)
        expected, expected_labels = on_cpu(preset, epoch)
        assert images.shape == expected.shape == (len(ALL), 32, 48, 3)
        assert images.dtype == expected.dtype == labels.dtype == expected_labels.dtype == np.uint8
        differences.append(np.abs(images.astype(int) - expected).mean())
        wrong.append((labels != expected_labels).mean())
    assert np.mean(differences) < most
    assert np.mean(wrong) < 0.002


def test_pixels_come_from_where_the_scale_and_the_corner_say() -> None:
    # Ramps tell the column and the row of a pixel; each label is the number of its column.
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([3 * columns, 4 * rows, np.full_like(rows, 9)], axis=2)
    augment = Augmenter("none", SIZE, 0, CROP)
    scales = set()
    for index in range(60):
        found, labels = augment(image, columns, 0, index)
        window = draw_change(None, SIZE, frame_numbers(0, 0, index), CROP).window
        assert window is not None
        scales.add(round(1 / window.step, 2))
        x = window.left + (np.arange(48) + 0.5) * window.step - 0.5
        y = window.top + (np.arange(32) + 0.5) * window.step - 0.5
        inside = ((y > -0.45) & (y < height - 0.55))[:, None] & ((x > -0.45) & (x < width - 0.55))
        outside = ((y < -0.55) | (y > height - 0.45))[:, None] | ((x < -0.55) | (x > width - 0.45))
        assert (labels[outside] == VOID).all()
        assert (found[outside] == 0).all()
        assert (found[inside][:, 2] == 9).all()
        near = np.clip(x, 0, width - 1)[None].repeat(32, 0)
        assert np.abs(found[..., 0] / 3 - near)[inside].max() < 0.4
        assert np.abs(labels - near)[inside].max() < 0.55
    assert (min(scales), max(scales)) == (pytest.approx(0.5, abs=0.1), pytest.approx(2, abs=0.1))


def test_a_small_scale_shows_the_whole_frame_and_void_around_it() -> None:
    crop = RandomCrop((64, 64), (0.5, 0.5))
    for made in (on_cpu("none", 0, crop), on_device("none", 0, ALL, crop)):
        for labels in made[1]:
            assert (labels != VOID).sum() == pytest.approx(24 * 32, abs=60)
    # It lies anywhere, not always in one corner.
    corners = {tuple(np.argwhere(labels != VOID)[0]) for labels in on_cpu("none", 0, crop)[1]}
    assert len(corners) > len(ALL) // 2


def test_crops_take_the_place_of_the_presets_own_and_change_nothing_without() -> None:
    preset = preset_named("strong")
    assert preset is not None
    cut = [draw_change(preset, SIZE, frame_numbers(1, 0, i), CROP) for i in range(50)]
    assert all(change.crop is None and change.window is not None for change in cut)
    assert {change.flip for change in cut} == {True, False}
    whole = [draw_change(preset, SIZE, frame_numbers(1, 0, i)) for i in range(50)]
    assert all(change.window is None for change in whole)
    assert any(change.crop is not None for change in whole)


@pytest.mark.parametrize("preset", ["none", "strong"])
def test_a_crop_does_not_depend_on_its_batch(preset: str) -> None:
    whole, whole_labels = on_device(preset, 4, ALL)
    part, part_labels = on_device(preset, 4, [5, 2])
    assert np.array_equal(part, whole[[5, 2]])
    assert np.array_equal(part_labels, whole_labels[[5, 2]])


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_a_loader_serves_crops(device: torch.device | None) -> None:
    split = Split(IMAGES, LABELS, tuple(map(str, ALL)))
    loader = TrainLoader(split, 4, "standard", seed=3, device=device, crop=CROP)
    batches = list(loader.epoch(0))
    assert len(batches) == len(ALL) // 4
    for images, labels, _ in batches:
        assert (images.shape, labels.shape) == ((4, 32, 48, 3), (4, 32, 48))
    other = next(iter(loader.epoch(1)))
    assert not torch.equal(batches[0].images_BHWC, other.images_BHWC)


@pytest.mark.parametrize(
    ("data", "path", "said"),
    [
        ({"crop": [64, 64], "crop_scale": [2.0, 0.5]}, ("data", "crop_scale"), "least scale"),
        ({"crop": [64, 64], "crop_scale": [0.0, 2.0]}, ("data", "crop_scale", 0), "too small"),
        ({"crop": [64]}, ("data", "crop"), "too few"),
        ({"crop": [64, 64], "augment": {"transform": {}}}, ("data", "crop"), "its own crops"),
    ],
)
def test_crops_that_cannot_be_drawn_are_refused(data: dict, path: tuple, said: str) -> None:
    whole = {"source": "roadscenes", "image_size": [96, 128], **data}
    student = {"encoder": "resnet18"}
    with pytest.raises(ConfigError, match=said) as refused:
        load_job({"data": whole, "student": student, "train": {"epochs": 1}})
    assert refused.value.path == path


def test_networks_are_checked_at_both_sizes(tiny_data: Path, tmp_path: Path) -> None:
    def job(image_size: tuple[int, int], crop: tuple[int, int]) -> Job:
        made = make_job(tiny_data, tmp_path, student={"arch": "fpn", "encoder": "resnet18"})
        data = made.data.model_copy(update={"image_size": image_size, "crop": crop})
        return made.model_copy(update={"data": data, "teacher": None, "distill": DistillConfig()})

    check_job(job((64, 96), (96, 96)))
    for image_size, crop, at in (((64, 96), (90, 96), "crop"), ((60, 96), (96, 96), "image_size")):
        with pytest.raises(ConfigError, match="multiples of 32") as refused:
            check_job(job(image_size, crop))
        assert refused.value.path == ("data", at)


def test_a_job_trains_on_crops_and_validates_whole_frames(tiny_data: Path, tmp_path: Path) -> None:
    made = make_job(tiny_data, tmp_path, train={"epochs": 2, "batch_size": 4, "lr": 3e-3})
    data = made.data.model_copy(update={"crop": (24, 40), "crop_scale": (0.5, 1.5)})
    job = made.model_copy(update={"data": data})
    cohort = build_cohort([job], open_data(job.data))
    (first, *_) = cohort.loader.epoch(0)
    assert first.images_BHWC.shape == (4, 24, 40, 3)
    assert (first.labels_BHW == VOID).any()
    cohort.close()
    folder = TrialFolder(tmp_path / "trial")
    reports = list(run_job(job, folder, device="cpu", num_threads=1))
    assert reports[-1].metrics["student/miou"] > 0
    num_val = len(open_data(job.data).val)
    confusion = np.array(json.loads(folder.confusion.read_text())["student"])
    assert confusion.sum() == num_val * 30 * 32  # two rows of each frame are void
    whole = made.model_copy(update={"data": data.model_copy(update={"crop": None})})
    assert fingerprint(whole) != fingerprint(job)
