"""Augmentation in batches: the frames of the CPU's augmentation, on whatever device."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from kdsweep.data.augment import presets
from kdsweep.data.augment.batch_draws import BatchDrawer
from kdsweep.data.augment.on_cpu import Augmenter
from kdsweep.data.augment.on_device import DeviceAugmenter
from kdsweep.data.augment.presets import PRESETS, Cast, Flaw, Preset
from kdsweep.labels import VOID

SIZE = (48, 64)
NUM_FRAMES = 16
NAMED = [preset for preset in PRESETS if preset != "none"]
# Whatever draws its numbers as if it were always, or never, done.
ALWAYS, NEVER = 1 - 1e-9, 1e-9

ONE_STEP = {
    "rotation": Preset(exposure=(NEVER, 0.1), rotation=(ALWAYS, 20)),
    "crop": Preset(exposure=(NEVER, 0.1), crop=0.15),
    "exposure": Preset(exposure=(ALWAYS, 0.35)),
    "gamma": Preset(exposure=(NEVER, 0.1), gamma=(ALWAYS, (60, 160))),
    "shift": Preset(exposure=(NEVER, 0.1), cast=Cast(ALWAYS, shift=40)),
    "hue_saturation": Preset(
        exposure=(NEVER, 0.1), cast=Cast(ALWAYS, shift=1, hue_saturation=(80, 120))
    ),
    "grey": Preset(exposure=(NEVER, 0.1), cast=Cast(ALWAYS, shift=1, grey=True)),
    "blur": Preset(
        exposure=(NEVER, 0.1), flaw=Flaw(ALWAYS, blur=(0.5, 2.5), motion=(3, 9), grain=(1, 1))
    ),
    "coarse": Preset(
        exposure=(NEVER, 0.1), flaw=Flaw(ALWAYS, blur=(1, 1), scale=(0.3, 0.9), grain=(1, 1))
    ),
    "grain": Preset(exposure=(NEVER, 0.1), flaw=Flaw(ALWAYS, blur=(1, 1), grain=(2, 30))),
}


@pytest.fixture
def one_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A preset of a flip and one step."""
    name = str(request.param)
    monkeypatch.setitem(presets.PRESETS, name, ONE_STEP[name])
    return name


def smooth_pictures(num: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Colourful pictures, as smooth as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (num, size[0] // 8, size[1] // 8, 3), np.uint8)
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse])


def blocks(num: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Labels in large squares."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 13, (num, size[0] // 16, size[1] // 16), np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


IMAGES, LABELS = smooth_pictures(), blocks()


def in_batches(
    preset: str, epoch: int, indices: list[int], *, seed: int = 3
) -> tuple[Tensor, Tensor, dict[str, list[int]]]:
    """Some of the frames, and which steps concerned them."""
    draws = BatchDrawer(preset, SIZE, seed)(epoch, indices)
    images, labels = torch.from_numpy(IMAGES[indices]), torch.from_numpy(LABELS[indices])
    return *DeviceAugmenter(SIZE)(images, labels, draws), draws.frames


def one_by_one(preset: str, epoch: int, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The same on the CPU."""
    augment = Augmenter(preset, SIZE, 3)
    done = [augment(IMAGES[i], LABELS[i], epoch, i) for i in indices]
    return np.stack([image for image, _ in done]), np.stack([labels for _, labels in done])


ALL = list(range(NUM_FRAMES))


# -- against the CPU


@pytest.mark.parametrize("one_step", ONE_STEP, indirect=True)
def test_a_step_does_what_its_counterpart_does(one_step: str) -> None:
    differences, changed = [], 0
    for epoch in range(6):
        images, _, frames = in_batches(one_step, epoch, ALL)
        expected, _ = one_by_one(one_step, epoch, ALL)
        concerned = ALL if one_step == "crop" else frames.get(one_step, [])
        for place in concerned:
            found, wanted = images[place].numpy().astype(int), expected[place].astype(int)
            differences.append(np.abs(found - wanted).mean())
            assert found.mean() == pytest.approx(wanted.mean(), abs=1.0)
            assert found.std() == pytest.approx(wanted.std(), abs=1.5)
            before = IMAGES[place]
            changed += not any(np.array_equal(found, x) for x in (before, before[:, ::-1]))
    assert changed >= 15
    # OpenCV's hues have 180 steps, its rotation 32 places between two pixels.
    most = {"rotation": 1.5, "hue_saturation": 2.5}.get(one_step, 0.5)
    assert np.mean(differences) < most


def test_flips_and_exposure_are_the_same_bit_for_bit() -> None:
    for epoch in range(10):
        images, labels, _ = in_batches("light", epoch, ALL)
        expected, expected_labels = one_by_one("light", epoch, ALL)
        assert np.array_equal(images.numpy(), expected)
        assert np.array_equal(labels.numpy(), expected_labels)


@pytest.mark.parametrize(("preset", "most"), [("standard", 0.3), ("strong", 0.6)])
def test_frames_are_those_of_the_cpu(preset: str, most: float) -> None:
    differences, wrong = [], []
    for epoch in range(10):
        images, labels, _ = in_batches(preset, epoch, ALL)
        expected, expected_labels = one_by_one(preset, epoch, ALL)
        difference = np.abs(images.numpy().astype(int) - expected)
        assert difference.mean(axis=(1, 2, 3)).max() < 6
        differences.append(difference.mean())
        # Only where a pixel's centre is as near to one label as to the other.
        wrong.append((labels.numpy() != expected_labels).mean())
    assert np.mean(differences) < most
    assert np.mean(wrong) < 0.001


# -- by itself


def test_none_leaves_batches_alone() -> None:
    images, labels, frames = in_batches("none", 0, ALL)
    assert np.array_equal(images.numpy(), IMAGES)
    assert np.array_equal(labels.numpy(), LABELS)
    assert not frames


@pytest.mark.parametrize("preset", NAMED)
def test_shapes_types_and_classes_stay(preset: str) -> None:
    images, labels = torch.from_numpy(IMAGES.copy()), torch.from_numpy(LABELS.copy())
    draw, augment = BatchDrawer(preset, SIZE, 0), DeviceAugmenter(SIZE)
    for epoch in range(5):
        moved, moved_labels = augment(images, labels, draw(epoch, ALL))
        assert moved.shape == images.shape
        assert moved_labels.shape == labels.shape
        assert moved.dtype == moved_labels.dtype == torch.uint8
        assert moved.is_contiguous()
        for before, after in zip(LABELS, moved_labels.numpy(), strict=True):
            assert set(np.unique(after)) <= {*np.unique(before), VOID}
    assert np.array_equal(images.numpy(), IMAGES)
    assert np.array_equal(labels.numpy(), LABELS)


@pytest.mark.parametrize("preset", NAMED)
def test_a_frame_does_not_depend_on_its_batch(preset: str) -> None:
    whole, whole_labels, _ = in_batches(preset, 4, ALL)
    for indices in ([5], [15, 2, 7], ALL[::-1]):
        part, part_labels, _ = in_batches(preset, 4, indices)
        assert torch.equal(part, whole[indices])
        assert torch.equal(part_labels, whole_labels[indices])


def test_frames_depend_on_seed_and_epoch() -> None:
    first, _, _ = in_batches("standard", 0, ALL)
    again, _, _ = in_batches("standard", 0, ALL)
    assert torch.equal(first, again)
    assert not torch.equal(first, in_batches("standard", 1, ALL)[0])
    assert not torch.equal(first, in_batches("standard", 0, ALL, seed=4)[0])


@pytest.mark.parametrize("preset", NAMED)
def test_image_and_labels_move_together(preset: str) -> None:
    # The picture is the label map: wherever it is moved and scaled, they must agree.
    coarse = np.random.default_rng(3).integers(0, 2, (40, 6, 8), np.uint8)
    labels = torch.from_numpy(coarse.repeat(16, 1).repeat(16, 2))
    images = (labels * 200 + 20)[..., None].expand(-1, -1, -1, 3).contiguous()
    size = (96, 128)
    draws = BatchDrawer(preset, size, 1)(0, range(40))
    moved, moved_labels = DeviceAugmenter(size)(images, labels, draws)
    agree = []
    for image, label in zip(moved.numpy(), moved_labels.numpy(), strict=True):
        bright, valid = image.mean(axis=2), label != VOID
        middle = (bright[valid & (label == 0)].mean() + bright[label == 1].mean()) / 2
        agree.append(((bright > middle) == (label == 1))[valid].mean())
    # A coarse picture is off by up to two pixels.
    assert min(agree) > 0.9
    assert np.mean(agree) > 0.98


@pytest.mark.parametrize("one_step", ["crop"], indirect=True)
def test_labels_lie_where_their_pixels_do(one_step: str) -> None:
    # Ramps tell where each pixel comes from; the label is the number of its column.
    columns = np.broadcast_to(np.arange(SIZE[1], dtype=np.uint8), SIZE)
    images = torch.from_numpy(columns[None, ..., None].repeat(3, 3).repeat(20, 0) * 3)
    labels = torch.from_numpy(columns[None].repeat(20, 0).copy())
    moved, moved_labels = DeviceAugmenter(SIZE)(
        images, labels, BatchDrawer(one_step, SIZE, 0)(0, range(20))
    )
    offset = moved[..., 0].float() / 3 - moved_labels.float()
    assert offset.abs().max() <= 0.5 + 1 / 3
    assert offset.mean().abs() < 0.05


@pytest.mark.parametrize("one_step", ["rotation"], indirect=True)
def test_what_comes_from_outside_is_void_and_black(one_step: str) -> None:
    images = torch.full((20, *SIZE, 3), 255, dtype=torch.uint8)
    labels = torch.zeros((20, *SIZE), dtype=torch.uint8)
    draws = BatchDrawer(one_step, SIZE, 0)(0, range(20))
    moved, moved_labels = DeviceAugmenter(SIZE)(images, labels, draws)
    void = moved_labels == VOID
    assert 0.01 < void.float().mean() < 0.3
    assert (moved_labels[~void] == 0).all()
    assert (moved[void] == 0).all()
    assert (moved[~void] == 255).all()


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (33, 8)])
def test_small_and_odd_sizes(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (24, *size, 3), dtype=torch.uint8)
    labels = torch.zeros((24, *size), dtype=torch.uint8)
    draws = BatchDrawer("strong", size, 0)(0, range(24))
    assert {"blur", "grain", "coarse", "rotation"} <= draws.frames.keys()
    moved, moved_labels = DeviceAugmenter(size)(images, labels, draws)
    assert moved.shape == images.shape
    assert moved_labels.shape == labels.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("preset", NAMED)
def test_cuda_gives_the_frames_of_the_cpu(preset: str) -> None:
    draws = BatchDrawer(preset, SIZE, 3)(0, ALL)
    pinned = draws._replace(numbers=draws.numbers.pin_memory())
    augment = DeviceAugmenter(SIZE)
    images, labels = torch.from_numpy(IMAGES).cuda(), torch.from_numpy(LABELS).cuda()
    augment(images, labels, pinned)  # its noise is on the device then
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved, moved_labels = augment(images, labels, pinned)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected, expected_labels, _ = in_batches(preset, 0, ALL)
    assert (moved.cpu().int() - expected.int()).abs().float().mean() < 0.05
    assert (moved_labels.cpu() != expected_labels).float().mean() < 0.001
