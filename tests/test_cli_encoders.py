"""What `kdsweep encoders` lists."""

from __future__ import annotations

import json
import socket

import pytest
from cli_run import Run

from kdsweep.models.build import build_network
from kdsweep.models.encoders import MOST_COUNTED


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("a list must not need the network")

    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)


def test_a_word_filters_and_few_are_counted(kdsweep: Run) -> None:
    done = kdsweep("encoders", "Efficientnet_Lite0", "--json")
    assert done.returncode == 0
    found = {one["name"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert set(found) == {
        "timm-tf_efficientnet_lite0", "tu-efficientnet_lite0", "tu-tf_efficientnet_lite0"
    }  # fmt: skip
    network = build_network("unet", "tu-efficientnet_lite0", 3)
    built = sum(p.numel() for p in network.model.encoder.parameters())
    assert found["tu-efficientnet_lite0"]["params"] == pytest.approx(built, rel=0.01)
    # A package of the extra `weights` brings those of one, and nobody has fetched the other's.
    assert found["tu-tf_efficientnet_lite0"]["weights"] == {"imagenet": True}
    assert list(found["tu-efficientnet_lite0"]["weights"]) == ["imagenet"]
    shown = kdsweep("encoders", "tf_efficientnet_lite0").stdout
    assert "imagenet (here)" in shown


def test_what_cannot_be_an_encoder_is_told(kdsweep: Run) -> None:
    assert json.loads(kdsweep("encoders", "mit_b0", "--json").stdout)["usable"] is True
    transformers = kdsweep("encoders", "vit_tiny_patch16_224", "--json").stdout.splitlines()
    assert [json.loads(line)["usable"] for line in transformers] == [False]
    assert "it cannot be an encoder here" in kdsweep("encoders", "vit_tiny_patch16_224").stdout


def test_without_a_word_those_of_the_library_are_listed_and_not_counted(kdsweep: Run) -> None:
    found = [json.loads(line) for line in kdsweep("encoders", "--json").stdout.splitlines()]
    assert len(found) > MOST_COUNTED
    assert {one["params"] for one in found} == {None}
    weights = {one["name"]: one["weights"] for one in found}
    assert set(weights["resnet18"]) == {"imagenet", "ssl", "swsl"}
    assert not any(name.startswith("tu-") for name in weights)
    shown = kdsweep("encoders").stdout
    assert "tu-NAME is any of timm's: kdsweep encoders WORD searches them too." in shown
    assert "M params" not in shown


def test_a_word_that_fits_nothing_names_the_nearest(kdsweep: Run) -> None:
    done = kdsweep("encoders", "resnet81")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no encoder has this in its name" in done.stderr
    assert "resnet18" in done.stderr
