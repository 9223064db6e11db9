"""What it saves that a training on a CPU keeps the memory that a step frees.

Processes train the same job and tell their CPU seconds and page faults of the last epoch:

- ``kept``: as kdsweep does it;
- ``given back``: as the C library does it by itself;
- ``bare``: as many steps of a bare loop, without validation and files.

The frames are decoded before. Run (Linux only)::

    python benchmarks/kept_memory.py --steps 120
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import BareSteps, ResidentBatches, arguments, finish, network_arguments, ratio
from startup import make_job

WAYS = ("kept", "given back", "bare")
Used = dict[str, float]


def used() -> Used:
    """What this process has used until now."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return {"user_s": now.ru_utime, "system_s": now.ru_stime, "faults": now.ru_minflt}


def train(args: argparse.Namespace, folder: Path) -> list[Used]:
    """What had been used before the first epoch, and after each."""
    import torch

    marks = [used()]
    if args.alone == "bare":
        torch.set_num_threads(args.threads)
        size = (args.batch_size, args.height, args.width)
        batches = ResidentBatches(*size, num_classes=13, num_batches=args.steps)
        bare = BareSteps(args, batches, 13, None)
        for _ in range(args.epochs):
            for _ in range(args.steps):
                bare.pair()
            marks.append(used())
        return marks
    from kdsweep.ledger import TrialFolder
    from kdsweep.trial import run_job, running

    if args.alone == "given back":
        running.keep_freed_memory = lambda device: None
    job = make_job(args, epochs=args.epochs)
    reports = run_job(job, TrialFolder(folder).create(), num_threads=args.threads)
    return [*marks, *(used() for _ in reports)]


def main() -> None:
    """Let them take turns."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=32, width=48)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        with tempfile.TemporaryDirectory() as folder:
            *_, before, after = train(args, Path(folder, "trial"))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(json.dumps({key: after[key] - before[key] for key in after} | {"peak_mb": peak_mb}))
        return
    rounds: dict[str, list[Used]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["KDSWEEP_CACHE"] = cache
        options = [word for word in sys.argv[1:] if word != "--json"]
        for number in range(args.rounds):
            for name in WAYS[:: 1 if number % 2 else -1]:
                command = [sys.executable, __file__, *options, "--alone", name]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                rounds[name].append(json.loads(told.splitlines()[-1]))

    def cpu(name: str) -> list[float]:
        return [found["user_s"] + found["system_s"] for found in rounds[name]]

    faults = {name: [max(1.0, found["faults"]) for found in rounds[name]] for name in WAYS}
    ratios = {
        "given back / kept, CPU seconds": ratio(cpu("given back"), cpu("kept")),
        "given back / kept, page faults": ratio(faults["given back"], faults["kept"]),
    }
    lines = [f"the last epoch, of {args.steps} steps"]
    for name in WAYS:
        for found in rounds[name]:
            lines.append(f"  {name:11}" + "".join(f"  {k} {v:,.1f}" for k, v in found.items()))
    finish(args, ratios, dict(rounds), lines)


if __name__ == "__main__":
    main()
