"""Work that is counted instead of timed: the same in every run, however busy the machine is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from live_bytes import LiveBytes


class Operations(TorchDispatchMode):
    """Counts what is computed while the block runs.

    Attributes:
        arithmetic: Multiplications and additions of convolutions and matrix products.
        elements: Numbers that everything else writes, an operation each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arithmetic = 0
        self.elements = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.arithmetic + self.elements

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            flops = flop_registry[func._overloadpacket]
            self.arithmetic += flops(*args, **(kwargs or {}), out_val=found)
        elif func._schema.is_mutable:
            places = zip(func._schema.arguments, args, strict=False)
            self.elements += _numel([a for p, a in places if p.alias_info and p.is_write])
        elif not func.is_view:
            self.elements += _numel(found)
        return found


def _numel(tree: Any) -> int:
    return sum(leaf.numel() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def count(work: Callable[[], object]) -> Operations:
    """Return the operations of a piece of work."""
    with Operations() as counted:
        work()
    return counted


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most that the tensors of a piece of work, made in it, take at a time."""
    with LiveBytes() as live:
        work()
    return live.peak
