"""Batches of frames without labels: each frame once as the teacher and once as the student sees it.

Shape suffixes: B frames in a batch, H rows, W columns, C channels (RGB).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from typing_extensions import override

from kdsweep.data.augment.batch_draws import BatchDrawer, Draws
from kdsweep.data.augment.draws import RandomCrop
from kdsweep.data.augment.on_cpu import Augmenter
from kdsweep.data.augment.on_device import DeviceAugmenter
from kdsweep.data.loaders import BatchMaker, Loader, Order, orders_of_steps
from kdsweep.data.split import Split


class UnlabelledBatch(NamedTuple):
    """Frames without labels.

    Attributes:
        weak_BHWC: uint8, RGB: flipped and cut, in their own colours.
        strong_BHWC: uint8, RGB: the same parts of the frames, fully augmented.
        inside_BHW: uint8: 0 in the frame, 255 beyond its edges.
    """

    weak_BHWC: torch.Tensor
    strong_BHWC: torch.Tensor
    inside_BHW: torch.Tensor

    def to(self, device: torch.device) -> UnlabelledBatch:
        """The batch on a device, as a step takes it."""
        weak_BHWC, strong_BHWC, inside_BHW = (part.to(device, non_blocking=True) for part in self)
        return UnlabelledBatch(weak_BHWC, strong_BHWC, inside_BHW.long())


class HostUnlabelled(NamedTuple):
    """A batch as it was made on the host, and what is left to be done to it on the device."""

    batch: UnlabelledBatch
    draws: Draws | None


class _Batches(BatchMaker[HostUnlabelled]):
    """Makes batches of frames without labels."""

    def __init__(
        self,
        split: Split,
        augment: Augmenter | None,
        draw: BatchDrawer | None,
        size: tuple[int, int],
    ) -> None:
        self._split = split
        self._augment = augment
        self._draw = draw
        self._size = size

    @override
    def make(self, order: Order, *, pin_memory: bool) -> HostUnlabelled:
        indices = list(order.indices)
        shape = (len(indices), *self._size)
        bytes_ = partial(torch.zeros, dtype=torch.uint8, pin_memory=pin_memory)
        weak_BHWC, inside_BHW = bytes_((*shape, 3)), bytes_(shape)
        strong_BHWC = weak_BHWC if self._augment is None else bytes_((*shape, 3))
        inside_HW = np.zeros(self._split.image_size, np.uint8)
        for place, index in enumerate(indices):
            image_HWC = self._split.images_NHWC[index]
            if self._augment is None:
                weak_BHWC.numpy()[place] = image_HWC
                continue
            weak, strong, inside = self._augment.weak_and_strong(
                image_HWC, inside_HW, order.epoch, index
            )
            weak_BHWC.numpy()[place], strong_BHWC.numpy()[place] = weak, strong
            inside_BHW.numpy()[place] = inside
        draws = None if self._draw is None else self._draw(order.epoch, indices)
        if draws is not None and pin_memory:
            draws = draws._replace(numbers=draws.numbers.pin_memory())
        return HostUnlabelled(UnlabelledBatch(weak_BHWC, strong_BHWC, inside_BHW), draws)


class UnlabelledLoader:
    """Shuffled, augmented batches of frames without labels, one for each step of a training.

    A batch depends only on (seed, number of the step). Frames are gone through again and again, in
    another order each time; the last ones of a round that fill no batch are left out.

    Args:
        split: The frames; their labels are not looked at.
        batch_size: Frames in a batch; all frames if there are fewer.
        augment: Name of the preset for the student.
        seed: Seed of order and augmentation.
        workers, pin_memory, device, crop: As for :class:`~kdsweep.data.loaders.TrainLoader`.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        augment: str,
        seed: int,
        workers: int = 0,
        pin_memory: bool = False,
        device: torch.device | None = None,
        crop: RandomCrop | None = None,
    ) -> None:
        self._num_frames = len(split)
        self.batch_size = min(batch_size, len(split))
        self._seed = seed
        size = split.image_size if crop is None else crop.size
        args = (augment, split.image_size, seed, crop)
        if device is None:
            batches = _Batches(split, Augmenter(*args), None, size)
        else:
            batches = _Batches(split, None, BatchDrawer(*args), split.image_size)
        self._loader = Loader(batches, workers, pin_memory)
        self._augment = DeviceAugmenter(size)
        self._device = device

    def steps(self, first: int, num: int) -> Iterator[UnlabelledBatch]:
        """The batches of ``num`` steps from step ``first`` on."""
        return map(self.finished, self.host_steps(first, num))

    def host_steps(self, first: int, num: int) -> Iterator[HostUnlabelled]:
        """Those batches before their :meth:`finished` part."""
        sizes = self._num_frames, self.batch_size
        return self._loader.serve(orders_of_steps(self._seed, first, num, *sizes))

    def finished(self, made: HostUnlabelled) -> UnlabelledBatch:
        """The batch after what is done to it on the device."""
        batch, draws = made
        if draws is None or self._device is None:
            return batch
        images_BHWC = batch.weak_BHWC.to(self._device, non_blocking=True)
        inside_BHW = batch.inside_BHW.to(self._device, non_blocking=True)
        weak_BHWC, _ = self._augment(images_BHWC, inside_BHW, draws.moves())
        strong_BHWC, inside_BHW = self._augment(images_BHWC, inside_BHW, draws)
        return UnlabelledBatch(weak_BHWC, strong_BHWC, inside_BHW)

    def close(self) -> None:
        """Ends the loader processes; later :meth:`steps` start new ones."""
        self._loader.close()
