from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdsweep.errors import CheckpointError
from kdsweep.training.checkpoint import STATE, TENSORS, load_state, save_state


def test_round_trip_keeps_values_types_and_memory_format(tmp_path) -> None:
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    state = {
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": weight}}, "lr": 1e-3},
        "counts": torch.arange(3),
        "shared": [weight, weight],
        "none": None,
        "names": ("a", "b"),
    }
    save_state(tmp_path, state)
    loaded = load_state(tmp_path)
    assert list(loaded["optimizer"]["state"]) == [0]
    back = loaded["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(back, weight)
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert loaded["counts"].dtype == torch.int64
    assert loaded["optimizer"]["state"][0]["step"].shape == ()
    assert loaded["none"] is None
    assert loaded["names"] == ["a", "b"]


def test_the_file_is_one_that_safetensors_reads_as_it_lay_in_memory(tmp_path) -> None:
    """Values of all widths, in an order in which the wide ones would not begin where they may."""
    state = {
        "flag": torch.tensor([True, False, True]),
        "half": torch.randn(3).to(torch.bfloat16),
        "none": torch.zeros(0, 4),
        "step": torch.tensor(7),
        "strided": torch.arange(6.0).reshape(2, 3).T,
        "last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }
    save_state(tmp_path, state)
    loaded = load_state(tmp_path)
    for name, value in state.items():
        assert torch.equal(loaded[name], value), name
        assert loaded[name].dtype == value.dtype
    on_disk = load_file(tmp_path / TENSORS)
    assert on_disk["5"].shape == (1, 3, 4, 2)
    size = sum(value.nbytes for value in state.values())
    assert (tmp_path / TENSORS).stat().st_size < size + 1000


def test_what_was_written_before_is_read(tmp_path) -> None:
    """Then the file had the order of the dimensions, whatever the order in memory."""
    weight = torch.randn(4, 3, 3, 3)
    save_file({"0": weight}, tmp_path / TENSORS)
    tree = {"$dict": [["weight", {"$tensor": "0", "$channels_last": True}]]}
    (tmp_path / STATE).write_text(json.dumps(tree))
    back = load_state(tmp_path)["weight"]
    assert torch.equal(back, weight)
    assert back.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("damage", ["missing", "truncated", "json", "pickle"])
def test_damage_is_a_clear_error_and_nothing_is_unpickled(tmp_path, damage: str) -> None:
    save_state(tmp_path, {"a": torch.ones(10)})
    if damage == "missing":
        (tmp_path / TENSORS).unlink()
    elif damage == "truncated":
        (tmp_path / TENSORS).write_bytes((tmp_path / TENSORS).read_bytes()[:-9])
    elif damage == "json":
        (tmp_path / STATE).write_text('{"$dict": [["a", {"$tensor"')
    else:
        (tmp_path / TENSORS).write_bytes(pickle.dumps({"0": 1}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(tmp_path)


def test_the_tree_is_plain_json(tmp_path) -> None:
    save_state(tmp_path, {"a": 1})
    assert json.loads((tmp_path / STATE).read_text()) == {"$dict": [["a", 1]]}
