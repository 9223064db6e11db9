"""Operations and memory of kdsweep's engine against those of a bare PyTorch loop.

Nothing is timed: what is computed, and what its tensors take, is the same in every run, so that
floors can be close. ``arithmetic`` is that of convolutions and matrix products, which kdsweep needs
no more of than the bare loop; ``operations`` are those and one for each number that anything else
writes. Compared are

- ordinary steps (of the bare loop of ``step.py``),
- the step of an epoch that measures the shares of the gradient: the bare step, and once more the
  student's backward pass,
- the validation: a forward pass and an arg max for each network and frame,
- the most that all tensors take at a time in a training, its networks included.

Run::

    python benchmarks/counted.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from operations import Operations, count, peak_bytes
from side_by_side import (
    BareSteps,
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    spread,
)

NUM_CLASSES = 13
KL = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})


class Frames:
    """A validation of one batch, twice as large as one of the training; says when it begins."""

    def __init__(self, batches: ResidentBatches, begins: Any) -> None:
        self._begins = begins
        self.pixels = torch.cat([batches.pixels, batches.pixels])
        self.labels = torch.cat([batches.labels, batches.labels])

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        self._begins()
        yield self.pixels, self.labels, torch.arange(len(self.pixels))


def build(args: Any, **batches: Any) -> tuple[ResidentBatches, list[Any]]:
    """Batches, and a teacher with its student."""
    resident = ResidentBatches(
        args.batch_size, args.height, args.width, num_classes=NUM_CLASSES, **batches
    )
    teacher = make_learner(args.teacher, NUM_CLASSES)
    return resident, [
        teacher,
        make_learner(args.student, NUM_CLASSES, term=KL, teacher=teacher),
    ]


def engine_operations(args: Any) -> dict[str, tuple[int, int]]:
    """Arithmetic and operations of an epoch's parts."""
    marks: list[tuple[int, int]] = []
    counted = Operations()

    def mark() -> None:
        marks.append((counted.arithmetic, counted.total))

    batches, learners = build(args, num_batches=args.steps + 1, between=mark)
    frames = Frames(batches, mark)
    epochs = make_engine(args, batches, learners, NUM_CLASSES, validation=frames).epochs()
    with counted:
        next(epochs)
    mark()
    measuring, scoring = args.steps, args.steps + 1

    def between(first: int, last: int) -> tuple[int, int]:
        return marks[last][0] - marks[first][0], marks[last][1] - marks[first][1]

    return {
        "steps": between(0, measuring),
        "measuring": between(measuring, scoring),
        "validation": between(scoring, -1),
    }


def bare_operations(args: Any) -> dict[str, tuple[int, int]]:
    """The same of the bare loop."""
    batches, _ = build(args, num_batches=1)
    bare = BareSteps(args, batches, NUM_CLASSES, None)
    bare.pair()  # optimisers make their moments
    pair, student = count(bare.pair), count(bare.student)
    forward = count(lambda: bare.networks[1](bare.images))
    again = student.arithmetic - forward.arithmetic, student.total - forward.total
    images = torch.cat([bare.images, bare.images])

    def score() -> None:
        with torch.no_grad():
            for network in bare.networks:
                network.eval()(images).argmax(1)

    scored = count(score)
    return {
        "steps": (args.steps * pair.arithmetic, args.steps * pair.total),
        "measuring": (pair.arithmetic + again[0], pair.total + again[1]),
        "validation": (scored.arithmetic, scored.total),
    }


def main() -> None:
    """Count both."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=32, width=48, batch_size=4)
    parser.add_argument("--steps", type=int, default=8, help="ordinary ones")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    engine, bare = engine_operations(args), bare_operations(args)

    def train_engine() -> None:
        next(make_engine(args, *build(args, num_batches=3), NUM_CLASSES).epochs())

    def train_bare() -> None:
        batches = ResidentBatches(
            args.batch_size, args.height, args.width, num_classes=NUM_CLASSES, num_batches=1
        )
        loop = BareSteps(args, batches, NUM_CLASSES, None)
        loop.pair()
        loop.pair()

    peaks = {"engine": peak_bytes(train_engine), "bare loop": peak_bytes(train_bare)}
    ratios = {
        f"bare loop / engine, {what}, {part}": spread([bare[part][place] / engine[part][place]])
        for part in engine
        for place, what in enumerate(("arithmetic", "operations"))
    }
    ratios["bare loop / engine, peak bytes"] = spread([peaks["bare loop"] / peaks["engine"]])
    size = (args.batch_size, args.height, args.width)
    lines = [f"{args.teacher} → {args.student}, {size}", f"{'':12}{'engine':>24}{'bare loop':>24}"]
    for part in engine:
        cells = "".join(f"{a / 1e9:12.3f}{t / 1e9:9.3f} G " for a, t in (engine[part], bare[part]))
        lines.append(f"{part:12}{cells}")
    lines.append(f"{'peak':12}" + "".join(f"{b / 1e6:21.1f} MB" for b in peaks.values()))
    finish(args, ratios, {"engine": engine, "bare": bare, "peak_bytes": peaks}, lines)


if __name__ == "__main__":
    main()
