"""What W&B adds to the wall time of a sweep: a server that answers, and servers that do not.

A sweep whose trainings only sleep, from a process with nothing imported to its end, with
``tracking.wandb.mode: off`` and, in turns, with a W&B server on the loopback that answers, refuses
(403), fails (500), has too many requests (429), never answers, or goes away after a quarter of the
sweep::

    python benchmarks/wandb_wall.py --rounds 3       # 15 minutes
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from side_by_side import arguments, finish, ratio

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "tracking"))
NEVER = 100_000.0
SERVERS: dict[str, dict[str, Any]] = {
    "answers": {},
    "refuses (403)": {"refuse": 403},
    "fails (500)": {"refuse": 500},
    "has too many (429)": {"refuse": 429},
    "never answers": {"delay": NEVER},
    "goes away": {},
}
KEY = "0123456789abcdef0123456789abcdef01234567"
SWEEP = """
import json, sys
from pathlib import Path
from kdsweep.config import load_space
from kdsweep.sweep import run_sweep
options, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
outcome = run_sweep(
    load_space(options), experiments=folder, runner="sweep_overhead", dashboard=False
)
sys.exit(outcome.exit_code)
"""


def seconds(way: str, trials: int, epochs: int, epoch_s: float) -> float:
    """Return the wall time of a sweep, in seconds."""
    from stub_server import StubServer

    space = {
        "name": "wall",
        "data": {"source": "roadscenes", "image_size": [32, 32]},
        "student": {"options": {"seconds": epoch_s}},
        "train": {"epochs": epochs, "lr": {"min": 1e-4, "max": 1e-1}},
        "sweep": {
            **{"trials": trials, "sampler": "random", "scheduler": "none", "controls": "none"},
            "max_concurrent": 2,
        },
        "resources": {"cpus_per_trial": 1},
        "tracking": {"wandb": {"mode": "off" if way == "off" else "online"}},
    }
    with tempfile.TemporaryDirectory() as folder, StubServer(**SERVERS.get(way, {})) as server:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "HOME": folder, "WANDB_API_KEY": KEY}
        environment |= {"WANDB_BASE_URL": server.url, "WANDB_ERROR_REPORTING": "false"}
        environment.pop("WANDB_MODE", None)
        if way == "goes away":
            timer = threading.Timer(10 + trials * epochs * epoch_s / 8, server.kill)
            timer.daemon = True
            timer.start()
        begun = time.perf_counter()
        command = [sys.executable, "-c", SWEEP, json.dumps(space), folder]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun


def main() -> None:
    """Let all take turns."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.4, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=["off", *SERVERS], default=["off", *SERVERS])
    args = parser.parse_args()
    times: dict[str, list[float]] = {way: [] for way in args.ways}
    for number in range(args.rounds):
        for way in args.ways[:: 1 if number % 2 == 0 else -1]:
            times[way].append(seconds(way, args.trials, args.epochs, args.seconds))
            print(f"{way}: {times[way][-1]:.1f} s", file=sys.stderr, flush=True)
    ratios = {
        f"off / {way}, wall time": ratio(times["off"], found)
        for way, found in times.items()
        if way != "off"
    }
    lines = [f"{args.trials} trials of {args.epochs} epochs of {args.seconds:g} s, two at a time"]
    lines += [f"  {way:20}{', '.join(f'{s:.1f}' for s in found)} s" for way, found in times.items()]
    finish(args, ratios, times, lines)


if __name__ == "__main__":
    main()
