"""From a job and its data to the batches that it trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kdsweep.data import SegmentationData, TrainLoader, UnlabelledLoader
from kdsweep.data.augment.draws import RandomCrop
from kdsweep.training.seeding import derive_seed

if TYPE_CHECKING:
    from kdsweep.config.job import Job


def training_batches(
    job: Job, data: SegmentationData, device: torch.device
) -> tuple[TrainLoader, UnlabelledLoader | None]:
    """Return what makes a job's batches on a device, and those of its frames without labels."""
    train = job.train
    shared: dict[str, Any] = {
        "workers": num_workers(job, device),
        "pin_memory": device.type == "cuda",
        "device": augmenting_device(job, device),
        "crop": random_crop(job),
    }
    seed = derive_seed(train.seed, "batches")
    loader = TrainLoader(
        data.train,
        train.batch_size,
        job.data.augment,
        seed,
        epoch_frames=data.epoch_frames,
        **shared,
    )
    if data.unlabelled is None:
        return loader, None
    seed = derive_seed(train.seed, "unlabelled")
    num, augment = train.unlabelled_batch_size, job.data.unlabelled_augment
    return loader, UnlabelledLoader(data.unlabelled, num, augment, seed, **shared)


def augmenting_device(job: Job, device: torch.device) -> torch.device | None:
    """Where whole batches are augmented; ``None`` for frame by frame in the loader processes.

    It depends on the job and the kind of device alone, not on how fast anything is, so that a
    training that goes on sees the same batches.
    """
    on_device = job.data.augment_on == "device"
    if job.data.augment_on == "auto":
        on_device = device.type == "cuda"
    by_name = isinstance(job.data.augment, str) and job.data.augment != "none"
    return device if on_device and (by_name or job.data.crop is not None) else None


def random_crop(job: Job) -> RandomCrop | None:
    """Return how a job's crops are drawn; ``None`` where it trains on whole frames."""
    data = job.data
    return None if data.crop is None else RandomCrop(data.crop, data.crop_scale)


def num_workers(job: Job, device: torch.device) -> int:
    """Return how many loader processes a job has: its own number, or by the CPU share."""
    if job.data.workers is not None:
        return job.data.workers
    # On a CPU, loader processes would only take cores from the training they feed.
    return 0 if device.type == "cpu" else max(1, min(4, torch.get_num_threads() - 1))
