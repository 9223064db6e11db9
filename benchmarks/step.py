"""Images per second of kdsweep's engine against a bare PyTorch loop on tensors in memory.

Both train U-Net/ResNet34 → U-Net/ResNet18 with cross-entropy, pixel KL, AdamW, a poly schedule and
gradient clipping, in the same precision and memory layout. The bare loop has its batches
normalised in memory already and reports nothing; the engine starts from uint8 pixels and keeps
its running means. Rounds alternate, so that both meet the same noise. Run::

    python benchmarks/step.py --height 64 --width 96 --batch-size 8
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from kdsweep.distill import TapChannels, build_objective
from kdsweep.models import build_network
from kdsweep.models.network import IMAGENET_MEAN, IMAGENET_STD
from kdsweep.training.engine import Engine
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import StepSettings
from kdsweep.training.optimizers import Schedule, build_optimizer
from kdsweep.training.supervised import SupervisedLoss

NUM_CLASSES = 13


class ResidentBatches:
    """The same few batches over and over, as pixels on the device."""

    def __init__(self, pixels: torch.Tensor, labels: torch.Tensor, num_batches: int) -> None:
        """Keep the tensors; `num_batches` of them make an epoch."""
        self._batch = (pixels, labels.to(torch.uint8), torch.arange(len(pixels)))
        self._num_batches = num_batches

    def __len__(self) -> int:
        return self._num_batches

    def epoch(self, epoch: int) -> Iterator:
        """The batches of an epoch."""
        return iter([self._batch] * self._num_batches)


def make_engine(
    args: argparse.Namespace, device: str, dtype: torch.dtype | None, batches: ResidentBatches
) -> Engine:
    """The engine, with a validation split that is empty: only steps are timed."""
    learners = []
    for encoder in (args.teacher, args.student):
        network = build_network("unet", encoder, NUM_CLASSES, seed=0)
        network = network.to(device, memory_format=torch.channels_last)
        objective = None
        modules: list[torch.nn.Module] = [network]
        if learners:
            channels = TapChannels({"logits": NUM_CLASSES}, {"logits": NUM_CLASSES})
            terms = {"pixel_kl": {"weight": 1.0, "temperature": 1.0}}
            objective = build_objective(terms, channels)
            modules.append(objective)
        optimizer = build_optimizer("adamw", modules, lr=1e-3, weight_decay=1e-2)
        schedule = Schedule("poly", 1e-3, args.rounds + 1)
        learners.append(Learner(network, optimizer, schedule, clip_norm=5.0, objective=objective))
    return Engine(
        teacher=learners[0],
        students=learners[1:],
        batches=batches,
        validation=(),
        settings=StepSettings(SupervisedLoss(), dtype, device, seed=0),
        num_classes=NUM_CLASSES,
        epochs=args.rounds + 1,
        device=device,
    )


class BareLoop:
    """What one would write by hand."""

    def __init__(
        self,
        args: argparse.Namespace,
        device: str,
        dtype: torch.dtype | None,
        pixels: torch.Tensor,
        labels: torch.Tensor,
    ) -> None:
        """Build both networks and put one normalised batch on the device."""
        mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)
        self.images = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.labels, self.device, self.dtype = labels, device, dtype
        self.networks, self.optimizers = [], []
        for encoder in (args.teacher, args.student):
            model = smp.Unet(encoder, encoder_weights=None, classes=NUM_CLASSES)
            model = model.to(device, memory_format=torch.channels_last).train()
            self.networks.append(model)
            self.optimizers.append(torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True))

    def run(self, num_batches: int) -> None:
        """Train on the batch again and again."""
        teacher, student = self.networks
        for _ in range(num_batches):
            with torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not None):
                target = teacher(self.images)
            F.cross_entropy(target.float(), self.labels).backward()
            with torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not None):
                logits = student(self.images)
            log_p = F.log_softmax(target.detach().float(), 1)
            log_q = F.log_softmax(logits.float(), 1)
            divergence = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1).mean()
            (F.cross_entropy(logits.float(), self.labels) + divergence).backward()
            for network, optimizer in zip(self.networks, self.optimizers, strict=True):
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        if self.device == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Time both, side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="resnet34")
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=4, help="per round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    torch.manual_seed(0)
    shape = (args.batch_size, args.height, args.width)
    pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=device)
    labels = torch.randint(0, NUM_CLASSES, shape, device=device)
    batches = ResidentBatches(pixels, labels, args.batches)
    engine = make_engine(args, device, dtype, batches)
    bare = BareLoop(args, device, dtype, pixels, labels)
    epochs = engine.epochs()
    next(epochs)
    bare.run(args.batches)
    engine_s, bare_s = [], []
    for round_number in range(args.rounds):
        # The order alternates too: whoever goes second finds warmer caches.
        for who in ("engine", "bare") if round_number % 2 else ("bare", "engine"):
            started = time.perf_counter()
            if who == "engine":
                next(epochs)
                engine_s.append(time.perf_counter() - started)
            else:
                bare.run(args.batches)
                bare_s.append(time.perf_counter() - started)
    images = args.batches * args.batch_size
    ratios = [b / e for b, e in zip(bare_s, engine_s, strict=True)]
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "shape": list(shape),
        "precision": args.precision,
        "engine_images_per_s": images / statistics.median(engine_s),
        "bare_images_per_s": images / statistics.median(bare_s),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "rounds": args.rounds,
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.teacher} → {args.student}, {shape}, {result['device']}, {args.precision}")
    print(f"  engine     {result['engine_images_per_s']:8.2f} images/s")
    print(f"  bare loop  {result['bare_images_per_s']:8.2f} images/s")
    print(
        f"  ratio      {result['ratio_median']:8.3f} median of {args.rounds} rounds "
        f"({result['ratio_min']:.3f} to {result['ratio_max']:.3f}); floor 0.95"
    )


if __name__ == "__main__":
    main()
