"""Frames a second from the disk to the device, through kdsweep and through a bare DataLoader.

Three ways to an epoch's augmented batches on the device that trains, in turns:

- ``kdsweep``: its loader, from the decode cache; on a GPU the preset runs there, on whole batches;
- ``arrays``: torch's DataLoader on the same decoded frames, with the same augmentation written with
  albumentations;
- ``files``: the same, which decodes and resizes every PNG in every epoch, as most people do.

Batches have the same frames and sizes, in uint8, from as many processes (``--workers 0`` on a CPU,
where seconds are those of the process). Run::

    python benchmarks/loader.py
    python benchmarks/loader.py --height 352 --width 480 --workers 8     # on a GPU
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from seed_loop import find_files, make_job
from side_by_side import arguments, finish, network_arguments, ratio, take_turns
from torch.utils.data import DataLoader, Dataset

from kdsweep.data import SegmentationData, Split, TrainLoader, open_data

PRESET = "standard"


def by_hand(height: int, width: int) -> A.Compose:
    """The preset in albumentations' words."""
    crop = A.RandomResizedCrop((height, width), scale=(0.35, 1.0), ratio=(0.8, 1.25), p=0.9)
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            crop,
            A.RandomBrightnessContrast(0.25, 0.25, p=0.6),
            A.RandomGamma((75, 135), p=0.3),
            A.RGBShift(10, 10, 10, p=0.3),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2)),
                    A.GaussNoise(std_range=(2 / 255, 8 / 255)),
                ],
                p=0.2,
            ),
        ]
    )


class Arrays(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decoded frames, augmented one by one."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.augment = by_hand(*split.image_size)

    def __len__(self) -> int:
        return len(self.split)

    def decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A frame as it is."""
        return np.array(self.split.images_NHWC[index]), np.array(self.split.labels_NHW[index])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = self.decoded(index)
        made = self.augment(image=image, mask=label)
        return torch.from_numpy(made["image"]), torch.from_numpy(made["mask"])


class Files(Arrays):
    """Frames that are decoded every time."""

    def __init__(self, data: SegmentationData) -> None:
        super().__init__(data.train)
        self.files = find_files(data)[0]

    def decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A frame as it is."""
        image_path, label_path = self.files[index]
        height, width = self.split.image_size
        image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
        label = np.ascontiguousarray(cv2.imread(str(label_path))[..., 2])
        return (
            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
            cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST),
        )


def bare_loader(args: argparse.Namespace, frames: Dataset[Any]) -> DataLoader[Any]:
    """Torch's loader with the settings that one would choose."""
    return DataLoader(
        frames,
        args.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=args.workers > 0,
    )


def drained(batches: Callable[[], Iterable[Any]], device: torch.device) -> Callable[[], None]:
    """Bring an epoch's batches to the device."""

    def work() -> None:
        for images, labels, *_ in batches():
            images.to(device, non_blocking=True)
            labels.to(device, non_blocking=True)

    return work


def main() -> None:
    """Time all ways, in turns."""
    cuda = torch.cuda.is_available()
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=96, width=128)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=4 if cuda else 0)
    parser.add_argument("--data", type=Path, help="a folder in the layout of Lyft-Udacity")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    device = torch.device("cuda" if cuda else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        data = open_data(make_job(args, Path(folder)).data)
        ours = TrainLoader(
            data.train,
            args.batch_size,
            PRESET,
            0,
            args.workers,
            pin_memory=cuda,
            device=device if cuda else None,
        )
        arrays, files = bare_loader(args, Arrays(data.train)), bare_loader(args, Files(data))
        seconds = take_turns(
            {
                "kdsweep": drained(lambda: ours.epoch(0), device),
                "arrays": drained(lambda: arrays, device),
                "files": drained(lambda: files, device),
            },
            args.rounds,
        )
        ours.close()
        num_frames = len(ours) * args.batch_size
    rates = {name: num_frames / statistics.median(times) for name, times in seconds.items()}
    ratios = {
        f"DataLoader on {name} / kdsweep": ratio(seconds[name], seconds["kdsweep"])
        for name in ("arrays", "files")
    }
    lines = [f"{args.height}×{args.width}, {PRESET}, {args.workers} processes, frames a second"]
    lines += [f"  {name:8}{rate:10.0f}" for name, rate in rates.items()]
    finish(args, ratios, {"frames_per_s": rates}, lines)


if __name__ == "__main__":
    main()
