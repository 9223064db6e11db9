"""Steps per second of kdsweep's engine against a bare PyTorch loop on tensors in memory.

Both train U-Net/ResNet34 → U-Net/ResNet18 with cross-entropy, pixel KL, AdamW and gradient
clipping, in the same precision and memory layout. The bare loop has its batches normalised in
memory already and reports nothing; the engine starts from uint8 pixels, follows a schedule, keeps
its running means, and measures the shares of the gradient once an epoch, which costs another
backward pass. They take turns step by step, so that both meet the same noise; on a CPU seconds are
those of the process, so that other processes' do not count. The ratio is that of an epoch: of so
many medians of an ordinary step, and of the one that measures.

Beside them a product of two large matrices in the same precision is timed, which is about the most
arithmetic that the device gives (on a GPU in float32 with TF32, as in convolutions). Operations
of a step are those of its convolutions and matrix products, forward and backward; the share of the
roof is the arithmetic per second of a step against that of the product. Run::

    python benchmarks/step.py
"""

from __future__ import annotations

import statistics

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
from torch.utils.flop_counter import FlopCounterMode

NUM_CLASSES = 13


class MatrixProduct:
    """A product of two large square matrices, in the precision of a training."""

    def __init__(self, side: int, device: torch.device, dtype: torch.dtype | None) -> None:
        """Draw both."""
        self.flops = 2 * side**3
        self._a, self._b = (
            torch.randn(side, side, device=device, dtype=dtype or torch.float32) for _ in range(2)
        )
        for _ in range(3):
            self.run()

    def run(self) -> None:
        """Multiply them."""
        # Only here: the losses of a training compare features in full float32.
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            torch.mm(self._a, self._b)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def main() -> None:
    """Time both, side by side."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--batches", type=int, default=46, help="of an epoch; CamVid has 46 of 8")
    parser.add_argument("--timed", type=int, default=10, help="steps of an epoch that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="epochs")
    parser.add_argument("--matrix", type=int, help="side of the matrices; 1024, 8192 on a GPU")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    bare_s: list[float] = []
    product_s: list[float] = []
    size = (args.batch_size, args.height, args.width)

    def between() -> None:
        bare_s.append(timed(bare.pair))
        product_s.append(timed(product.run))

    batches = ResidentBatches(
        *size, num_classes=NUM_CLASSES, num_batches=args.timed, between=between
    )
    bare = BareSteps(args, batches, NUM_CLASSES, dtype)
    with FlopCounterMode(display=False) as counter:
        bare.pair()
    step_flops = counter.get_total_flops()
    side = args.matrix or (8192 if torch.cuda.is_available() else 1024)
    product = MatrixProduct(side, batches.pixels.device, dtype)
    teacher = make_learner(args.teacher, NUM_CLASSES)
    kl = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})
    student = make_learner(args.student, NUM_CLASSES, term=kl, teacher=teacher)
    epochs = make_engine(args, batches, [teacher, student], NUM_CLASSES, dtype).epochs()
    ratios, ordinary, measuring, bare_medians, roofs = [], [], [], [], []
    for number in range(args.rounds + 1):
        bare_s.clear()
        product_s.clear()
        next(epochs)
        *steps, last = batches.end()
        if number == 0:  # warm-up
            continue
        ordinary.append(statistics.median(steps))
        measuring.append(last - ordinary[-1])
        bare_medians.append(statistics.median(bare_s))
        roofs.append(product.flops / statistics.median(product_s))
        epoch_s = args.batches * ordinary[-1] + measuring[-1]
        ratios.append(args.batches * bare_medians[-1] / epoch_s)
    step_s, bare_step_s = statistics.median(ordinary), statistics.median(bare_medians)
    figures = {
        "engine_step_s": step_s,
        "bare_step_s": bare_step_s,
        "measuring_s": statistics.median(measuring),
        "step_gflop": step_flops / 1e9,
        "step_gflop_per_s": step_flops / step_s / 1e9,
        "roof_gflop_per_s": statistics.median(roofs) / 1e9,
    }
    lines = [
        f"{args.teacher} → {args.student}, {size}, {args.precision}",
        f"  engine     {step_s:8.3f} s a step, and {figures['measuring_s']:.3f} s once an epoch",
        f"  bare loop  {bare_step_s:8.3f} s a step",
        f"  {figures['step_gflop']:.1f} GFLOP a step: {figures['step_gflop_per_s']:.1f} GFLOP/s; "
        f"a product of {side} × {side} matrices {figures['roof_gflop_per_s']:.1f} GFLOP/s",
    ]
    found = {
        "bare loop / engine": spread(ratios),
        "bare loop / engine, without measuring": spread(
            [b / e for b, e in zip(bare_medians, ordinary, strict=True)]
        ),
        "step / matrix product, arithmetic per second": spread(
            [step_flops / seconds / roof for seconds, roof in zip(ordinary, roofs, strict=True)]
        ),
    }
    finish(args, found, figures, lines)


if __name__ == "__main__":
    main()
