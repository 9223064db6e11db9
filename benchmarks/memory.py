"""What ``kdsweep plan --no-measure`` says of a training's memory, against what it takes.

A teacher and its students train for an epoch of two steps. On a GPU what they take is the most that
torch's allocator held, and besides, what is in use of the GPU; on a CPU the most that all tensors
take at a time, which is counted. The estimate is compared without what it has for CUDA's context. A
ratio below 1 says that the estimate was too low. Run::

    python benchmarks/memory.py
    python benchmarks/memory.py --precision bf16 --height 352 --width 480     # on a GPU
"""

from __future__ import annotations

import argparse
import gc
from typing import Any

import torch
from operations import peak_bytes
from packing import estimated_bytes
from side_by_side import (
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    spread,
)

from kdsweep.trial.gpu_memory import CONTEXT_BYTES

NUM_CLASSES = 13
KL = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})


def train(args: argparse.Namespace, num_students: int, dtype: Any) -> None:
    """Build the networks and train them."""
    size = (args.batch_size, args.height, args.width)
    batches = ResidentBatches(*size, num_classes=NUM_CLASSES, num_batches=2)
    teacher = make_learner(args.teacher, NUM_CLASSES)
    students = [
        make_learner(args.student, NUM_CLASSES, term=KL, teacher=teacher)
        for _ in range(num_students)
    ]
    next(make_engine(args, batches, [teacher, *students], NUM_CLASSES, dtype).epochs())


def taken(args: argparse.Namespace, num_students: int, dtype: Any) -> dict[str, int]:
    """Bytes that a training takes."""
    gc.collect()
    if not torch.cuda.is_available():
        return {"tensors": peak_bytes(lambda: train(args, num_students, dtype))}
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    train(args, num_students, dtype)
    free, total = torch.cuda.mem_get_info()
    return {
        "tensors": torch.cuda.max_memory_allocated() - before,
        "reserved": torch.cuda.max_memory_reserved(),
        "of the GPU": total - free,
    }


def main() -> None:
    """Compare, for some pairs."""
    parser = arguments(__doc__)
    network_arguments(parser)
    pairs = ["resnet34:resnet18", "resnet101:mobilenet_v2"]
    parser.add_argument("--pairs", nargs="+", default=pairs, metavar="TEACHER:STUDENT")
    parser.add_argument("--students", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # as in a cohort
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    context = CONTEXT_BYTES if torch.cuda.is_available() else 0
    ratios, figures = {}, {}
    lines = [f"{(args.batch_size, args.height, args.width)}, {args.precision}"]
    for pair in args.pairs:
        args.teacher, args.student = pair.split(":")
        for students in args.students:
            name = f"{args.teacher} → {students} × {args.student}"
            estimated = estimated_bytes(args, students)
            found = taken(args, students, dtype)
            ratios[f"estimated / tensors, {name}"] = spread(
                [(estimated - context) / found["tensors"]]
            )
            if context:
                ratios[f"estimated / of the GPU, {name}"] = spread(
                    [estimated / found["of the GPU"]]
                )
            figures[name] = {"estimated": estimated, **found}
            told = "".join(f", {what} {value / 1e9:.3f} GB" for what, value in found.items())
            lines.append(f"  {name}: estimated {estimated / 1e9:.3f} GB{told}")
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
