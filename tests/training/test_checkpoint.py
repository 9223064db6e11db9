from __future__ import annotations

import json
import pickle

import pytest
import torch

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
