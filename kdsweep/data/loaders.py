"""Batches of decoded frames, the same ones whatever the number of loader processes.

Shape suffixes: B frames in a batch, H rows, W columns, C channels (RGB).
"""

from __future__ import annotations

import sys
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from typing_extensions import override

from kdsweep.data.augment.batch_draws import BatchDrawer, Draws
from kdsweep.data.augment.draws import RandomCrop
from kdsweep.data.augment.on_cpu import Augmenter
from kdsweep.data.augment.on_device import DeviceAugmenter
from kdsweep.data.augment.pipeline import PipelineAugmenter
from kdsweep.data.split import Split
from kdsweep.parent import die_with_parent

_ORDER_STREAM = 0x6F72646572
"""Keeps the stream that orders frames apart from those that augment them."""


class Batch(NamedTuple):
    """Frames with their labels.

    Attributes:
        images_BHWC: uint8, RGB, not normalised: each network normalises on its device.
        labels_BHW: uint8, 255 = void.
        indices_B: int64, numbers of the frames in their split.
    """

    images_BHWC: torch.Tensor
    labels_BHW: torch.Tensor
    indices_B: torch.Tensor


class Order(NamedTuple):
    """What one batch is made of; travels to a loader process."""

    epoch: int
    indices: tuple[int, ...]


class HostBatch(NamedTuple):
    """A batch as it was made on the host, and what is left to be done to it on the device."""

    batch: Batch
    draws: Draws | None


M = TypeVar("M")


class BatchMaker(Dataset[M]):
    """Makes a batch out of its order."""

    def __getitem__(self, order: Order) -> M:
        return self.make(order, pin_memory=False)

    @abstractmethod
    def make(self, order: Order, *, pin_memory: bool) -> M:
        """The batch, in new memory."""


class _Batches(BatchMaker[HostBatch]):
    """Makes batches of frames with their labels."""

    def __init__(
        self,
        split: Split,
        augment: Augmenter | PipelineAugmenter | None = None,
        draw: BatchDrawer | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._split = split
        self._size = size or split.image_size
        self._augment = augment
        self._draw = draw

    @override
    def make(self, order: Order, *, pin_memory: bool) -> HostBatch:
        split, indices = self._split, list(order.indices)
        shape = (len(indices), *self._size)
        images_BHWC = torch.empty((*shape, 3), dtype=torch.uint8, pin_memory=pin_memory)
        labels_BHW = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
        indices_B = torch.tensor(indices, dtype=torch.int64)
        images, labels = images_BHWC.numpy(), labels_BHW.numpy()
        for place, index in enumerate(indices):
            image_HWC, labels_HW = split.images_NHWC[index], split.labels_NHW[index]
            if self._augment is not None:
                image_HWC, labels_HW = self._augment(image_HWC, labels_HW, order.epoch, index)
            images[place], labels[place] = image_HWC, labels_HW
        draws = None if self._draw is None else self._draw(order.epoch, indices)
        if pin_memory:
            indices_B = indices_B.pin_memory()
            if draws is not None:
                draws = draws._replace(numbers=draws.numbers.pin_memory())
        return HostBatch(Batch(images_BHWC, labels_BHW, indices_B), draws)


class _Plan(Sampler[Order]):
    """The orders of one epoch; set anew for each."""

    def __init__(self) -> None:
        self.orders: Sequence[Order] = ()

    def __iter__(self) -> Iterator[Order]:
        return iter(self.orders)

    def __len__(self) -> int:
        return len(self.orders)


class Loader(Generic[M]):
    """Serves orders in this process, or through processes that live until :meth:`close`."""

    def __init__(self, batches: BatchMaker[M], workers: int, pin_memory: bool) -> None:
        self._batches = batches
        self._workers = workers
        self._pin_memory = pin_memory and torch.cuda.is_available()
        self._plan = _Plan()
        self._processes: DataLoader[M] | None = None

    def serve(self, orders: Sequence[Order]) -> Iterator[M]:
        """Make the batches of these orders, one after another."""
        if self._workers == 0:
            for order in orders:
                yield self._batches.make(order, pin_memory=self._pin_memory)
            return
        self._plan.orders = orders
        if self._processes is None:
            self._processes = self._started()
        with warnings.catch_warnings():
            # Python ≥ 3.12 warns about forking a process with threads. The children only copy and
            # augment arrays, and starting them afresh would take seconds each.
            warnings.filterwarnings(
                "ignore", "This process .* is multi-threaded", DeprecationWarning
            )
            iterator = iter(self._processes)
        yield from iterator

    def close(self) -> None:
        """End the processes; the next orders start new ones."""
        # The last reference to the iterator ends its processes.
        self._processes = None

    def _started(self) -> DataLoader[M]:
        # Forked where that is safe. Elsewhere the platform's way: a Split then maps its files anew.
        context = "fork" if sys.platform == "linux" else None
        # A generator of its own: DataLoader would otherwise draw from the global one, and dropout
        # would depend on the number of processes.
        options: dict[str, Any] = {"generator": torch.Generator().manual_seed(0)}
        return DataLoader(
            self._batches,
            batch_size=None,
            sampler=self._plan,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            persistent_workers=True,
            multiprocessing_context=context,
            # One that is stopped, or waits for ever, would outlive a killed parent.
            worker_init_fn=die_with_parent,
            **options,
        )


class TrainLoader:
    """Shuffled, augmented batches of the training split.

    A batch depends only on (seed, epoch, place in the epoch), and a frame's augmentation only on
    (seed, epoch, index of the frame). The last batch is left out when it is not full, unless it is
    the only one.

    Args:
        batch_size: Frames in a batch.
        augment: Name of an augmentation preset, or a pipeline as albumentations saves it.
        seed: Seed of order and augmentation.
        workers: Processes that make batches ahead of time; 0 makes them here, when asked.
        pin_memory: Put batches into page-locked memory; of no effect without CUDA.
        crop: Crops to train on in place of whole frames; with a preset only.
        device: Where whole batches are augmented by a preset, to which they are brought for it;
            ``None`` augments frame by frame on the CPU, where they are made. The frames are the
            same but for rounding.
        epoch_frames: How many frames make an epoch; all for ``None``. The next epoch goes on where
            one ends.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        augment: str | Mapping[str, Any],
        seed: int,
        workers: int = 0,
        pin_memory: bool = False,
        device: torch.device | None = None,
        crop: RandomCrop | None = None,
        epoch_frames: int | None = None,
    ) -> None:
        self._num_frames = len(split)
        num = epoch_frames or len(split)
        self._batch_size = min(batch_size, num)
        self._num_steps = num // self._batch_size
        self._seed = seed
        size = split.image_size if crop is None else crop.size
        if not isinstance(augment, str):
            assert device is None, "a pipeline runs on the CPU"
            batches = _Batches(split, augment=PipelineAugmenter(augment, seed))
        elif device is None:
            on_cpu = Augmenter(augment, split.image_size, seed, crop)
            batches = _Batches(split, augment=on_cpu, size=size)
        else:
            batches = _Batches(split, draw=BatchDrawer(augment, split.image_size, seed, crop))
        self._loader = Loader(batches, workers, pin_memory)
        self._augment = DeviceAugmenter(size)
        self.workers = workers
        self.device = device

    def __len__(self) -> int:
        return self._num_steps

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0; only one epoch can be under way at a time."""
        return map(self.finished, self.host_batches(epoch))

    def host_batches(self, epoch: int) -> Iterator[HostBatch]:
        """The batches of one epoch before their :meth:`finished` part."""
        first, num = epoch * self._num_steps, self._num_steps
        orders = orders_of_steps(self._seed, first, num, self._num_frames, self._batch_size)
        return self._loader.serve(orders)

    def finished(self, made: HostBatch) -> Batch:
        """The batch after what is done to it on the device."""
        batch, draws = made
        if draws is None or self.device is None:
            return batch
        images_BHWC = batch.images_BHWC.to(self.device, non_blocking=True)
        labels_BHW = batch.labels_BHW.to(self.device, non_blocking=True)
        return Batch(*self._augment(images_BHWC, labels_BHW, draws), batch.indices_B)

    def close(self) -> None:
        """Ends the loader processes; a later :meth:`epoch` starts new ones."""
        self._loader.close()


def orders_of_steps(
    seed: int, first: int, num: int, num_frames: int, batch_size: int
) -> list[Order]:
    """Return what the batches of ``num`` steps from step ``first`` on are made of.

    Frames are gone through again and again, in another order each time; the last ones of a round
    that fill no batch are left out.
    """
    per_round = num_frames // batch_size
    orders, rounds = [], -1
    rows: list[list[int]] = []
    for step in range(first, first + num):
        if step // per_round != rounds:
            rounds = step // per_round
            order = np.random.default_rng((seed, rounds, _ORDER_STREAM)).permutation(num_frames)
            rows = order[: per_round * batch_size].reshape(per_round, -1).tolist()
        orders.append(Order(rounds, tuple(rows[step % per_round])))
    return orders


class EvalLoader:
    """All frames of a split in order, as they are; the last batch may be smaller.

    Args:
        batch_size: Frames in a batch.
        workers, pin_memory: As for :class:`TrainLoader`; copying mapped files seldom needs any.
    """

    def __init__(
        self, split: Split, batch_size: int, workers: int = 0, pin_memory: bool = False
    ) -> None:
        self._orders = [
            Order(0, tuple(range(start, min(start + batch_size, len(split)))))
            for start in range(0, len(split), batch_size)
        ]
        self._loader = Loader(_Batches(split), workers, pin_memory)

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[Batch]:
        return (made.batch for made in self._loader.serve(self._orders))

    def close(self) -> None:
        """Ends the loader processes; iterating again starts new ones."""
        self._loader.close()
