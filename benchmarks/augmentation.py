"""Augmentation in processes on the CPU against augmentation in batches on the device that trains.

In turns, for each preset: an epoch of the engine on batches that lie on the device, and on batches
from loaders that augment in so many processes, and on the device; and, each by itself, augmentation
by one process, by the device, and what of the latter is drawn on the host. ``need`` is how many
frames a second the training steps take if they never wait: processes keep up if all of them
together yield more. On a CPU all of it is the work of the same cores, and seconds are those of the
process (``--workers 0``). ``--alone`` leaves the trainings out. Run::

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --height 360 --width 480 --precision bf16    # on a GPU
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from side_by_side import (
    Ratios,
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    ratio,
    take_turns,
)

from kdsweep.data import Split, TrainLoader
from kdsweep.data.augment.batch_draws import BatchDrawer
from kdsweep.data.augment.on_cpu import Augmenter
from kdsweep.data.augment.on_device import DeviceAugmenter

NUM_CLASSES = 13
SEED = 0


class Loaded:
    """A loader's batches, for :func:`make_engine`."""

    def __init__(self, loader: TrainLoader, device: torch.device) -> None:
        self.loader = loader
        self.pixels = torch.empty(0, device=device)

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch."""
        return self.loader.epoch(epoch)


def epochs_on(args: argparse.Namespace, batches: Any, dtype: Any) -> Iterator[Any]:
    """Trains a new pair, an epoch each time."""
    teacher = make_learner(args.teacher, NUM_CLASSES)
    kl = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})
    student = make_learner(args.student, NUM_CLASSES, term=kl, teacher=teacher)
    return make_engine(args, batches, [teacher, student], NUM_CLASSES, dtype).epochs()


def alone(
    args: argparse.Namespace, preset: str, resident: ResidentBatches
) -> dict[str, Callable[[], object]]:
    """An epoch's augmentation without the training."""
    images, labels = resident.pixels, resident.labels
    size = (args.height, args.width)
    indices = [range(n * len(images), (n + 1) * len(images)) for n in range(args.batches)]
    pictures, masks = images.cpu().numpy(), labels.cpu().numpy()
    one_by_one, drawer, batchwise = (
        Augmenter(preset, size, SEED),
        BatchDrawer(preset, size, SEED),
        DeviceAugmenter(size),
    )
    drawn = [drawer(0, some) for some in indices]
    if images.is_cuda:
        drawn = [draws._replace(numbers=draws.numbers.pin_memory()) for draws in drawn]

    def process() -> None:
        for some in indices:
            for place, index in enumerate(some):
                one_by_one(pictures[place], masks[place], 0, index)

    def device() -> None:
        for draws in drawn:
            batchwise(images, labels, draws)

    def draw() -> None:
        for some in indices:
            drawer(0, some)

    return {"process": process, "device": device, "draw": draw}


def measure(
    args: argparse.Namespace, preset: str, resident: ResidentBatches, split: Split, dtype: Any
) -> dict[str, list[float]]:
    """Seconds of each way, round by round."""
    if args.alone:
        return take_turns(alone(args, preset, resident), args.rounds)
    device = resident.pixels.device
    loaders = {
        "in processes": TrainLoader(
            split, args.batch_size, preset, SEED, args.workers, pin_memory=True
        ),
        "on the device": TrainLoader(
            split, args.batch_size, preset, SEED, args.workers, pin_memory=True, device=device
        ),
    }
    sources = {"bare": resident} | {n: Loaded(loader, device) for n, loader in loaders.items()}
    trainings = {name: epochs_on(args, source, dtype) for name, source in sources.items()}
    works: dict[str, Callable[[], object]] = {
        name: epochs.__next__ for name, epochs in trainings.items()
    }
    try:
        return take_turns(works | alone(args, preset, resident), args.rounds)
    finally:
        for loader in loaders.values():
            loader.close()


def main() -> None:
    """Time all ways, preset by preset."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--presets", nargs="+", default=["light", "standard", "strong"])
    parser.add_argument("--batches", type=int, default=10, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, help="loader processes; 0 on a CPU, 4 on a GPU")
    parser.add_argument("--alone", action="store_true", help="time augmentation alone")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    args = parser.parse_args()
    if args.workers is None:
        args.workers = 4 if torch.cuda.is_available() else 0
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    size = (args.batch_size, args.height, args.width)
    resident = ResidentBatches(*size, num_classes=NUM_CLASSES, num_batches=args.batches)
    num_frames = args.batches * args.batch_size
    split = Split(
        resident.pixels.cpu().numpy().repeat(args.batches, 0),
        resident.labels.cpu().numpy().repeat(args.batches, 0),
        tuple(map(str, range(num_frames))),
    )
    ratios: Ratios = {}
    figures: dict[str, dict[str, float]] = {}
    lines = [f"{args.teacher} → {args.student}, {size}, {args.precision}, frames a second"]
    for preset in args.presets:
        seconds = measure(args, preset, resident, split, dtype)
        rates = {name: num_frames / statistics.median(times) for name, times in seconds.items()}
        figures[preset] = rates
        ratios[f"process / device, {preset}"] = ratio(seconds["process"], seconds["device"])
        lines.append(
            f"  {preset}: one process {rates['process']:.0f}, the device {rates['device']:.0f}, "
            f"drawing for it {rates['draw']:.0f}"
        )
        if args.alone:
            continue
        ratios |= {
            f"one process / need, {preset}": ratio(seconds["bare"], seconds["process"]),
            f"device / need, {preset}": ratio(seconds["bare"], seconds["device"]),
            f"bare / in processes, {preset}": ratio(seconds["bare"], seconds["in processes"]),
            f"bare / on the device, {preset}": ratio(seconds["bare"], seconds["on the device"]),
        }
        lines.append(
            f"    training needs {rates['bare']:.0f}; it gets {rates['in processes']:.0f} with "
            f"{args.workers} processes, {rates['on the device']:.0f} on the device"
        )
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
