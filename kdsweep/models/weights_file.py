"""Pretrained encoder weights from a file: read without running code, and fitted by their names."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdsweep.errors import ConfigError

# Below this share the file is more likely of another network than one with a part left out.
_LEAST_SHARE = 0.95
_SHOWN = 4
_PLACE = ("encoder_weights",)

# EfficientNet's first port to PyTorch numbers blocks through, and norms by what comes before them.
_PORT_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_PORT_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PORT_UNEXPANDED = _PORT_BLOCK | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit an encoder.

    Attributes:
        tensors: What to load, by the encoder's own names.
        wanted: How many tensors the encoder has, counters of batches apart.
        missing: The encoder's names that the file lacks; these keep their random values.
        digest: Beginning of the file's SHA-256.
    """

    tensors: dict[str, Tensor]
    wanted: int
    missing: tuple[str, ...]
    digest: str

    def __str__(self) -> str:
        lacking = f", without {_some(self.missing)}" if self.missing else ""
        return f"{len(self.tensors)} of {self.wanted} tensors match{lacking} (sha256 {self.digest})"


def fit_file(
    encoder: nn.Module,
    encoder_name: str,
    file: Path,
    value: str,
    *,
    least: float = _LEAST_SHARE,
    what: str = "encoder",
) -> Fit:
    """Read a file of weights and find the encoder's tensors in it.

    Args:
        encoder: Of segmentation-models-pytorch; its weights need no memory.
        encoder_name: For the error message.
        file: ``.safetensors``, or what ``torch.save`` wrote.
        value: What the user wrote in ``encoder_weights``.
        least: Share of its tensors that must be in the file.
        what: What the encoder is called, if it is more than that.

    Raises:
        ConfigError: The file cannot be read, or its weights are not this encoder's.
    """
    stored = _read(file, value)
    own = {name: tensor for name, tensor in encoder.state_dict().items() if _counts(name, tensor)}
    wanted = {_plain(re.sub(r"^(model\.)+", "", name)): name for name in own}
    found = _find(_with_timm_names(stored, own), set(wanted), value)
    pairs = {wanted[plain]: tensor for plain, tensor in found.items()}
    missing = tuple(name for name in own if name not in pairs)
    if len(pairs) < least * len(own):
        raise ConfigError(
            f"these weights do not fit {what} {encoder_name}: {len(pairs)} of its {len(own)} "
            f"tensors are in the file; it lacks {_some(missing)}, and has {_some(tuple(stored))}",
            path=_PLACE,
            value=value,
            allowed=f"weights of {encoder_name}, as torchvision, timm or segmentation-models-"
            f"pytorch name them, with {least:.0%} of its tensors{' or more' if least < 1 else ''}",
        )
    misshapen = [
        f"{name} {_shape(pairs[name])} instead of {_shape(own[name])}"
        for name in pairs
        if pairs[name].shape != own[name].shape
    ]
    if misshapen:
        raise ConfigError(
            f"{len(misshapen)} tensors of these weights have other shapes than {what} "
            f"{encoder_name}: {_some(misshapen)}",
            path=_PLACE,
            value=value,
            allowed=f"weights of {encoder_name}",
        )
    broken = [name for name, tensor in pairs.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ConfigError(
            f"{len(broken)} tensors of these weights hold NaN or infinity: {_some(broken)}",
            path=_PLACE,
            value=value,
            allowed="finite weights",
        )
    return Fit(pairs, len(own), missing, hashlib.sha256(file.read_bytes()).hexdigest()[:8])


def _read(file: Path, value: str) -> dict[str, Tensor]:
    """Return the floating-point tensors of a file by name; nested mappings join names with dots."""
    try:
        if file.suffix == ".safetensors":
            return dict(_flat(load_file(file), ""))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols that are read all the same
            return dict(_flat(torch.load(file, map_location="cpu", weights_only=True), ""))
    except FileNotFoundError:
        problem = f"there is no such file on this machine, looked for as {file}"
    except pickle.UnpicklingError as error:
        problem = f"this file cannot be read safely: {_refusal(str(error))}"
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, IndexError) as error:
        reason = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
        problem = f"this file cannot be read, perhaps it is cut short: {reason}"
    except LookupError:
        problem = "this is no file that torch.save wrote"
    raise ConfigError(
        problem,
        path=_PLACE,
        value=value,
        allowed="a whole file of tensors by name: .safetensors, or what "
        "torch.save(model.state_dict(), FILE) writes",
    )


def _refusal(said: str) -> str:
    """What made ``torch.load`` refuse a pickle, in words."""
    code = re.search(r"(?:GLOBAL|class|function) ([A-Za-z_][\w.]*\w)", said)
    if code is None:
        return "it holds more than tensors by name, or is cut short"
    return (
        f"it is a pickle that would run code ({code[1]}), of which kdsweep runs none; save the "
        f"model's state_dict alone"
    )


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, Tensor) and _counts(prefix, tree):
        yield prefix, tree


def _counts(name: str, tensor: Tensor) -> bool:
    # Old files have no counters of batches, and nothing is computed with them.
    learned = tensor.is_floating_point() and tensor.layout == torch.strided
    return learned and not name.endswith("num_batches_tracked")


def _plain(name: str) -> str:
    # timm joins with "_" what it flattens to give features: stages.0.blocks is stages_0.blocks.
    return name.replace(".", "_")


def _find(stored: Mapping[str, Tensor], wanted: set[str], value: str) -> dict[str, Tensor]:
    """The wanted tensors, behind the one prefix (``module.encoder.``) that most of them have."""
    by_prefix: Counter[str] = Counter()
    for name in stored:
        for start in (0, *(match.end() for match in re.finditer(r"\.", name))):
            by_prefix[name[:start]] += _plain(name[start:]) in wanted
    ranked = by_prefix.most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1] > len(wanted) // 2:
        raise ConfigError(
            f"this file holds the encoder twice, as {ranked[0][0]}* and {ranked[1][0]}*",
            path=_PLACE,
            value=value,
            allowed="a file with one of them",
        )
    prefix = ranked[0][0] if ranked else ""
    inside = {_plain(n.removeprefix(prefix)): t for n, t in stored.items() if n.startswith(prefix)}
    return {plain: tensor for plain, tensor in inside.items() if plain in wanted}


def _with_timm_names(stored: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of EfficientNet's first port, if timm's names are wanted."""
    block = re.compile(r"(?:^|\.)blocks\.(\d+)\.(\d+)\.")
    places = sorted({(int(m[1]), int(m[2])) for name in own if (m := block.search(name))})
    port = re.compile(r"(^|.*\.)_blocks\.(\d+)\.(\w+)\.(.*)")
    inside = {name: match for name in stored if (match := port.fullmatch(name))}
    if not places or not inside:
        return stored
    expanded = {(m[1], m[2]) for m in inside.values() if m[3] == "_expand_conv"}

    def renamed(name: str) -> str:
        if name not in inside:
            return ".".join(_PORT_OUTSIDE.get(part, part) for part in name.split("."))
        before, number, part, rest = inside[name].groups()
        if int(number) >= len(places):
            return name
        stage, place = places[int(number)]
        parts = _PORT_BLOCK if (before, number) in expanded else _PORT_UNEXPANDED
        return f"{before}blocks.{stage}.{place}.{parts.get(part, part)}.{rest}"

    return {renamed(name): tensor for name, tensor in stored.items()}


def _some(names: tuple[str, ...] | list[str]) -> str:
    rest = len(names) - _SHOWN
    return (", ".join(names[:_SHOWN]) or "nothing") + (f" and {rest} more" if rest > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
