"""How much a forward pass keeps for its backward pass, at its peak, where no allocator tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class _Kept:
    """A tensor that a graph keeps; the meter hears when the graph lets it go."""

    def __init__(self, tensor: Tensor, meter: ActivationMeter) -> None:
        self.tensor = tensor
        self._meter = meter
        storage = tensor.untyped_storage()
        # Tensors without memory have storages of a size too, but no address.
        self._storage, self._bytes = storage._cdata, storage.nbytes()
        meter.kept(self._storage, self._bytes)

    def __del__(self) -> None:
        self._meter.freed(self._storage, self._bytes)


class ActivationMeter:
    """Counts the memory of tensors that autograd keeps while the block runs.

    What single operations need for themselves is not seen.

    Args:
        weights: Modules whose own tensors are not counted.

    Attributes:
        peak_bytes: The most that was kept at a time.
    """

    def __init__(self, weights: Iterable[nn.Module]) -> None:
        self._ignored = {
            value.untyped_storage()._cdata
            for module in weights
            for value in (*module.parameters(), *module.buffers())
        }
        self._users: Counter[int] = Counter()
        self._bytes = 0
        self._stack = ExitStack()
        self.peak_bytes = 0

    def __enter__(self) -> ActivationMeter:
        self._stack.enter_context(
            saved_tensors_hooks(lambda tensor: _Kept(tensor, self), lambda kept: kept.tensor)
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def kept(self, storage: int, num_bytes: int) -> None:
        """A graph keeps a tensor; several may share their memory."""
        if storage in self._ignored:
            return
        self._users[storage] += 1
        if self._users[storage] == 1:
            self._bytes += num_bytes
            self.peak_bytes = max(self.peak_bytes, self._bytes)

    def freed(self, storage: int, num_bytes: int) -> None:
        """A graph has let a tensor go."""
        if storage in self._ignored:
            return
        self._users[storage] -= 1
        if self._users[storage] == 0:
            self._bytes -= num_bytes
