"""Several trainings on one device at once: throughput against one at a time, and memory.

So many processes train the same pair on resident tensors for some seconds of the wall clock, all of
them at once; frames per second are summed. They share one GPU, each kept to its share of its
memory as in a sweep, or a machine's cores, with one thread each. What each needed is told beside
what ``kdsweep plan --no-measure`` would say of it: on a GPU the most that its allocator reserved,
and what is in use of the GPU, divided by the processes; on a CPU what its memory grew by since
everything was imported, beside the estimate less what CUDA would take. Run::

    python benchmarks/packing.py                        # 1 and 2 processes
    python benchmarks/packing.py --processes 1 2 4 8 --precision bf16 --seconds 30    # on a GPU
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from side_by_side import (
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    spread,
    synchronize,
)

NUM_CLASSES = 13
STEPS = 4  # of an epoch


# -- a process


def train(args: argparse.Namespace) -> None:
    """Warm up, say so, wait for the word, train, and tell."""
    import torch

    from kdsweep.trial.gpu_memory import keep_to_share

    answers, sys.stdout = sys.stdout, sys.stderr
    cuda = torch.cuda.is_available()
    torch.set_num_threads(args.threads)
    keep_to_share(1 / args.alone)
    imported = resident_bytes()
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    size = (args.batch_size, args.height, args.width)
    batches = ResidentBatches(*size, num_classes=NUM_CLASSES, num_batches=STEPS)
    teacher = make_learner(args.teacher, NUM_CLASSES)
    kl = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})
    student = make_learner(args.student, NUM_CLASSES, term=kl, teacher=teacher)
    epochs = make_engine(args, batches, [teacher, student], NUM_CLASSES, dtype).epochs()
    next(epochs)
    print("ready", file=answers, flush=True)
    sys.stdin.readline()
    num_epochs, started = 0, time.perf_counter()
    while time.perf_counter() - started < args.seconds:
        next(epochs)
        num_epochs += 1
        synchronize()
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"frames_per_s": num_epochs * STEPS * args.batch_size / seconds}
    if cuda:
        free, total = torch.cuda.mem_get_info()
        found["peak_bytes"] = torch.cuda.max_memory_reserved()
        found["used_bytes"] = (total - free) / args.alone
    else:
        found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported
    print(json.dumps(found), file=answers, flush=True)
    sys.stdin.readline()  # nobody frees memory before all have looked


def resident_bytes() -> int:
    """What this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


# -- all of them


def together(args: argparse.Namespace, number: int) -> list[dict[str, float]]:
    """What each of so many processes tells."""
    command = [sys.executable, __file__, *sys.argv[1:], "--alone", str(number)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    try:
        for process in processes:
            hear(process)
        for process in processes:
            tell(process)
        found = [json.loads(hear(process)) for process in processes]
        for process in processes:
            tell(process)
        return found
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def hear(process: subprocess.Popen[str]) -> str:
    """A line that a process says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a process ended early, exit code {process.wait()}")
    return line


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def estimated_bytes(args: argparse.Namespace, students: int = 1) -> int:
    """What a plan says that each needs, with so many students of a teacher."""
    import torch

    from kdsweep.config import load_job
    from kdsweep.trial.gpu_memory import CONTEXT_BYTES, estimate_memory

    size = [args.height, args.width]
    frames = {"scenes": 2 * args.batch_size, "val_scenes": args.batch_size}
    job = load_job(
        {
            "data": {"source": "roadscenes", "image_size": size, "augment": "none", **frames},
            "teacher": {"encoder": args.teacher},
            "student": {"encoder": args.student},
            "distill": {"pixel_kl": {}},
            "train": {"epochs": 1, "batch_size": args.batch_size},
        }
    )
    estimate = estimate_memory(job, half=args.precision == "bf16", students=students)
    return estimate.bytes - (0 if torch.cuda.is_available() else CONTEXT_BYTES)


def main() -> None:
    """Compare numbers of processes."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="of training in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        train(args)
        return
    numbers = sorted({1, *args.processes})
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    peaks: dict[int, list[float]] = {number: [] for number in numbers}
    used: dict[int, list[float]] = {number: [] for number in numbers}
    for turn in range(args.rounds):
        for number in numbers[:: 1 if turn % 2 else -1]:
            found = together(args, number)
            rates[number].append(sum(one["frames_per_s"] for one in found))
            peaks[number] += [one["peak_bytes"] for one in found]
            used[number] += [one["used_bytes"] for one in found if "used_bytes" in one]
    estimate = estimated_bytes(args)
    ratios = {
        f"{number} processes / one at a time, frames per second": spread(
            [several / one for several, one in zip(rates[number], rates[1], strict=True)]
        )
        for number in numbers[1:]
    }
    size = (args.batch_size, args.height, args.width)
    pair = f"{args.teacher} → {args.student}"
    lines = [f"{pair}, {size}, {args.precision}, {args.seconds:g} s a round"]
    lines.append(f"{'processes':>10}{'frames/s':>12}{'most of one':>14}{'of the GPU':>12}")
    for number in numbers:
        rate = sum(rates[number]) / len(rates[number])
        share = f"{max(used[number]) / 1e9:9.2f} GB" if used[number] else ""
        lines.append(f"{number:10}{rate:12.1f}{max(peaks[number]) / 1e9:11.2f} GB{share}")
    lines.append(f"a plan says {estimate / 1e9:.2f} GB of each")
    figures = {
        "estimated_bytes": estimate,
        "frames_per_s": rates,
        "peak_bytes": peaks,
        "used_bytes": used,
    }
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
