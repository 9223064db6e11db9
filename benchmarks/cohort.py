"""Students trained per hour in cohorts of several students, against as many separate pairs.

A pair pays for its teacher (T seconds a step) and its student (S); a cohort of K pays T once, so
that it can be at most ``(T + S) / (T / K + S)`` times as fast. T and S are those of a loop written
by hand (see ``step.py``), in the same run. Everything takes turns in every round: steps of a cohort
of each size, of a pair, and of the hand-written loop; on a CPU seconds are those of the process.
Pairs are trained one after another, so that K of them take K times the seconds of one.
The step of an epoch that measures the shares of the gradient is left out, in pairs and cohorts
alike. Run::

    python benchmarks/cohort.py
    python benchmarks/cohort.py --teacher resnet101 --student mobilenet_v2
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import (
    BareSteps,
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    spread,
    timed,
)

NUM_CLASSES = 13
KL = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})


class Trained:
    """A cohort, or a pair, whose steps are timed an epoch of a few steps at a time."""

    def __init__(self, args: Any, learners: list[Any], dtype: Any) -> None:
        """Build its engine; learners may belong to several."""
        # Two more than are timed. The first one gets its memory back from the system, and the last
        # one measures the gradient's shares.
        self.batches = ResidentBatches(
            args.batch_size,
            args.height,
            args.width,
            num_classes=NUM_CLASSES,
            num_batches=args.steps + 2,
        )
        self.epochs = make_engine(args, self.batches, learners, NUM_CLASSES, dtype).epochs()
        self.peak_gb = 0.0

    def step(self) -> float:
        """Seconds of a step, the median of an epoch."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        next(self.epochs)
        if torch.cuda.is_available():
            self.peak_gb = max(self.peak_gb, torch.cuda.max_memory_allocated() / 1e9)
        return statistics.median(self.batches.end()[1:-1])


def several(work: Callable[[], object], steps: int) -> float:
    """Seconds of a step of the hand-written loop, after one that does not count."""
    return statistics.median([timed(work) for _ in range(steps + 1)][1:])


def main() -> None:
    """Time all, side by side."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--students", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=2, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    teacher = make_learner(args.teacher, NUM_CLASSES)
    students = [
        make_learner(args.student, NUM_CLASSES, term=KL, teacher=teacher)
        for _ in range(max(args.students))
    ]
    # They share their networks: what is learned does not matter here, and memory would.
    cohorts = {k: Trained(args, [teacher, *students[:k]], dtype) for k in args.students}
    pair = Trained(args, [teacher, students[0]], dtype)
    bare = BareSteps(args, pair.batches, NUM_CLASSES, dtype)
    works: dict[Any, Callable[[], float]] = {
        "T": lambda: several(bare.teacher, args.steps),
        **{k: cohort.step for k, cohort in cohorts.items()},
        "pair": pair.step,
        "S": lambda: several(bare.student, args.steps),
    }
    bare.teacher()  # for its student
    rounds = []
    for number in range(args.rounds + 1):
        order = list(works)[:: 1 if number % 2 else -1]
        found = {name: works[name]() for name in order}
        if number:  # the first one warms up
            rounds.append(found)
    # Medians before ratios: the parts of a round are too far apart to share its noise.
    middle = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    ratios, table = {}, []
    for k in args.students:
        bounds = [(r["T"] + r["S"]) / (r["T"] / k + r["S"]) for r in rounds]
        faster = [k * r["pair"] / r[k] for r in rounds]
        bound = (middle["T"] + middle["S"]) / (middle["T"] / k + middle["S"])
        speedup = k * middle["pair"] / middle[k]
        shares = spread([f / b for f, b in zip(faster, bounds, strict=True)])
        ratios[f"share of the bound, K = {k}"] = shares | {"median": speedup / bound}
        row = {"k": k, "step_s": middle[k], "bound": bound, "speedup": speedup}
        row["students_per_step_hour"] = 3600 * k / middle[k]
        if torch.cuda.is_available():
            row["peak_gb"] = cohorts[k].peak_gb
        table.append(row)
    figures = {"T_s": middle["T"], "S_s": middle["S"], "pair_s": middle["pair"], "cohorts": table}
    size = (args.batch_size, args.height, args.width)
    lines = [
        f"{args.teacher} → {args.student}, {size}, {args.precision}",
        f"T {middle['T']:.3f} s, S {middle['S']:.3f} s, a pair's step {middle['pair']:.3f} s",
        f"{'K':>3}{'s a step':>10}{'students × steps per hour':>28}"
        f"{'against pairs':>15}{'bound':>8}" + f"{'peak GB':>9}" * torch.cuda.is_available(),
    ]
    lines += [
        f"{row['k']:3}{row['step_s']:10.3f}{row['students_per_step_hour']:28.0f}"
        f"{row['speedup']:14.2f}×{row['bound']:7.2f}×"
        + (f"{row['peak_gb']:9.2f}" if "peak_gb" in row else "")
        for row in table
    ]
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
