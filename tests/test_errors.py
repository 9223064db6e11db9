"""Names that users slip on."""

from __future__ import annotations

import pytest

from kdsweep.errors import ConfigError, close_names, did_you_mean, nearest_first
from kdsweep.registry import Registry


def test_the_guess_is_the_first_of_the_allowed() -> None:
    names = ["hint", "attention", "pixel_kl"]
    assert nearest_first("pixel_k", names) == ["pixel_kl", "hint", "attention"]
    assert did_you_mean("pixel_k", names) == "did you mean `pixel_kl`?"


def test_equally_near_names_keep_their_order() -> None:
    names = ["logits", "encoder.0", "encoder.1", "encoder.2", "encoder.3", "encoder.4"]
    assert nearest_first("encoder.7", names) == [*names[1:], "logits"]


def test_the_last_part_of_a_name_stands_for_it() -> None:
    assert did_you_mean("miou", ["student/pixel_accuracy", "student/miou"]) == (
        "did you mean `student/miou`?"
    )


def test_case_is_no_difference() -> None:
    assert did_you_mean("AdamW", ["sgd", "adamw"]) == "did you mean `adamw`?"
    assert close_names("ROADS", ["Roads", "roads", "cars"], num=1) == ["Roads", "roads"]


@pytest.mark.parametrize("value", ["encoder.9", "quite another"])
def test_no_guess_without_one_nearest_name(value: str) -> None:
    assert did_you_mean(value, ["encoder.0", "encoder.1", "decoder"]) is None


def test_errors_about_names_ask_unless_they_know_better() -> None:
    def text(**arguments: object) -> str:
        return str(ConfigError("unknown", value="pixel_k", **arguments))  # type: ignore[arg-type]

    assert text(allowed=["pixel_kl"]).endswith("try:     did you mean `pixel_kl`?")
    assert text(allowed=["pixel_kl"], hint="leave it").endswith("try:     leave it")
    assert "try:" not in text(allowed="pixel_kl in words")
    assert "try:" not in text(allowed=["attention"])


def test_a_registry_asks() -> None:
    registry: Registry[int] = Registry("animal")
    registry.register("horse")(1)
    with pytest.raises(ConfigError, match="unknown animal") as caught:
        registry.get("hors")
    assert "did you mean `horse`?" in str(caught.value)
