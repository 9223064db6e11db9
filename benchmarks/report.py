"""What reading a big sweep costs: seconds and memory, against parsing its ledger and nothing else.

Writes the ledger of a sweep as a driver would leave it (two distillation terms, 13 classes, teacher
and student, controls, early stops, failures), then, each in a process of its own::

    python benchmarks/report.py                  # 10,000 trials x 50 epochs
    python benchmarks/report.py --trials 500     # smaller
    python benchmarks/report.py --ledger PATH    # a ledger that is there

- ``floor``: ``json.loads`` of every line, keeping nothing
- ``load``: :func:`kdsweep.reporting.load`
- ``report``: the same, and every table written
- ``fold``: the state of the sweep, which resuming begins with: :class:`kdsweep.ledger.state.Sweep`

Seconds are those of the CPU; on a machine that does other work the ratio to the floor, measured
side by side, says more than they do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import BinaryIO

from side_by_side import arguments, finish, ratio

NUM_CLASSES = 13
POOL = 1000  # epoch bodies drawn from; parsing does not depend on how often one comes again
TERMS = ("pixel_kl", "attention")
ENCODERS = ("resnet18", "mobilenet_v2", "resnet34", "efficientnet-b0")
STUDENT = ("miou", "pixel_accuracy", "num_classes", "seed_compat_iou", "lr", "params_m",
           "supervised", "loss", "macs_g", "latency_ms")  # fmt: skip
TIMES = ("time/train_s", "time/val_s", "time/images_per_s")


class Writer:
    """Numbers events and gives each line its CRC; fsync would only measure the disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seq = 0
        self.now = 1_795_000_000.0

    def write(self, event: str, rest: str) -> None:
        """Write one event; ``rest`` is its JSON from the fourth key on."""
        self.now += 0.25
        head = f'{{"event":"{event}","seq":{self.seq},"time":{self.now:.3f},'
        body = (head + rest).encode()
        self.file.write(body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body))
        self.seq += 1


def plain(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def bodies(draw: random.Random, *, control: bool) -> list[str]:
    """Ends of epoch lines, from ``value`` on, all but ``stop``."""
    networks = ("student",) if control else ("student", "teacher")
    found = []
    for _ in range(POOL):
        metrics = {f"student/{key}": draw.random() for key in STUDENT}
        metrics["student/params_m"] = 11.2
        metrics["student/latency_p95_ms"] = metrics["student/inference_mb"] = 12.34
        if not control:
            metrics["student/agreement"], metrics["student/gate"] = draw.random(), 1.0
            for term in TERMS:
                for kind in ("distill", "weighted", "grad_share"):
                    metrics[f"student/{kind}/{term}"] = draw.random()
                metrics[f"student/ramp/{term}"] = 1.0
            metrics["student/grad_share/supervised"] = draw.random()
            metrics |= {f"teacher/{key}": draw.random() for key in STUDENT}
        metrics |= {key: draw.random() for key in TIMES}
        classes = {name: [draw.random() for _ in range(NUM_CLASSES)] for name in networks}
        found.append(
            f'"value":{metrics["student/miou"]!r},"metrics":{plain(metrics)},'
            f'"classes":{plain(classes)},"seconds":{draw.random()!r}'
        )
    return found


def job(student: str, teacher: str | None, lr: float) -> dict:
    return {
        "name": "big",
        "data": {"source": "roadscenes", "path": None, "image_size": [96, 128], "seed": 0},
        "teacher": None if teacher is None else {"arch": "unet", "encoder": teacher},
        "student": {"arch": "unet", "encoder": student, "options": {}},
        "distill": {} if teacher is None else {"pixel_kl": {"weight": 1.0, "temperature": 4.0}},
        "train": {"epochs": 50, "batch_size": 8, "lr": lr, "seed": 0, "optimizer": "adamw"},
    }


def write_ledger(path: Path, trials: int, epochs: int) -> None:
    """A sweep of so many trials; about one in a hundred fails."""
    draw = random.Random(0)
    ends = {True: bodies(draw, control=True), False: bodies(draw, control=False)}
    with path.open("wb") as file:
        writer = Writer(file)
        data = {"source": "roadscenes", "embedded": True, "notice": None, "image_size": [96, 128],
                "classes": [f"class {i}" for i in range(NUM_CLASSES)]}  # fmt: skip
        sweep = {"schema": 1, "name": "big", "metric": "student/miou", "scheduler": "asha",
                 "grace_period": 3, "reduction_factor": 3, "epochs": epochs, "trials": trials,
                 "num_controls": len(ENCODERS), "data": data}  # fmt: skip
        writer.write("sweep", plain(sweep)[1:])
        session = {"session": 1, "pid": os.getpid(), "host": socket.gethostname(), "slots": 8}
        writer.write("session", plain({**session, "gpus_per_trial": 1.0, "cpus_per_trial": 4})[1:])
        for number in range(trials + len(ENCODERS)):
            control = number < len(ENCODERS)
            student = ENCODERS[number] if control else draw.choice(ENCODERS)
            teacher = None if control else draw.choice(ENCODERS)
            lr = 10 ** draw.uniform(-4, -2)
            params = {"train.lr": lr, "student.encoder": student, "teacher.encoder": teacher,
                      "distill.pixel_kl.weight": draw.random()}  # fmt: skip
            trial = {
                "trial": number,
                "kind": "control" if control else "search",
                "label": f"control {student}" if control else f"{teacher}->{student}",
                "student": student,
                "teacher": teacher,
                "params": {} if control else params,
                "job": job(student, teacher, 1e-3 if control else lr),
                "control": None if control else ENCODERS.index(student),
            }
            writer.write("trial", plain(trial)[1:])
            writer.write("start", f'"trial":{number},"attempt":1,"epoch":0}}')
            fails = not control and draw.random() < 0.01
            for epoch in range(1, epochs + 1):
                stop = '"complete"' if epoch == epochs and not fails else "null"
                head = f'"trial":{number},"attempt":1,"epoch":{epoch},'
                writer.write("epoch", f'{head}{draw.choice(ends[control])},"stop":{stop}}}')
            if fails:
                failure = {"trial": number, "attempt": 1, "class": "error", "message": "boom",
                           "traceback": "Traceback", "retry": False}  # fmt: skip
                writer.write("fail", plain(failure)[1:])
        writer.write("done", '"trials":0}')


def floor(folder: Path) -> None:
    with (folder / "ledger.jsonl").open("rb") as file:
        for line in file:
            json.loads(line)


def load(folder: Path) -> None:
    from kdsweep.reporting import load as load_results

    load_results(folder)


def report(folder: Path) -> None:
    from kdsweep.reporting import load as load_results
    from kdsweep.reporting import write_tables

    write_tables(load_results(folder), folder / "report")


def fold(folder: Path) -> None:
    from kdsweep.ledger import iter_ledger
    from kdsweep.ledger.events import decode_progress
    from kdsweep.ledger.state import Sweep

    Sweep(iter_ledger(folder / "ledger.jsonl", decode_progress))


STEPS = {"floor": floor, "load": load, "report": report, "fold": fold}
IMPORTS = {
    "load": "kdsweep.reporting",
    "report": "kdsweep.reporting",
    "fold": "kdsweep.ledger.state",
}


def measure(step: str, folder: Path) -> dict[str, float]:
    """Seconds and memory of one step, in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--ledger", str(folder / "ledger.jsonl")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed)


def run_step(step: str, folder: Path) -> None:
    # What importing costs is no part of the measurement.
    if step in IMPORTS:
        importlib.import_module(IMPORTS[step])
    begin, wall = time.process_time(), time.perf_counter()
    STEPS[step](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {"cpu_s": time.process_time() - begin, "wall_s": time.perf_counter() - wall}
    print(json.dumps({**seconds, "peak_gb": peak * 1024 / 1e9}))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--ledger", type=Path, help="read this one instead of writing one")
    parser.add_argument("--keep", type=Path, help="write the ledger into this folder and keep it")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.ledger.parent)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if options.ledger:
            folder = options.ledger.parent
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_ledger(folder / "ledger.jsonl", options.trials, options.epochs)
        size = (folder / "ledger.jsonl").stat().st_size
        rounds = [{step: measure(step, folder) for step in STEPS} for _ in range(options.rounds)]
    series = {step: [found[step]["cpu_s"] for found in rounds] for step in STEPS}
    ratios = {f"floor / {s}": ratio(series["floor"], series[s]) for s in STEPS if s != "floor"}
    middle = {
        step: {key: statistics.median(r[step][key] for r in rounds) for key in rounds[0][step]}
        for step in STEPS
    }
    lines = [
        f"a ledger of {size / 1e9:.2f} GB",
        f"{'':8}{'CPU s':>8}{'wall s':>8}{'peak GB':>9}",
    ]
    lines += [
        f"{step:8}{row['cpu_s']:8.1f}{row['wall_s']:8.1f}{row['peak_gb']:9.2f}"
        for step, row in middle.items()
    ]
    finish(options, ratios, {"ledger_gb": size / 1e9, **middle}, lines)


if __name__ == "__main__":
    main()
