"""What ``train.compile`` costs at first and saves later, in each of its modes.

The engine trains on resident tensors, without and with ``torch.compile``, and they take turns epoch
by epoch; on a CPU seconds of a step are those of the process. Warm-up is what compiling takes of
the wall clock: the first epochs' steps and a first validation batch, less what they take later.
The caches on disk are empty at first (``cold``); a second time finds them filled, as later trials
do that were never in this process (``warm``). It has paid after so many epochs::

    warm-up seconds / (batches an epoch × seconds that a step saves)

Where a step is not faster it never pays. CUDA graphs (``reduce-overhead``, ``max-autotune``) are
measured where there is a GPU. Run::

    python benchmarks/compile.py
    python benchmarks/compile.py --precision bf16 --height 352 --width 480     # on a GPU
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import Any

import torch
from side_by_side import (
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    ratio,
    synchronize,
)

from kdsweep.training.evaluation import evaluate
from kdsweep.trial.compiling import Compilation

NUM_CLASSES = 13
GRAPHS = ("reduce-overhead", "max-autotune")
NEVER_COMPILED = "none"


class Trained:
    """A pair whose networks are compiled in one of the modes, or not."""

    def __init__(self, args: Any, mode: str) -> None:
        """Build its networks and its engine; nothing is compiled yet."""
        cuda = torch.cuda.is_available()
        dtype = torch.bfloat16 if args.precision == "bf16" else None
        self.compilation = Compilation(
            None if mode == NEVER_COMPILED else mode, cuda_graphs=cuda and mode in GRAPHS
        )
        size = (args.batch_size, args.height, args.width)
        # The last step of an epoch measures the shares of the gradient, and is not counted.
        self.batches = ResidentBatches(*size, num_classes=NUM_CLASSES, num_batches=args.steps + 1)
        teacher = make_learner(args.teacher, NUM_CLASSES)
        kl = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})
        self.learners = [teacher, make_learner(args.student, NUM_CLASSES, term=kl, teacher=teacher)]
        for learner in self.learners:
            self.compilation.apply(learner.network)
        self.engine = make_engine(
            args,
            self.batches,
            self.learners,
            NUM_CLASSES,
            dtype,
            overwrites=self.compilation.cuda_graphs,
        )
        self.epochs = self.engine.epochs()

    def wall_s(self) -> float:
        """Wall-clock seconds of two epochs and a batch of the validation.

        CUDA graphs are recorded in the second pass, not in the first.
        """
        synchronize()
        started = time.perf_counter()
        for _ in range(2):
            next(self.epochs)
        self.validate()
        synchronize()
        return time.perf_counter() - started

    def validate(self) -> None:
        """Score one batch, twice as large as those of the training."""
        pixels, labels = (torch.cat([t, t]) for t in (self.batches.pixels, self.batches.labels))
        evaluate(
            {name: learner.network for name, learner in zip("ts", self.learners, strict=True)},
            [(pixels, labels, torch.arange(len(pixels)))],
            num_classes=NUM_CLASSES,
            device=pixels.device,
            settings=self.engine.settings,
        )

    def step_s(self) -> float:
        """Seconds of a step, the median of an epoch."""
        next(self.epochs)
        return statistics.median(self.batches.end()[:-1])


def break_even(warm_up_s: float, saved_s: float, batches: int) -> float | None:
    """Epochs after which compiling has paid; ``None`` if it never does."""
    return warm_up_s / (batches * saved_s) if saved_s > 0 else None


def pays_after(epochs: float | None) -> str:
    """The same in words."""
    return "never" if epochs is None else f"{epochs:.1f} epochs"


def warm_ups(args: Any, mode: str) -> dict[str, float]:
    """Seconds that compiling takes, without and with what an earlier process left on the disk."""
    found = {}
    for name in ("cold", "warm"):
        torch.compiler.reset()
        trained = Trained(args, mode)
        first = trained.wall_s()
        found[name] = max(0.0, first - trained.wall_s())
    return found


def main() -> None:
    """Time all modes, side by side."""
    cuda = torch.cuda.is_available()
    parser = arguments(__doc__)
    network_arguments(parser)
    modes = ["default", *GRAPHS]
    parser.add_argument("--modes", nargs="+", choices=modes, default=modes if cuda else modes[:1])
    parser.add_argument("--batches", type=int, default=46, help="of an epoch; CamVid has 46 of 8")
    parser.add_argument("--steps", type=int, default=3, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    args = parser.parse_args()
    if not cuda and set(args.modes) & set(GRAPHS):
        parser.error("there are no CUDA graphs on a CPU: --modes default")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch._functorch.config.donated_buffer = False  # as in a cohort
    warm_up = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for mode in args.modes:
            warm_up[mode] = warm_ups(args, mode)
        torch.compiler.reset()
        trained = {mode: Trained(args, mode) for mode in [NEVER_COMPILED, *args.modes]}
        for pair in trained.values():
            pair.wall_s()
        seconds: dict[str, list[float]] = {mode: [] for mode in trained}
        for number in range(args.rounds):
            for mode in list(trained)[:: 1 if number % 2 else -1]:
                seconds[mode].append(trained[mode].step_s())
    middle = {mode: statistics.median(values) for mode, values in seconds.items()}
    rows, ratios = [], {}
    for mode in args.modes:
        saved = middle[NEVER_COMPILED] - middle[mode]
        rows.append(
            {
                "mode": mode,
                "step_s": middle[mode],
                **{f"{name}_s": value for name, value in warm_up[mode].items()},
                **{
                    f"{name}_epochs": break_even(value, saved, args.batches)
                    for name, value in warm_up[mode].items()
                },
            }
        )
        ratios[f"not compiled / {mode}, a step"] = ratio(seconds[NEVER_COMPILED], seconds[mode])
    size = (args.batch_size, args.height, args.width)
    lines = [
        f"{args.teacher} → {args.student}, {size}, {args.precision}, "
        f"{args.batches} batches an epoch",
        f"  not compiled: {middle[NEVER_COMPILED]:.3f} s a step",
        f"{'mode':16}{'s a step':>10}{'cold start':>12}{'pays after':>16}{'warm start':>12}"
        f"{'pays after':>16}",
    ]
    lines += [
        f"{row['mode']:16}{row['step_s']:10.3f}"
        + "".join(
            f"{row[f'{name}_s']:10.0f} s{pays_after(row[f'{name}_epochs']):>16}"
            for name in ("cold", "warm")
        )
        for row in rows
    ]
    finish(args, ratios, {"not_compiled_s": middle[NEVER_COMPILED], "modes": rows}, lines)


if __name__ == "__main__":
    main()
