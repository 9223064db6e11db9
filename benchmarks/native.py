"""What scoring at the labels' own size costs, and that labels alone say which classes count.

Measured on real frames are a training batch and the validation of as many frames as two of them,
teacher and student together: at the networks' size, at the size of the label files (decoding
included), and with the classes that count as they did before; in turns. The share of an epoch
follows from the numbers of frames. On a CPU seconds are those of the process, threads that decode
included. Run::

    python benchmarks/native.py --data PATH          # CamVid in the SegNet layout
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from side_by_side import arguments, finish, network_arguments, ratio, spread, take_turns

from kdsweep.config import load_job
from kdsweep.data import EvalLoader, open_data
from kdsweep.data.native import NativeLabels
from kdsweep.training.evaluation import evaluate
from kdsweep.trial import build_cohort

FULL = {"train": 367, "val": 101}


def main() -> None:
    """Time all, side by side."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=96, width=128, student="mobilenet_v2")
    parser.add_argument("--data", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    num_val = 2 * args.batch_size
    with tempfile.TemporaryDirectory() as cache:
        tree = {
            "data": {
                "source": "camvid",
                "path": str(args.data),
                "image_size": [args.height, args.width],
                "num_train": args.batch_size,
                "num_val": num_val,
                "augment": "standard",
                "cache": cache,
            },
            "teacher": {"encoder": args.teacher},
            "student": {"encoder": args.student},
            "distill": {"pixel_kl": {}},
            "train": {"epochs": 1000, "batch_size": args.batch_size},
        }
        job = load_job(tree)
        data = open_data(job.data)
        cohort = build_cohort([job], data)
        engine = cohort.engine
        assert engine.teacher is not None
        networks = {
            "teacher": engine.teacher.learner.network,
            "student0": engine.students[0].network,
        }
        frames, native = EvalLoader(data.val, num_val), data.native["val"].labels

        def scoring(labels: NativeLabels | None, over: str = "labelled") -> Callable[[], object]:
            return lambda: evaluate(
                networks,
                frames,
                num_classes=data.num_classes,
                device=torch.device("cpu"),
                settings=engine.settings,
                compare_with="teacher",
                over=over,  # type: ignore[arg-type]
                native=labels,
            )

        epochs = engine.epochs()  # each of one batch and a validation
        seconds = take_turns(
            {
                "train": lambda: next(epochs),
                "resized": scoring(None),
                "native": scoring(native),
                "seen": scoring(None, "seen"),
                "decode": lambda: list(native),
            },
            args.rounds,
        )
        cohort.close()
    # Of a training epoch the engine's own validation is taken away.
    train = [
        max(t - r, 1e-9) / args.batch_size
        for t, r in zip(seconds["train"], seconds["resized"], strict=True)
    ]
    per = {name: [s / num_val for s in seconds[name]] for name in ("resized", "native")}
    shares = {
        f"{name} validation / epoch, as many frames as CamVid": spread(
            [
                FULL["val"] * v / (FULL["train"] * t + FULL["val"] * v)
                for t, v in zip(train, per[name], strict=True)
            ]
        )
        for name in per
    }
    ratios = {
        **shares,
        "native / resized validation": ratio(seconds["native"], seconds["resized"]),
        "labelled / seen classes": ratio(seconds["resized"], seconds["seen"]),
    }
    figures = {name: median(values) for name, values in seconds.items()}
    lines = [
        f"{args.teacher} → {args.student}, {args.height}×{args.width}, labels of 360×480",
        f"  a training frame {1e3 * median(train):.1f} ms, a validation frame "
        f"{1e3 * median(per['resized']):.1f} ms resized, {1e3 * median(per['native']):.1f} ms "
        f"native, of which decoding {1e3 * figures['decode'] / num_val:.1f} ms",
    ]
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
