"""Whatever a user writes wrong, it is a ConfigError: no traceback of another kind."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdsweep.config import load_space
from kdsweep.config.document import read_document
from kdsweep.errors import ConfigError

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
WRONG: list[Any] = [
    *(None, True, 0, -1, 1.5, "x", [], ["a", 2], {}, {"a": 1}, {"value": 3}),
    *({"min": 1, "max": "a"}, {"min": 0, "max": 9999}, {"values": [1, 1]}),
    {"values": [{"encoder": "resnet18"}, {"encoder": "resnet18", "architecture": "unet"}]},
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list of a tree, with each of its keys."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield tree, key
            yield from places(value)


def break_once(tree: dict[str, Any], chance: random.Random) -> None:
    """Leave something out, write something wrong, or add a key."""
    parent, key = chance.choice(list(places(tree)))
    match chance.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent[key], dict):
            parent[key]["some_key"] = 1
        case _:
            parent[key] = copy.deepcopy(chance.choice(WRONG))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_broken_space_is_one_located_error(path: Path) -> None:
    chance = random.Random(path.stem)
    refused = 0
    for _ in range(60):
        tree = copy.deepcopy(read_document(path).tree)
        for _ in range(chance.choice([1, 1, 2])):
            break_once(tree, chance)
        try:
            load_space(tree)
        except ConfigError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("name", [["uniform"], {"a": 1}])
def test_a_distribution_that_is_no_name(name: Any) -> None:
    tree = read_document(SPACES[0]).tree
    tree["train"]["lr"] = {"min": 0.1, "max": 1, "distribution": name}
    with pytest.raises(ConfigError, match="unknown distribution"):
        load_space(tree)
