"""Pretrained encoder weights: fetched once, and the pixel statistics they were trained with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdsweep.errors import ConfigError, WeightsError
from kdsweep.models.network import IMAGENET_MEAN, IMAGENET_STD
from kdsweep.models.without_wandb import smp, timm

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def has_weights(encoder: str, weights: str) -> bool:
    """Return whether published weights called ``weights`` exist for an encoder."""
    if encoder.startswith("tu-"):
        return bool(timm.models.is_model_pretrained(encoder.removeprefix("tu-")))
    return weights in smp.encoders.encoders[encoder]["pretrained_settings"]


def check_weights(encoder: str, weights: str | None) -> None:
    """Refuse weights that nobody has published.

    Raises:
        ConfigError: Path ``("encoder_weights",)``.
    """
    if weights is not None and not has_weights(encoder, weights):
        raise ConfigError(
            f"encoder {encoder} has no published weights of that name",
            path=("encoder_weights",),
            value=weights,
            allowed="null (random initial weights)",
            hint="choose another encoder, or set encoder_weights: null",
        )


def fetch_weights(encoder: str, weights: str) -> None:
    """Download the weights into the local Hugging Face cache, unless they are there.

    Raises:
        WeightsError: They are not in the cache and cannot be downloaded.
    """
    with _explained(encoder, weights):
        if encoder.startswith("tu-"):
            timm.create_model(encoder.removeprefix("tu-"), pretrained=True)
        else:
            smp.encoders.get_encoder(encoder, weights=weights)


def pixel_statistics(encoder: str, weights: str | None) -> Statistics:
    """Mean and standard deviation of RGB (0 to 1) that an encoder expects.

    Encoders without pretrained weights get ImageNet's.

    Raises:
        WeightsError: The statistics belong to weights that cannot be had.
    """
    if weights is None:
        return IMAGENET_MEAN, IMAGENET_STD
    with _explained(encoder, weights):
        name = weights if not encoder.startswith("tu-") else "imagenet"
        parameters = smp.encoders.get_preprocessing_params(encoder, pretrained=name)
    low, high = parameters["input_range"]
    # A few encoders expect 0 to 255; their statistics are brought to the same 0 to 1.
    scale = float(high - low)
    mean = tuple(float(m) / scale for m in parameters["mean"])
    std = tuple(float(s) / scale for s in parameters["std"])
    return mean, std


@contextmanager
def _explained(encoder: str, weights: str) -> Iterator[None]:
    """Turn a failing download into one clear error."""
    # huggingface_hub's own errors derive from OSError or ValueError; timm raises RuntimeError.
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"The {weights} weights of encoder {encoder} are not on this machine and cannot be "
            f"downloaded.\n"
            f"  reason:  {reason}\n"
            f"  try:     fetch them on a machine with network (kdsweep train does) and copy its "
            f"~/.cache/huggingface here, or point HF_HOME at a copy, or set encoder_weights: null"
        ) from error
