"""Training state on disk, in formats that cannot run code when they are read.

A state is a tree of dicts, lists, plain values and tensors. Tensors go to a safetensors file, the
tree itself to JSON, with ``{"$tensor": n}`` in the place of each tensor.

The file is written here and not by safetensors, which wants copies of what is strided or shared: a
checkpoint is half a gigabyte after every epoch, and writing it once is most of what it costs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kdsweep.errors import CheckpointError

TENSORS = "tensors.safetensors"
STATE = "state.json"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a state into an empty folder; the caller puts the folder in place.

    Args:
        folder: Where to write; must exist.
        state: Tree of dicts (keys str or int), lists, tuples, plain values and tensors.
    """
    tensors: list[torch.Tensor] = []
    tree = _pack(state, tensors)
    _write(folder / TENSORS, tensors)
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


def _pack(node: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        here = node.detach().cpu()
        by_channel = _is_channels_last(here)
        # As it lies in memory, so that nothing is copied on the way to the file.
        tensors.append((here.permute(0, 2, 3, 1) if by_channel else here).contiguous())
        return {"$tensor": str(len(tensors) - 1), "$channels_last": by_channel and "stored"}
    if isinstance(node, dict):
        # JSON has text keys only; optimiser states are keyed by number.
        return {"$dict": [[key, _pack(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_pack(value, tensors) for value in node]
    return node


def _write(path: Path, tensors: list[torch.Tensor]) -> None:
    """Write contiguous tensors as a safetensors file, each under its number."""
    # Widest values first, as safetensors does: each then begins at a multiple of its width.
    order = sorted(range(len(tensors)), key=lambda n: -tensors[n].element_size())
    header, end = {}, 0
    for number in order:
        tensor, begin = tensors[number], end
        end += tensor.nbytes
        header[str(number)] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number in order:
            file.write(tensors[number].reshape(-1).view(torch.uint8).numpy().data)


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, dict):
        if "$tensor" in node:
            tensor = tensors[node["$tensor"]]
            if node["$channels_last"] == "stored":
                tensor = tensor.permute(0, 3, 1, 2)
            elif node["$channels_last"]:  # as it was written before the file kept that order
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
