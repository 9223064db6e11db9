"""What the driver of a sweep does with a report, against writing the same line by hand. No Ray.

The driver takes in the reports of a sweep, judges them and writes each into its ledger; a script
makes JSON of the same result, writes it and waits for the disk (``fsync``). They take turns report
by report; medians leave out the reports during which the machine did something else. Compared are

- CPU seconds;
- seconds by the clock, of which the driver's should be its own CPU seconds and what the line by
  hand waits: anything more is spent asleep, while all slots wait.

Run::

    python benchmarks/driver.py
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from side_by_side import arguments, finish, spread

from kdsweep.config import load_space
from kdsweep.ledger import Experiment, Ledger
from kdsweep.sweep.driver import Driver
from kdsweep.sweep.resources import Plan

CLASSES = [0.123456789 * (k % 7) for k in range(13)]
DATA = {"source": "roadscenes", "embedded": True, "notice": None, "classes": [], "palette": []}


def make_driver(folder: Path, trials: int, epochs: int) -> tuple[Driver, Ledger]:
    """A driver at the beginning of a sweep."""
    space = load_space(
        {
            "name": "reports",
            "data": {"source": "roadscenes", "image_size": [32, 32]},
            "teacher": {"encoder": "resnet34"},
            "student": {"encoder": "resnet18"},
            "distill": {"pixel_kl": {"weight": {"min": 0.1, "max": 10.0}}},
            "train": {"epochs": epochs},
            "sweep": {"trials": trials, "sampler": "random", "controls": "none"},
            "tracking": {"wandb": {"mode": "off"}},
        }
    )
    experiment = Experiment.create(folder, space.name)
    ledger = Ledger.open(experiment.ledger)
    return Driver(space, experiment, ledger, Plan(1, 1, 0.0)), ledger


def make_report(epoch: int, miou: float) -> dict[str, Any]:
    """What a worker sends, of the usual size."""
    metrics = {f"student/metric_{k}": 0.987654321 / (k + epoch) for k in range(30)}
    classes = {"student": CLASSES, "teacher": CLASSES}
    return {
        "epoch": epoch,
        "metrics": {"student/miou": miou} | metrics,
        "classes": classes,
        "seconds": 1.5,
    }


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the CPU."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - used


def middle(seconds: list[tuple[float, float]]) -> tuple[float, float]:
    """Medians of both."""
    clock, used = zip(*seconds, strict=True)
    return median(clock), median(used)


def main() -> None:
    """Let both take turns."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        driver, ledger = make_driver(Path(temporary), args.trials, args.epochs)
        driver.begin("benchmark", DATA)
        with Path(temporary, "by_hand.jsonl").open("ab", buffering=0) as file:

            def write(result: dict[str, Any]) -> None:
                file.write(json.dumps(result).encode() + b"\n")
                os.fsync(file.fileno())

            while (attempt := driver.next_attempt()) is not None:
                driver.started(attempt)
                (task,) = attempt.tasks
                for epoch in range(1, args.epochs + 1):
                    report = make_report(epoch, 0.5 + 0.01 * epoch)
                    result = {"reports": {task.trial: report}, "left": {}}
                    bare.append(timed(lambda result=result: write(result)))
                    ours.append(timed(lambda result=result: driver.reported(attempt, result)))
                    if not driver.is_active(attempt):
                        break
        driver.end()
        ledger.close()
    size = len(ours) // args.rounds
    awake, cpu = [], []
    for number in range(args.rounds):
        part = slice(number * size, (number + 1) * size)
        (clock, used), (bare_clock, bare_used) = middle(ours[part]), middle(bare[part])
        awake.append((bare_clock - bare_used + used) / clock)
        cpu.append(bare_used / used)
    found = {
        "awake / all of a report": spread(awake),
        "a line by hand / kdsweep, CPU seconds of a report": spread(cpu),
    }
    figures = {"reports": len(ours), "report_s": middle(ours), "line_s": middle(bare)}
    lines = [f"{len(ours)} reports, by the clock and of the CPU"]
    for name, (clock, used) in (("kdsweep", middle(ours)), ("by hand", middle(bare))):
        lines.append(f"  {name}: {1e3 * clock:.3f} and {1e3 * used:.3f} ms")
    finish(args, found, figures, lines)


if __name__ == "__main__":
    main()
