"""An epoch of kdsweep against an epoch of the loop most people write.

The hand-written loop is the one this project began with: batches of one (or eight), every PNG
decoded and resized in the main process in every epoch, float32, training and validation split both
evaluated after each epoch. kdsweep trains the same networks on the same frames from its decode
cache and evaluates the validation split. Both see equally many training frames. Rounds alternate;
on a CPU seconds are those of the process.

Frames are generated in the Lyft-Udacity layout at its published size, 800×600, unless ``--data``
names a folder in that layout. Run::

    python benchmarks/seed_loop.py --height 96 --width 128 --frames 32
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from side_by_side import arguments, finish, network_arguments, ratio, timed

from kdsweep.config import load_job
from kdsweep.config.job import Job
from kdsweep.data import SegmentationData, open_data
from kdsweep.models.network import IMAGENET_MEAN, IMAGENET_STD
from kdsweep.trial import build_cohort

NUM_CLASSES = 13


def make_job(args: argparse.Namespace, cache: Path) -> Job:
    """The job that kdsweep trains, and whose frames the hand-written loop reads."""
    data: dict[str, Any] = {"image_size": [args.height, args.width], "augment": "none"}
    if args.data:
        data |= {"source": "lyft", "path": str(args.data), "hood_void": False}
    else:
        data |= {"source": "roadscenes", "scenes": args.frames, "val_scenes": args.frames // 4}
        data |= {"test_scenes": 0, "scene_size": [600, 800]}
    return load_job(
        {
            "data": data | {"cache": str(cache)},
            "teacher": {"encoder": args.teacher},
            "student": {"encoder": args.student},
            "distill": {"pixel_kl": {"weight": 1.0}},
            "train": {"epochs": args.rounds + 1, "batch_size": args.batch_size},
        }
    )


def find_files(data: SegmentationData) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """Image and label files of both splits."""
    by_name = {path.stem: path for path in sorted(data.source_path.rglob("CameraRGB/*.png"))}
    splits = []
    for split in (data.train, data.val):
        images = [by_name[Path(name).name] for name in split.names]
        splits.append([(p, p.parent.parent / "CameraSeg" / p.name) for p in images])
    return splits[0], splits[1]


class HandWritten:
    """The loop most people write."""

    def __init__(self, args: argparse.Namespace, data: SegmentationData, batch_size: int) -> None:
        """Build networks and list files."""
        self.train_files, self.val_files = find_files(data)
        self.size = (args.width, args.height)
        self.batch_size = batch_size
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.teacher = smp.Unet(args.teacher, encoder_weights=None, classes=NUM_CLASSES)
        self.student = smp.Unet(args.student, encoder_weights=None, classes=NUM_CLASSES)
        self.networks = [net.to(self.device) for net in (self.teacher, self.student)]
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in self.networks]

    def load(self, files: list[tuple[Path, Path]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode, resize and normalise a batch."""
        images, labels = [], []
        for image_path, label_path in files:
            image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
            label = cv2.imread(str(label_path))[..., 2]
            image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
            label = cv2.resize(label, self.size, interpolation=cv2.INTER_NEAREST)
            images.append((image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD)
            labels.append(label)
        pixels = torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2)
        return pixels.to(self.device), torch.from_numpy(np.stack(labels)).long().to(self.device)

    def epoch(self) -> float:
        """Train on every frame, then evaluate both splits; the validation mIoU."""
        for network in self.networks:
            network.train()
        order = np.random.permutation(len(self.train_files))
        for start in range(0, len(order), self.batch_size):
            files = [self.train_files[i] for i in order[start : start + self.batch_size]]
            images, labels = self.load(files)
            target = self.teacher(images)
            F.cross_entropy(target, labels).backward()
            logits = self.student(images)
            kl = F.kl_div(
                F.log_softmax(logits, 1), F.softmax(target.detach(), 1), reduction="batchmean"
            )
            (F.cross_entropy(logits, labels) + kl).backward()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        self.evaluate(self.train_files)
        return self.evaluate(self.val_files)

    def evaluate(self, files: list[tuple[Path, Path]]) -> float:
        """Mean of both networks' batch-wise IoU over a split."""
        scores = []
        with torch.no_grad():
            for network in self.networks:
                network.eval()
                for start in range(0, len(files), self.batch_size):
                    images, labels = self.load(files[start : start + self.batch_size])
                    predicted = network(images).argmax(1)
                    ious = []
                    for k in range(NUM_CLASSES):
                        hits = ((predicted == k) & (labels == k)).sum().item()
                        union = ((predicted == k) | (labels == k)).sum().item()
                        if union:
                            ious.append(hits / union)
                    scores.append(float(np.mean(ious)))
        return float(np.mean(scores))


def main() -> None:
    """Time both, side by side."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=96, width=128)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    np.random.seed(0)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(args, Path(folder))
        open_data(job.data)  # generates the frames, if need be
        opened_s = timed(lambda: open_data(job.data))
        data = open_data(job.data)
        cohort = build_cohort([job], data, device=device)
        epochs = cohort.engine.epochs()
        loops = {size: HandWritten(args, data, size) for size in (1, 8)}
        seconds: dict[str, list[float]] = {"kdsweep": [], "batch 1": [], "batch 8": []}
        for round_number in range(args.rounds + 1):
            seconds["kdsweep"].append(timed(lambda: next(epochs)))
            for size, loop in loops.items():
                seconds[f"batch {size}"].append(timed(loop.epoch))
            if round_number == 0:  # warm-up
                seconds = {name: [] for name in seconds}
        cohort.close()
    ratios = {
        f"batch {size} / kdsweep": ratio(seconds[f"batch {size}"], seconds["kdsweep"])
        for size in loops
    }
    epoch_s = {name: statistics.median(values) for name, values in seconds.items()}
    num_frames = [len(data.train), len(data.val)]
    figures = {"frames": num_frames, "open_cached_s": opened_s, "epoch_s": epoch_s}
    lines = [
        f"{args.teacher} → {args.student}, {args.height}×{args.width}, "
        f"{num_frames[0]} + {num_frames[1]} frames"
    ]
    for name, value in epoch_s.items():
        label = "kdsweep, batch 8" if name == "kdsweep" else f"hand-written, {name}"
        lines.append(f"  {label:22} {value:7.2f} s an epoch")
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
