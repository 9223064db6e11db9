from __future__ import annotations

import pytest
import torch

from kdsweep.errors import ConfigError, WeightsError
from kdsweep.models import build_network, check_taps, inspect_network
from kdsweep.models.architectures import architecture_names, option_names
from kdsweep.models.pretrained import check_weights, fetch_weights

SMALL = {"decoder_channels": [8, 8, 8, 8, 8]}


def pixels(batch: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("arch", architecture_names())
def test_every_architecture_gives_logits_of_the_image_size_and_its_taps(arch: str) -> None:
    network = build_network(arch, "resnet18", 5, taps=["encoder.0", "encoder.2", "decoder"])
    channels = network.tap_channels()
    # PAN's pyramid halves a stride-16 map three times, so it needs 128 pixels.
    height, width = (128, 128) if arch == "pan" else (64, 96)
    with torch.no_grad():
        logits, taps = network(pixels(height=height, width=width))
    assert logits.shape == (2, 5, height, width)
    assert set(taps) == {"encoder.0", "encoder.2", "decoder"}
    for name, tap in taps.items():
        assert tap.shape[:2] == (2, channels[name])
    assert taps["encoder.0"].shape[-2:] == (height // 2, width // 2)
    assert taps["encoder.2"].shape[-2:] == (height // 8, width // 8)


def test_output_equals_the_wrapped_model_on_normalised_images() -> None:
    network = build_network("unet", "resnet18", 4, options=SMALL).eval()
    images = pixels()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    normalised = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        expected = network.model(normalised)
        logits, _ = network(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_network("unet", "mobilenet_v2", 3, options=SMALL, seed=7).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = build_network("unet", "mobilenet_v2", 3, options=SMALL, seed=7).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    other = build_network("unet", "mobilenet_v2", 3, options=SMALL, seed=8).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("arch", "options", "kept"),
    [("unet", {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}, 0.1), ("pspnet", {}, 0.5)],
)
def test_stages_that_are_never_reached_are_neither_counted_nor_saved(
    arch: str, options: dict, kept: float
) -> None:
    from kdsweep.models.architectures import build_model

    whole = build_model(arch, "resnet18", 3, options=options)
    network = build_network(arch, "resnet18", 3, options=options).train()
    network(pixels())[0].sum().backward()
    reached = sum(p.numel() for p in network.parameters() if p.grad is not None)
    assert network.num_parameters() == reached
    assert sum(v.numel() for v in network.state_dict().values()) < 1.1 * reached
    assert reached < kept * sum(p.numel() for p in whole.parameters())


def test_nothing_is_dropped_from_a_model_that_is_used_whole() -> None:
    from kdsweep.models.architectures import build_model

    for arch, encoder in (("unet", "resnet18"), ("fpn", "mit_b0"), ("unet", "mobilenet_v2")):
        whole = build_model(arch, encoder, 3)
        network = build_network(arch, encoder, 3)
        assert network.num_parameters() == sum(p.numel() for p in whole.parameters())


def test_normalisation_constants_are_not_weights() -> None:
    names = build_network("unet", "resnet18", 3, options=SMALL).state_dict()
    assert all(name.startswith("model.") for name in names)


def test_inspected_networks_have_no_memory() -> None:
    for encoder in ("resnet18", "mit_b0"):
        network = inspect_network("unet", encoder, 3)
        assert {p.device.type for p in network.parameters()} == {"meta"}


def test_a_transformer_without_a_first_stage_does_not_offer_it_as_a_tap() -> None:
    channels = inspect_network("unet", "mit_b0", 3).tap_channels()
    assert "encoder.0" not in channels
    assert channels["encoder.1"] == 32


def test_stride_is_one_where_any_size_will_do() -> None:
    assert inspect_network("unet", "resnet18", 3).stride == 1
    assert inspect_network("fpn", "resnet18", 3).stride == 32
    assert inspect_network("deeplabv3plus", "resnet18", 3).stride == 16


@pytest.mark.parametrize(
    ("arguments", "path", "part"),
    [
        (("unett", "resnet18"), ("arch",), "did you mean `unet`?"),
        (("unet", "resnet81"), ("encoder",), "allowed: resnet18"),
        (("unet", "resnet81"), ("encoder",), "did you mean `resnet18`?"),
        (("unet", "tu-convnext_tinny"), ("encoder",), "did you mean `tu-convnext_tiny`?"),
        (("unet", "tu-my_net"), ("encoder",), "timm.list_models"),
        (("linknet", "mit_b0"), ("encoder",), "not supported for Linknet"),
    ],
)
def test_unknown_names_are_one_clear_error(arguments: tuple, path: tuple, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inspect_network(*arguments, 3)
    assert caught.value.path == path
    assert part in str(caught.value)


def test_options_are_checked_against_the_architecture() -> None:
    assert "decoder_channels" in option_names("unet")
    with pytest.raises(ConfigError, match="no such option") as caught:
        inspect_network("unet", "resnet18", 3, options={"decoder_chanels": [8]})
    assert "decoder_channels" in str(caught.value).split("allowed:")[1].split(",")[0]
    assert "did you mean `decoder_channels`?" in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be built") as caught:
        inspect_network("unet", "resnet18", 3, options={"decoder_channels": [8, 8]})
    assert caught.value.path == ("options",)


def test_taps_are_checked_with_their_place() -> None:
    with pytest.raises(ConfigError) as caught:
        check_taps(["encoder.1", "encoder.9"], ["encoder.0", "encoder.1"], "student", ("distill",))
    assert caught.value.path == ("distill", 1)
    assert "the student has no such tap" in str(caught.value)
    assert "did you mean" not in str(caught.value)  # encoder.0 and encoder.1 are equally near
    with pytest.raises(ConfigError, match=r"did you mean `encoder\.1`\?"):
        check_taps(["encodr.1"], ["encoder.0", "encoder.1"], "student", ("distill",))


def test_weights_nobody_published_are_refused() -> None:
    check_weights("resnet18", "imagenet")
    check_weights("mit_b0", None)
    with pytest.raises(ConfigError) as caught:
        check_weights("resnet18", "noisy")
    assert caught.value.path == ("encoder_weights",)


def test_weights_that_cannot_be_downloaded_name_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    import huggingface_hub.errors
    import segmentation_models_pytorch.encoders as encoders

    def offline(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network and not in the cache")

    monkeypatch.setattr(encoders, "hf_hub_download", offline)
    with pytest.raises(WeightsError) as caught:
        fetch_weights("resnet18", "imagenet")
    for part in ("resnet18", "no network", "HF_HOME", "encoder_weights: null"):
        assert part in str(caught.value)


def test_pretrained_weights_are_loaded_with_their_statistics(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """The real loading code, on weights made on the spot in the published layout."""
    import json

    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file

    source = smp.encoders.get_encoder("resnet18")
    for value in source.parameters():
        torch.nn.init.constant_(value, 0.125)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    config = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "input_range": [0, 1]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(
        smp.encoders, "hf_hub_download", lambda _, filename, **__: str(tmp_path / filename)
    )
    network = build_network("unet", "resnet18", 3, encoder_weights="imagenet", options=SMALL)
    assert float(network.model.encoder.conv1.weight.detach().unique()) == 0.125
    torch.testing.assert_close(network.shift_C11.flatten(), 255 * torch.tensor([0.5, 0.4, 0.3]))
