"""How much memory a training takes: what its networks hold, and what a step needs at its peak.

Shape legend: B batch, H W image size, C channels (RGB).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from kdsweep.data import UnlabelledBatch
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import online_step
from kdsweep.training.step import TrainingBatch
from kdsweep.training.teacher import Teacher


def module_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's weights and buffers."""
    return sum(value.nbytes for value in (*module.parameters(), *module.buffers()))


def gradient_bytes(learner: Learner) -> int:
    """Return the bytes of a learner's gradients."""
    trained = (p for module in learner.modules for p in module.parameters() if p.requires_grad)
    return sum(p.nbytes for p in trained)


def learner_bytes(learner: Learner) -> int:
    """Return the bytes of a learner's weights, gradients and optimiser state."""
    weights = sum(map(module_bytes, learner.modules))
    return weights + gradient_bytes(learner) + _tensor_bytes(learner.optimizer.state_dict())


def teacher_bytes(teacher: Teacher | None) -> int:
    """Return the bytes of a teacher, like :func:`learner_bytes`; 0 without one."""
    if teacher is None:
        return 0
    average = 0 if teacher.average is None else module_bytes(teacher.average.network)
    return learner_bytes(teacher.learner) + average


def _tensor_bytes(node: Any) -> int:
    if isinstance(node, Tensor):
        return node.nbytes
    if isinstance(node, dict):
        return sum(map(_tensor_bytes, node.values()))
    return sum(map(_tensor_bytes, node)) if isinstance(node, list | tuple) else 0


def activation_bytes(
    engine: Engine,
    shape_BHW: tuple[int, int, int],
    device: torch.device,
    num_unlabelled: int = 0,
) -> int:
    """Return what a step needs at its peak beyond weights, gradients and optimiser state.

    It is a step of the first epoch: terms may end later, and none begins. Its gradients are left
    behind.

    Args:
        engine: Its teacher and its first student take the step.
        shape_BHW: Of the batch.
        device: Where the networks are; without memory (``meta``) the step takes none.
        num_unlabelled: Frames without labels beside those of the batch.
    """
    student, teacher = engine.students[0], engine.teacher

    def frames(num: int) -> tuple[Tensor, Tensor]:
        shape = (num, *shape_BHW[1:])
        images_BHWC = torch.zeros((*shape, 3), dtype=torch.uint8, device=device)
        return images_BHWC, torch.zeros(shape, dtype=torch.int64, device=device)

    unlabelled = None
    if num_unlabelled:
        images_UHWC, inside_UHW = frames(num_unlabelled)
        unlabelled = UnlabelledBatch(images_UHWC, images_UHWC, inside_UHW)
    batch = TrainingBatch(*frames(shape_BHW[0]), epoch=0.5, step=0, unlabelled=unlabelled)
    student.train_mode()
    if teacher is not None:
        teacher.train_mode()
    learners = [student] if teacher is None else [student, teacher.learner]
    if device.type != "cuda":
        modules = [module for learner in learners for module in learner.modules]
        if teacher is not None:
            modules.append(teacher.network)
        with ActivationMeter(modules) as meter:
            online_step(teacher, [student], batch, engine.settings)
        return meter.peak_bytes
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    online_step(teacher, [student], batch, engine.settings)
    peak = torch.cuda.max_memory_allocated(device)
    return max(0, peak - before - sum(map(gradient_bytes, learners)))


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
