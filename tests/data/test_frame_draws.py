"""What is drawn for a frame is what albumentations draws for it."""

from __future__ import annotations

from typing import Any

import make_data
import numpy as np
import pytest

from kdsweep.data.augment import Augmenter
from kdsweep.data.frame_draws import FrameChange, draw_change, frame_generators
from kdsweep.data.presets import PRESETS, preset_named

SIZE = (24, 32)
IMAGE, LABELS = make_data.picture(0, SIZE), make_data.ids(0, 13, SIZE)
NAMED = [preset for preset in PRESETS if preset != "none"]


def drawn(preset: str, index: int, *, seed: int = 3, epoch: int = 2) -> FrameChange:
    steps = preset_named(preset)
    assert steps is not None
    return draw_change(steps, SIZE, frame_generators(seed, epoch, index))


def applied(preset: str, index: int, *, seed: int = 3, epoch: int = 2) -> dict[str, dict[str, Any]]:
    """What albumentations says it did to a frame."""
    augment = Augmenter(preset, SIZE, seed)
    compose = augment._transform
    assert compose is not None
    found: dict[str, dict[str, Any]] = {}

    def listen(transform: Any) -> None:
        for inner in getattr(transform, "transforms", ()):
            listen(inner)
        if not hasattr(transform, "transforms"):
            apply = transform.apply_with_params

            def told(params: dict[str, Any], *args: Any, **data: Any) -> Any:
                found[type(transform).__name__] = params
                return apply(params, *args, **data)

            transform.apply_with_params = told

    listen(compose)
    augment(IMAGE, LABELS, epoch, index)
    return found


def expected(steps: dict[str, dict[str, Any]]) -> FrameChange:
    """The same in our words."""
    change = FrameChange(flip="HorizontalFlip" in steps, grey="ToGray" in steps)
    if rotation := steps.get("Rotate"):
        change.degrees = -np.rad2deg(np.arctan2(rotation["matrix"][1, 0], rotation["matrix"][0, 0]))
    if crop := steps.get("RandomResizedCrop"):
        left, top, right, bottom = crop["crop_coords"]
        change.crop = (left, top, right - left, bottom - top)  # type: ignore[assignment]
    if exposure := steps.get("RandomBrightnessContrast"):
        change.exposure = (exposure["alpha"], exposure["beta"])
    if gamma := steps.get("RandomGamma"):
        change.gamma = gamma["gamma"]
    if shift := steps.get("RGBShift"):
        change.shift = tuple(np.trunc(shift["noise_map"]))  # type: ignore[assignment]
    if hue := steps.get("HueSaturationValue"):
        change.hue_saturation = (hue["hue_shift"], hue["sat_shift"])
    if blur := steps.get("GaussianBlur"):
        change.kernel_KK = np.outer(blur["kernel"], blur["kernel"])
    if motion := steps.get("MotionBlur"):
        change.kernel_KK = motion["kernel"]
    if coarse := steps.get("Downscale"):
        change.scale = coarse["scale"]
    if grain := steps.get("Grain"):
        change.grain = (grain["top"], grain["left"], 32 * grain["strength"])  # type: ignore[assignment]
    return change


@pytest.mark.parametrize("preset", NAMED)
def test_numbers_are_those_of_albumentations(preset: str) -> None:
    seen: set[str] = set()
    for index in range(150):
        steps = applied(preset, index)
        seen |= steps.keys()
        found, wanted = drawn(preset, index), expected(steps)
        for name, value in vars(wanted).items():
            if name == "exposure" and value is not None:
                # albumentations has multiplied it with the frame's mean.
                assert found.exposure is not None
                assert found.exposure[0] == pytest.approx(value[0])
                assert np.sign(found.exposure[1]) == np.sign(value[1])
            elif value is None or isinstance(value, bool):
                assert getattr(found, name) == value, (name, index)
            else:
                assert getattr(found, name) == pytest.approx(value, abs=1e-6), (name, index)
    assert (
        seen
        == {
            "light": {"HorizontalFlip", "RandomBrightnessContrast"},
            "standard": {
                "HorizontalFlip",
                "RandomResizedCrop",
                "RandomBrightnessContrast",
                "RandomGamma",
                "RGBShift",
                "GaussianBlur",
                "Grain",
            },
            "strong": {
                "HorizontalFlip",
                "Rotate",
                "RandomResizedCrop",
                "RandomBrightnessContrast",
                "RandomGamma",
                "RGBShift",
                "HueSaturationValue",
                "ToGray",
                "GaussianBlur",
                "MotionBlur",
                "Downscale",
                "Grain",
            },
        }[preset]
    )


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
    flaws = ([c.kernel_KK is not None, c.scale is not None, c.grain is not None] for c in changes)
    assert np.mean(list(flaws), axis=0) == pytest.approx([0.175, 0.0875, 0.0875], abs=0.03)
    areas = [c.crop.width * c.crop.height / (SIZE[0] * SIZE[1]) for c in changes if c.crop]
    assert 0.12 < min(areas) < 0.2
    assert 0.9 < max(areas) <= 1
    degrees = [c.degrees for c in changes if c.degrees]
    assert -7 <= min(degrees) < -6.5
    assert 6.5 < max(degrees) <= 7


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown preset"):
        preset_named("wild")
