"""The share of an epoch that goes into training; the rest validates.

Measured are the seconds of a training step of the engine and those of scoring as many frames as a
batch of the validation has, teacher and student together, in turns; on a CPU seconds are those of
the process. An epoch's share follows from the numbers of frames: the ratios are those of some data
sets, and ``most`` is how many validation frames a training frame may come with for 10 %. Run::

    python benchmarks/validation.py
"""

from __future__ import annotations

import statistics

import torch
from side_by_side import (
    ResidentBatches,
    arguments,
    finish,
    make_engine,
    make_learner,
    network_arguments,
    spread,
    timed,
)

from kdsweep.training.evaluation import evaluate
from kdsweep.training.step import StepSettings
from kdsweep.training.supervised import SupervisedLoss

NUM_CLASSES = 13
SPLITS = {"roadscenes": (96, 32), "CamVid": (367, 101), "Cityscapes": (2975, 500)}


def main() -> None:
    """Time both, side by side."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--steps", type=int, default=3, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    size = (args.batch_size, args.height, args.width)
    batches = ResidentBatches(*size, num_classes=NUM_CLASSES, num_batches=args.steps + 1)
    teacher = make_learner(args.teacher, NUM_CLASSES)
    kl = ("pixel_kl", {"weight": 1.0, "temperature": 1.0})
    student = make_learner(args.student, NUM_CLASSES, term=kl, teacher=teacher)
    epochs = make_engine(args, batches, [teacher, student], NUM_CLASSES).epochs()
    # As build_cohort has it: without gradients twice the frames fit.
    frames = 2 * args.batch_size
    validation = [
        (
            batches.pixels.repeat(2, 1, 1, 1),
            batches.labels.repeat(2, 1, 1),
            torch.arange(frames),
        )
    ]
    device = batches.pixels.device
    settings = StepSettings(SupervisedLoss(), None, device.type, seed=0)

    def score() -> None:
        evaluate(
            {"teacher": teacher.network, "student0": student.network},
            validation,
            num_classes=NUM_CLASSES,
            device=device,
            settings=settings,
            compare_with="teacher",
        )

    train_s, score_s = [], []
    for number in range(args.rounds + 1):
        next(epochs)
        steps = batches.end()[:-1]
        scored = [timed(score) for _ in range(args.steps)]
        if number:  # the first round warms up
            train_s.append(statistics.median(steps) / args.batch_size)
            score_s.append(statistics.median(scored) / frames)
    ratios = {
        f"training / epoch, as many as in {name}": spread(
            [
                num_train * t / (num_train * t + num_val * v)
                for t, v in zip(train_s, score_s, strict=True)
            ]
        )
        for name, (num_train, num_val) in SPLITS.items()
    }
    per_train, per_val = statistics.median(train_s), statistics.median(score_s)
    figures = {"train_s": per_train, "val_s": per_val, "most": per_train / per_val / 9}
    lines = [
        f"{args.teacher} → {args.student}, {size}",
        f"  a training frame {1e3 * per_train:.1f} ms, a validation frame {1e3 * per_val:.1f} ms",
        f"  10 % up to {figures['most']:.2f} validation frames for each training frame",
    ]
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
