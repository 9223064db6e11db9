"""Training state on disk, in formats that cannot run code when they are read.

A state is a tree of dicts, lists, plain values and tensors. Tensors go to a safetensors file, the
tree itself to JSON, with ``{"$tensor": n}`` in the place of each tensor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kdsweep.errors import CheckpointError

TENSORS = "tensors.safetensors"
STATE = "state.json"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a state into an empty folder; the caller puts the folder in place.

    Args:
        folder: Where to write; must exist.
        state: Tree of dicts (keys str or int), lists, tuples, plain values and tensors.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(state, tensors)
    save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(tree), encoding="utf-8")


def load_state(folder: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, with tensors on the CPU.

    Raises:
        CheckpointError: Files are missing or damaged.
    """
    try:
        tree = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        state: dict[str, Any] = _unpack(tree, tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be read ({error}); delete the folder to start the "
            f"trial anew"
        ) from error
    return state


def _pack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        key = str(len(tensors))
        # Cloned where memory is shared or strided: safetensors stores plain contiguous blocks.
        tensors[key] = node.detach().cpu().contiguous().clone()
        return {"$tensor": key, "$channels_last": _is_channels_last(node)}
    if isinstance(node, dict):
        # JSON has text keys only; optimiser states are keyed by number.
        return {"$dict": [[key, _pack(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_pack(value, tensors) for value in node]
    return node


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, dict):
        if "$tensor" in node:
            tensor = tensors[node["$tensor"]]
            if node["$channels_last"]:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            return tensor
        return {key: _unpack(value, tensors) for key, value in node["$dict"]}
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    return node


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )
