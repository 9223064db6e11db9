"""What the benchmarks share.

A clock that other work on the machine disturbs little, batches in memory, networks to train on
them, and one form in which results are printed. Ratios are what counts. Their form is the same for
all (``--json``): name, then ``median``, ``least`` and ``most`` over so many ``rounds``. Every ratio
is the better the higher it is, so that ``floors.toml`` needs one number for each; ``check.py``
compares them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Ratios = dict[str, dict[str, float]]


def arguments(doc: str) -> argparse.ArgumentParser:
    """A parser that knows what all benchmarks know."""
    parser = argparse.ArgumentParser(description=doc.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def network_arguments(parser: argparse.ArgumentParser) -> None:
    """The choices of benchmarks that train networks."""
    parser.add_argument("--teacher", default="resnet34")
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)


# -- time


def synchronize() -> None:
    """Wait until the device has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clock() -> float:
    """Seconds: of this process's CPU time, or of the wall where a GPU does the work."""
    import torch

    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    started = clock()
    work()
    return clock() - started


def take_turns(
    works: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Time pieces of work in turns, so that all meet the same noise.

    Args:
        works: By name.
        rounds: How often each.
        warm_up: Rounds before those that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-warm_up, rounds):
        # The order alternates too: whoever goes second finds warmer caches.
        for name in list(works)[:: 1 if number % 2 else -1]:
            found = timed(works[name])
            if number >= 0:
                seconds[name].append(found)
    return seconds


# -- results


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range of a ratio's rounds."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "rounds": len(values),
    }


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Of two series that were measured in turns."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def machine() -> dict[str, Any]:
    """What figures depend on."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": None if cuda else round(os.getloadavg()[0], 1),
        "torch": str(torch.__version__),
    }


def finish(
    args: argparse.Namespace, ratios: Ratios, figures: dict[str, Any], lines: Sequence[str]
) -> None:
    """Print the results.

    Args:
        args: What the benchmark was asked for.
        ratios: By name, each from :func:`ratio` or :func:`spread`.
        figures: Whatever else was measured.
        lines: The same for people; the ratios follow them.
    """
    settings = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(args).items()
        if key != "json"
    }
    if args.json:
        found = {"machine": machine(), "settings": settings, "ratios": ratios, "figures": figures}
        print(json.dumps(found))
        return
    told = machine()
    print(f"{told['device']}, {told['threads']} of {told['cores']} cores, load {told['load']}")
    for line in lines:
        print(line)
    for name, values in ratios.items():
        range_ = f"({values['least']:.3f} to {values['most']:.3f}, {values['rounds']:.0f} rounds)"
        print(f"  {name}: {values['median']:.3f} {range_}")


# -- trainings on batches in memory


class ResidentBatches:
    """The same batch over and over, as pixels on the device; it times the steps made of it.

    Args:
        batch_size, height, width: Of the batch.
        num_classes: Of its labels.
        num_batches: An epoch's.
        between: Is run between two steps, outside of the clock.
    """

    def __init__(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        num_classes: int,
        num_batches: int,
        between: Callable[[], object] | None = None,
    ) -> None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        shape = (batch_size, height, width)
        rng = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=rng)
        labels = torch.randint(0, num_classes, shape, dtype=torch.uint8, generator=rng)
        self.pixels, self.labels = pixels.to(device), labels.to(device)
        self.steps: list[float] = []
        self._num_batches = num_batches
        self._between = between

    def __len__(self) -> int:
        return self._num_batches

    def epoch(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch; leaves the seconds of each step in ``steps``.

        What an epoch does after its last step counts with it.
        """
        import torch

        self.steps.clear()
        for number in range(self._num_batches):
            if self._between is not None:
                self._between()
            self._started = clock()
            yield self.pixels, self.labels, torch.arange(len(self.pixels))
            if number + 1 < self._num_batches:
                self.steps.append(clock() - self._started)

    def end(self) -> list[float]:
        """The seconds of the epoch's steps; call when it has ended."""
        self.steps.append(clock() - self._started)
        return list(self.steps)


def make_learner(
    encoder: str,
    num_classes: int,
    *,
    term: tuple[str, dict[str, Any]] | None = None,
    teacher: Any = None,
    taps: Sequence[str] = (),
) -> Any:
    """A teacher, or a student with at most one distillation term.

    Args:
        encoder: Of a U-Net.
        num_classes: K.
        term: A loss and its options.
        teacher: The learner that the student learns from.
        taps: Feature maps that the network gives.
    """
    import torch

    from kdsweep.distill import TapChannels, build_objective
    from kdsweep.models import build_network
    from kdsweep.training.learner import Learner
    from kdsweep.training.optimizers import Schedule, build_optimizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_network("unet", encoder, num_classes, taps=taps, seed=0)
    network = network.to(device, memory_format=torch.channels_last)
    objective = None
    modules: list[torch.nn.Module] = [network]
    if term is not None:
        channels = TapChannels(network.tap_channels(), teacher.network.tap_channels())
        objective = build_objective(dict([term]), channels).to(device)
        modules.append(objective)
    # Slow enough for labels that cannot be learned.
    optimizer = build_optimizer("adamw", modules, lr=1e-4, weight_decay=1e-2)
    schedule = Schedule("poly", 1e-4, 1000)
    return Learner(network, optimizer, schedule, clip_norm=5.0, objective=objective)


class BareSteps:
    """A teacher's and a student's training step, as one would write them by hand.

    Cross-entropy, pixel KL, AdamW and gradient clipping, in the same precision and memory layout
    as the engine; the batch is normalised in memory already, and nothing is reported.
    """

    def __init__(
        self, args: argparse.Namespace, batches: ResidentBatches, num_classes: int, dtype: Any
    ) -> None:
        """Build both networks and put one normalised batch on the device."""
        import segmentation_models_pytorch as smp
        import torch

        from kdsweep.models.network import IMAGENET_MEAN, IMAGENET_STD

        self.device = batches.pixels.device
        mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=self.device).view(3, 1, 1)
        images = (batches.pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels, self.dtype = batches.labels.long(), dtype
        self.networks, self.optimizers = [], []
        for encoder in (args.teacher, args.student):
            model = smp.Unet(encoder, encoder_weights=None, classes=num_classes)
            model = model.to(self.device, memory_format=torch.channels_last).train()
            self.networks.append(model)
            self.optimizers.append(torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True))
        self.target: Any = None

    def _logits(self, network: Any) -> Any:
        import torch

        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return network(self.images)

    def _update(self, which: int) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(self.networks[which].parameters(), 5.0)
        self.optimizers[which].step()
        self.optimizers[which].zero_grad(set_to_none=True)

    def teacher(self) -> None:
        """Train the teacher on the batch."""
        import torch.nn.functional as F

        logits = self._logits(self.networks[0]).float()
        F.cross_entropy(logits, self.labels).backward()
        self.target = logits.detach()
        self._update(0)

    def student(self) -> None:
        """Train the student on the batch and on what the teacher said of it last."""
        import torch.nn.functional as F

        logits = self._logits(self.networks[1]).float()
        log_p = F.log_softmax(self.target, 1)
        log_q = F.log_softmax(logits, 1)
        divergence = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1).mean()
        (F.cross_entropy(logits, self.labels) + divergence).backward()
        self._update(1)

    def pair(self) -> None:
        """Train both."""
        self.teacher()
        self.student()


def make_engine(
    args: argparse.Namespace,
    batches: ResidentBatches,
    learners: Sequence[Any],
    num_classes: int,
    dtype: Any = None,
    *,
    overwrites: bool = False,
    validation: Sequence[Any] = (),
) -> Any:
    """An engine; without validation, unless it is given frames.

    Args:
        args: For the precision.
        batches: What is trained on.
        learners: The teacher and its students.
        num_classes: K.
        dtype: Of autocast; ``None`` for float32.
        overwrites: Whether networks run as CUDA graphs.
        validation: Batches that it scores after each epoch.
    """
    from kdsweep.training.engine import Engine
    from kdsweep.training.step import StepSettings
    from kdsweep.training.supervised import SupervisedLoss
    from kdsweep.training.teacher import Teacher

    device = batches.pixels.device
    return Engine(
        teacher=Teacher(learners[0]),
        students=learners[1:],
        batches=batches,
        validation=validation,
        settings=StepSettings(SupervisedLoss(), dtype, device.type, 0, overwrites),
        num_classes=num_classes,
        epochs=1000,
        device=device,
    )
