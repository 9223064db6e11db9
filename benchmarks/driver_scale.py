"""What the driver takes for a draw and a report as a sweep grows. No Ray: workers are made up.

Hundreds of trials run at once, each reports its epochs, ASHA stops the weak, TPE draws the next
ones, the study's copy is kept. CPU seconds of draws and of reports by tenths of the sweep: the last
tenth should take no longer than the first. And the memory that a trial leaves behind. Run::

    python benchmarks/driver_scale.py --trials 2000 --epochs 20 --slots 200
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from driver import DATA, make_report
from side_by_side import arguments, finish, spread

from kdsweep.config import load_space
from kdsweep.ledger import Experiment, Ledger
from kdsweep.sweep.driver import Driver
from kdsweep.sweep.mirror import StudyMirror
from kdsweep.sweep.resources import Plan

SPACE: dict[str, Any] = {
    "name": "scale",
    "data": {"source": "roadscenes", "image_size": [32, 32]},
    "teacher": {"encoder": {"values": ["resnet34", "resnet50"]}},
    "student": {"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
    "distill": {
        "pixel_kl": {
            "weight": {"min": 0.1, "max": 10.0, "distribution": "log_uniform_values"},
            "temperature": {"values": [1.0, 2.0, 4.0]},
        }
    },
    "tracking": {"wandb": {"mode": "off"}},
}


def resident_bytes() -> int:
    """Memory of this process."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run one sweep."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--slots", type=int, default=100)
    args = parser.parse_args()
    space = load_space(
        {
            **SPACE,
            "train": {"epochs": args.epochs},
            "sweep": {"trials": args.trials, "controls": "none"},
        }
    )
    draws: list[float] = []
    reports: list[float] = []
    memory: list[tuple[int, int]] = []
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        experiment = Experiment.create(Path(temporary), space.name)
        ledger = Ledger.open(experiment.ledger)
        driver = Driver(space, experiment, ledger, Plan(args.slots, 1, 0.0))
        mirror = StudyMirror(experiment.study_db, experiment.name, driver.study, lambda text: None)
        driver.listeners.append(mirror)
        driver.begin("benchmark", DATA)
        running: list[tuple[Any, int]] = []
        began = time.perf_counter()
        while True:
            while len(running) < args.slots:
                used = time.process_time()
                attempt = driver.next_attempt()
                if attempt is None:
                    break
                driver.started(attempt)
                draws.append(time.process_time() - used)
                running.append((attempt, 0))
            if not running:
                break
            attempt, epoch = running.pop(chance.randrange(len(running)))
            (task,) = attempt.tasks
            miou = 0.5 - 0.4 / (epoch + 2) + chance.gauss(0, 0.05)
            report = {"reports": {task.trial: make_report(epoch + 1, miou)}, "left": {}}
            used = time.process_time()
            driver.reported(attempt, report)
            reports.append(time.process_time() - used)
            if driver.is_active(attempt):
                running.append((attempt, epoch + 1))
            else:
                memory.append((len(memory), resident_bytes()))
        seconds = time.perf_counter() - began
        driver.end()
        mirror.close()
        ledger.close()
    tenths = {}
    for name, taken in (("draw", draws), ("report", reports)):
        size = len(taken) // 10
        tenths[name] = [mean(taken[n * size : (n + 1) * size]) for n in range(10)]
    # After the start-up of the sampler, which draws at random, and of what is imported late.
    first, last = memory[len(memory) // 5], memory[-1]
    a_trial = (last[1] - first[1]) / max(1, last[0] - first[0])
    ratios = {
        f"second tenth / last tenth, a {name}": spread([found[1] / found[9]])
        for name, found in tenths.items()
    }
    figures = {
        "tenths": tenths,
        "bytes_a_trial": a_trial,
        "reports_a_second": len(reports) / seconds,
        "trials_an_hour": 3600 * len(draws) / seconds,
    }
    lines = [f"{len(draws)} trials, {len(reports)} reports, {args.slots} at once"]
    for name, found in tenths.items():
        told = " ".join(f"{1e3 * one:.2f}" for one in found)
        lines.append(f"  CPU ms of a {name}, by tenths: {told}")
    lines.append(f"  {a_trial / 1e3:.0f} kB more for each trial that has ended")
    lines.append(
        f"  {figures['reports_a_second']:.0f} reports a second, "
        f"{figures['trials_an_hour']:.0f} trials an hour at most"
    )
    finish(args, ratios, figures, lines)


if __name__ == "__main__":
    main()
