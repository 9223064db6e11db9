"""From names to a network that can be trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch

from kdsweep.config.model import ModelConfig, PixelsConfig
from kdsweep.errors import ConfigError
from kdsweep.models.architectures import build_model, check_names
from kdsweep.models.fixed_size import Size, size_options
from kdsweep.models.network import SegmentationNetwork
from kdsweep.models.pretrained import check_weights, pixel_statistics, weights_file
from kdsweep.models.unused import drop_modules, unused_modules
from kdsweep.models.weights_file import Fit, fit_file

# By architecture, encoder and its options: looking for them takes longer than building a network,
# and a sweep's worker builds the same few again and again.
_UNUSED: dict[tuple[str, str, str], tuple[str, ...]] = {}


def build_network(
    arch: str,
    encoder: str,
    num_classes: int,
    *,
    encoder_weights: str | None = None,
    encoder_pixels: PixelsConfig | None = None,
    options: Mapping[str, Any] | None = None,
    image_size: Size | None = None,
    taps: Iterable[str] = (),
    seed: int = 0,
) -> SegmentationNetwork:
    """Build a network whose initial weights depend only on the arguments.

    Args:
        arch: Architecture by name.
        encoder: Encoder by name.
        num_classes: Channels of the logits.
        encoder_weights: ``None``, ``imagenet``, a file, or ``package:NAME``.
        encoder_pixels: How pixels are normalised; ``None`` as the weights want them.
        options: Further arguments of the architecture.
        image_size: (height, width) of its images, for encoders that are built for one size.
        taps: Feature maps that the forward pass returns.
        seed: Seed of the initial weights. The process's random state is left as it was.

    Raises:
        ConfigError: A name or option is not allowed.
        WeightsError: Pretrained weights cannot be had.
    """
    mean, std = pixel_statistics(encoder, encoder_weights, encoder_pixels)
    file = weights_file(encoder, encoder_weights)
    check_names(arch, encoder, options or {})
    with torch.random.fork_rng():
        told = size_options(encoder, image_size)
        torch.manual_seed(seed)
        model = build_model(
            arch,
            encoder,
            num_classes,
            encoder_weights=None if file else encoder_weights,
            options=options,
            encoder_options=told,
        )
    if file:
        inner = model.get_submodule("encoder")
        inner.load_state_dict(fit_file(inner, encoder, *file).tensors, strict=False)
    kind = (arch, encoder, repr(sorted({**(options or {}), **told}.items())))
    if kind not in _UNUSED:
        _UNUSED[kind] = unused_modules(model, told.get("img_size"))
    drop_modules(model, _UNUSED[kind])
    return SegmentationNetwork(model, num_classes, mean=mean, std=std, taps=taps)


def inspect_network(
    arch: str,
    encoder: str,
    num_classes: int,
    *,
    encoder_weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    image_size: Size | None = None,
) -> SegmentationNetwork:
    """Build a network without memory for its weights, to check a job before it starts.

    Takes what :func:`build_network` takes. A file of weights is read and compared.

    Raises:
        ConfigError: A name, option or set of weights is not allowed.
    """
    return inspect_weights(
        arch,
        encoder,
        num_classes,
        encoder_weights=encoder_weights,
        options=options,
        image_size=image_size,
    )[0]


def inspect_model(model: ModelConfig, num_classes: int, image_size: Size) -> SegmentationNetwork:
    """Do what :func:`inspect_network` does for a network as a job has it, but for its weights."""
    return inspect_network(
        model.arch, model.encoder, num_classes, options=model.options, image_size=image_size
    )


def inspect_weights(
    arch: str,
    encoder: str,
    num_classes: int,
    *,
    encoder_weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    image_size: Size | None = None,
) -> tuple[SegmentationNetwork, Fit | None]:
    """Do what :func:`inspect_network` does, and return how a file's weights fit the encoder."""
    check_names(arch, encoder, options or {})
    check_weights(encoder, encoder_weights)
    told = size_options(encoder, image_size)
    build = partial(build_model, arch, encoder, num_classes, options=options, encoder_options=told)
    try:
        with torch.device("meta"):
            model = build()
    except (ConfigError, RuntimeError):
        # A few encoders read values while they are built, which memory-less tensors do not have;
        # if the job itself is at fault, building it in memory raises the same error again.
        model = build()
    file = weights_file(encoder, encoder_weights)
    fit = fit_file(model.get_submodule("encoder"), encoder, *file) if file else None
    return SegmentationNetwork(model, num_classes).to("meta"), fit
