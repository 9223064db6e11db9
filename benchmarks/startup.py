"""What begins before the first training step: imports, the first epoch, and a process's memory.

Processes take turns, and tell their own CPU seconds and peak memory:

- ``kdsweep``: imports what a worker of a sweep does, and trains one epoch in a trial's folder, with
  validation, checkpoint and the student's weights;
- ``bare``: imports torch, segmentation_models_pytorch and Ray Tune, trains the same networks for as
  many steps and scores as many frames, and saves both networks;
- ``help`` and ``bare help``: ``kdsweep --help``, and the same of a program with one command.

The frames are decoded before. Run::

    python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import BareSteps, ResidentBatches, arguments, finish, network_arguments, ratio

WAYS = ("kdsweep", "bare", "help", "bare help")
HELP = "import typer; app = typer.Typer(); app.command()(lambda: None); app()"


def make_job(args: argparse.Namespace, epochs: int = 1) -> Any:
    """The job that kdsweep trains: epochs of one batch after another, and one scored."""
    from kdsweep.config import load_job

    frames = {"scenes": args.steps * args.batch_size, "val_scenes": 2 * args.batch_size}
    return load_job(
        {
            "data": {
                "source": "roadscenes",
                "image_size": [args.height, args.width],
                "augment": "none",
                "test_scenes": 0,
                **frames,
            },
            "teacher": {"encoder": args.teacher},
            "student": {"encoder": args.student},
            "distill": {"pixel_kl": {}},
            "train": {"epochs": epochs, "batch_size": args.batch_size},
        }
    )


# -- a process


def through_kdsweep(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Import and train as a worker does."""
    import kdsweep.sweep.ray.worker
    import kdsweep.trial

    imported = time.process_time()
    trial = kdsweep.sweep.ray.worker.TrialFolder(folder).create()
    list(kdsweep.trial.run_job(make_job(args), trial, num_threads=args.threads))
    return {"imports_s": imported, "epoch_s": time.process_time()}


def by_hand(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Import and train as a script of one's own does."""
    import segmentation_models_pytorch  # noqa: F401
    import torch
    from ray import tune  # noqa: F401

    imported = time.process_time()
    torch.set_num_threads(args.threads)
    size = (args.batch_size, args.height, args.width)
    batches = ResidentBatches(*size, num_classes=13, num_batches=args.steps)
    bare = BareSteps(args, batches, 13, None)
    for _ in range(args.steps):
        bare.pair()
    with torch.no_grad():
        for network in bare.networks:
            network.eval()(torch.cat([bare.images, bare.images])).argmax(1)
    states = [part.state_dict() for part in (*bare.networks, *bare.optimizers)]
    torch.save(states, folder / "checkpoint.pt")
    return {"imports_s": imported, "epoch_s": time.process_time()}


# -- all of them


def measure(name: str, options: list[str]) -> dict[str, float]:
    """CPU seconds of a process, by the end of its imports and of its epoch, and its memory."""
    if name.endswith("help"):
        program = ["-m", "kdsweep"] if name == "help" else ["-c", HELP]
        before = _children_s()
        command = [sys.executable, *program, "--help"]
        subprocess.run(command, check=True, capture_output=True)
        return {"s": _children_s() - before}
    command = [sys.executable, __file__, *options, "--alone", name]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Let them take turns."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=32, width=48, batch_size=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", choices=WAYS[:2], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        train = through_kdsweep if args.alone == "kdsweep" else by_hand
        with tempfile.TemporaryDirectory() as folder:
            found = train(args, Path(folder))
        found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps(found))
        return
    options = [word for word in sys.argv[1:] if word != "--json"]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["KDSWEEP_CACHE"] = cache
        measure("kdsweep", options)  # draws and decodes the frames
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(args.rounds):
            order = WAYS[:: 1 if number % 2 else -1]
            rounds.append({name: measure(name, options) for name in order})

    def series(name: str, key: str) -> list[float]:
        return [found[name][key] for found in rounds]

    ratios = {
        f"bare / kdsweep, {what}": ratio(series("bare", key), series("kdsweep", key))
        for key, what in (
            ("imports_s", "imports"),
            ("epoch_s", "until the first epoch has ended"),
            ("peak_gb", "peak memory of the process"),
        )
    }
    ratios["bare / kdsweep, --help"] = ratio(series("bare help", "s"), series("help", "s"))
    lines = [f"{args.teacher} → {args.student}, {(args.batch_size, args.height, args.width)}"]
    middle = {}
    for name in WAYS:
        middle[name] = {key: sorted(series(name, key))[args.rounds // 2] for key in rounds[0][name]}
        told = "".join(f"  {key} {value:.2f}" for key, value in middle[name].items())
        lines.append(f"  {name:10}{told}")
    finish(args, ratios, middle, lines)


if __name__ == "__main__":
    main()
