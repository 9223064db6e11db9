"""What is drawn for a frame."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kdsweep.data.augment.draws import (
    FrameChange,
    draw_change,
    frame_numbers,
    gaussian_kernel,
)
from kdsweep.data.augment.presets import Flaw, Preset, preset_named

SIZE = (24, 32)


def drawn(preset: str, index: int, *, seed: int = 3, epoch: int = 2) -> FrameChange:
    steps = preset_named(preset)
    assert steps is not None
    return draw_change(steps, SIZE, frame_numbers(seed, epoch, index))


def used(preset: str, num_frames: int = 150) -> set[str]:
    """Names of what was done to some frame."""
    changes = [vars(drawn(preset, index)) for index in range(num_frames)]
    untouched = vars(FrameChange())
    return {k for change in changes for k, v in change.items() if v is not untouched[k]}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("light", {"flip", "exposure"}),
        ("standard", {"flip", "crop", "exposure", "gamma", "shift", "kernel", "grain"}),
        ("strong", set(vars(FrameChange())) - {"window"}),
    ],
)
def test_a_preset_does_what_its_description_says(preset: str, expected: set[str]) -> None:
    assert used(preset) == expected


def test_draws_depend_on_seed_epoch_and_index() -> None:
    first = drawn("strong", 1)
    again = drawn("strong", 1)
    assert str(first) == str(again)
    others = (drawn("strong", 2), drawn("strong", 1, epoch=3), drawn("strong", 1, seed=4))
    assert all(str(other) != str(first) for other in others)


def test_draws_are_as_frequent_and_as_wide_as_the_preset_says() -> None:
    changes = [drawn("strong", index) for index in range(4000)]

    def share(of: list[bool]) -> float:
        return sum(of) / len(of)

    assert share([c.flip for c in changes]) == pytest.approx(0.5, abs=0.03)
    assert share([c.degrees != 0 for c in changes]) == pytest.approx(0.3, abs=0.03)
    assert share([c.crop is not None for c in changes]) == pytest.approx(0.9, abs=0.02)
    assert share([c.exposure is not None for c in changes]) == pytest.approx(0.7, abs=0.03)
    assert share([c.gamma is not None for c in changes]) == pytest.approx(0.4, abs=0.03)
    casts = ([c.shift is not None, c.hue_saturation is not None, c.grey] for c in changes)
    assert np.mean(list(casts), axis=0) == pytest.approx([0.5 / 3] * 3, abs=0.03)
    flaws = ([c.kernel is not None, c.scale is not None, c.grain is not None] for c in changes)
    assert np.mean(list(flaws), axis=0) == pytest.approx([0.175, 0.0875, 0.0875], abs=0.03)
    areas = [c.crop.width * c.crop.height / (SIZE[0] * SIZE[1]) for c in changes if c.crop]
    assert 0.12 < min(areas) < 0.2
    assert 0.9 < max(areas) <= 1
    degrees = [c.degrees for c in changes if c.degrees]
    assert -7 <= min(degrees) < -6.5
    assert 6.5 < max(degrees) <= 7


def test_a_training_that_goes_on_draws_what_it_drew_before() -> None:
    # Other numbers would give a resumed trial other frames than it would have had.
    change = drawn("strong", 2)
    assert (change.flip, change.crop) == (True, (5, 0, 24, 21))
    assert change.degrees == pytest.approx(-5.281157372397421)
    assert change.exposure == pytest.approx((0.7367811877387771, -0.07218738760346555))
    assert change.grain == pytest.approx((27, 58, 15.393125206854988))
    assert drawn("strong", 8).hue_saturation == pytest.approx((3.6398383271922725, 30.65934864285))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 2.0])
def test_a_gaussian_has_its_width(sigma: float) -> None:
    kernel_K = gaussian_kernel(sigma)
    places = np.arange(len(kernel_K)) - len(kernel_K) // 2
    assert len(kernel_K) % 2 == 1
    assert kernel_K.sum() == pytest.approx(1)
    assert np.sqrt((kernel_K * places**2).sum()) == pytest.approx(sigma, abs=0.25)


def test_motion_blurs_along_lines_of_all_lengths_and_angles() -> None:
    flaw = Flaw(1.0, blur=(1, 1), motion=(3, 9), grain=(1, 1))
    preset = Preset(exposure=(0, 0), flaw=flaw)
    changes = [draw_change(preset, SIZE, random.Random(number)) for number in range(300)]
    kernels = [c.kernel for c in changes if c.kernel is not None and c.kernel.ndim == 2]
    assert {len(kernel_KK) for kernel_KK in kernels} == {3, 5, 7, 9}
    for kernel_KK in kernels:
        touched = kernel_KK[kernel_KK > 0]
        assert kernel_KK.sum() == pytest.approx(1)
        assert (touched == touched[0]).all()
        assert len(touched) <= len(kernel_KK)
    upright = [(kernel_KK > 0).any(1).sum() > (kernel_KK > 0).any(0).sum() for kernel_KK in kernels]
    assert 0.3 < np.mean(upright) < 0.7


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown preset"):
        preset_named("wild")
