"""A sweep of thousands of small real trainings, of which something is killed again and again.

Killed by SIGKILL: the driver, a worker, Ray's raylet, its GCS, W&B's own process. Whenever the
sweep has ended before it is done, it is resumed. Measured meanwhile: memory, open files and the
time a trial takes. At the end the ledger must be whole, and some trials, trained once more on their
own, must have the same scores in each epoch. By hand::

    PYTHONPATH=tests:tests/sweep python tests/chaos/soak.py WORKDIR --trials 2000

Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos import SPACE, _family, _still_there, what_is_wrong
from plain_events import read_plain, typed_event
from simulation import ended

from kdsweep.config import Job
from kdsweep.ledger import Experiment, TrialFolder
from kdsweep.ledger.state import Sweep
from kdsweep.trial import run_jobs

NETWORK = {
    "encoder": "tu-lcnet_035",
    "options": {"encoder_depth": 3, "decoder_channels": [8, 8, 8]},
}
TINY: dict[str, Any] = SPACE | {
    "name": "soak",
    "data": {"source": "roadscenes", "image_size": [32, 32], "scenes": 8, "val_scenes": 4},
    "teacher": NETWORK,
    "student": NETWORK,
    "train": {
        "epochs": 2,
        "batch_size": 4,
        "student": {"lr": {"min": 5e-4, "max": 5e-3, "distribution": "log_uniform_values"}},
    },
    "tracking": {"wandb": {"mode": "offline"}},
}
SWEEP = {"sampler": "random", "scheduler": "none", "controls": "none", "max_concurrent": 2}
VICTIMS = {
    "the driver": "",
    "a worker": "ray::",
    "the raylet": "raylet/raylet",
    "the GCS": "gcs_server",
    "W&B's process": "wandb-core",
}
RETRAINED = 20


class Soak:
    """A sweep below a folder.

    Args:
        folder: For everything; new.
        trials: How many.
        every: Seconds between two kills, on average.
        seed: Of the kills.
    """

    def __init__(self, folder: Path, trials: int, every: float, seed: int) -> None:
        folder.mkdir(parents=True)
        self._folder, self._trials, self._every = folder, trials, every
        self._random = random.Random(seed)
        self._space = folder / "space.yaml"
        self._space.write_text(json.dumps(TINY | {"sweep": {**SWEEP, "trials": trials}}))
        self.kills: Counter[str] = Counter()
        self.sessions = 0
        self.samples: list[dict[str, float]] = []
        self._left: list[int] = []

    def run(self) -> None:
        """Run it to its end."""
        while not self._is_done():
            process = self._start()
            self.sessions += 1
            begun, due = time.monotonic(), self._next_kill()
            while process.poll() is None:
                time.sleep(2)
                self._sample(process, time.monotonic() - begun)
                if time.monotonic() > due and self._kill(process):
                    due = self._next_kill()
            self._say(f"session {self.sessions} ended with {process.returncode}")

    def wrong(self) -> dict[str, Any]:
        """Return what should not be, with how often it is; empty where all is well."""
        experiment = self._experiment()
        found = what_is_wrong(experiment, experiment)
        events = read_plain(experiment.ledger)
        found["failures"] = sum(e["event"] == "fail" and not e["retry"] for e in events)
        found["trials lost"] += self._trials - len(ended(events))
        found["scores unlike those of the trial alone"] = self._unlike(experiment)
        found["processes left"] = _still_there(self._left, seconds=30)
        return {what: number for what, number in found.items() if number}

    def _experiment(self) -> Experiment:
        return Experiment.open(self._folder / "runs" / "latest")

    def _is_done(self) -> bool:
        try:
            return any(e["event"] == "done" for e in read_plain(self._experiment().ledger))
        except Exception:  # there is none yet
            return False

    def _start(self) -> subprocess.Popen[bytes]:
        runs = self._folder / "runs"
        has_begun = (runs / "latest" / "ledger.jsonl").exists()
        command = ["resume", str(runs / "latest")] if has_begun else ["run", str(self._space)]
        command += ["--json"] if has_begun else ["--json", "--out", str(runs)]
        with (self._folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "kdsweep", *command],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _next_kill(self) -> float:
        return time.monotonic() + self._random.uniform(0.2, 1.8) * self._every

    def _kill(self, driver: subprocess.Popen[bytes]) -> bool:
        """Kill one process of the sweep; return whether there was one."""
        name = self._random.choice(list(VICTIMS))
        family = _family(driver.pid)
        pids = [pid for pid in family if VICTIMS[name] in _words(pid)]
        if name == "the driver":
            pids = [driver.pid]
            self._left += family
        elif not pids:
            return False
        pid = self._random.choice(pids)
        os.kill(pid, signal.SIGKILL)
        self.kills[name] += 1
        self._say(f"killed {name}")
        return True

    def _sample(self, driver: subprocess.Popen[bytes], age: float) -> None:
        workers = [pid for pid in _family(driver.pid) if "ray::" in _words(pid)]
        ended = _num_ended(self._folder / "runs" / "latest" / "ledger.jsonl")
        self.samples.append(
            {
                "seconds": age,
                "session": self.sessions,
                "ended": ended,
                "driver MB": _memory_mb(driver.pid),
                "driver files": _num_files(driver.pid),
                "worker MB": max(map(_memory_mb, workers), default=0.0),
                "worker files": max(map(_num_files, workers), default=0),
            }
        )

    def table(self, parts: int = 8) -> str:
        """Return, for each part of the sweep, what a trial took and what was used at most."""
        heads = f"{'trials':>12} {'s a trial':>10} {'driver MB':>10} {'files':>6}"
        lines = [f"{heads} {'worker MB':>10} {'files':>6}"]
        for part in range(parts):
            low, high = (self._trials * p / parts for p in (part, part + 1))
            here = [s for s in self.samples if low <= s["ended"] < high]
            paces = [
                (b["seconds"] - a["seconds"]) / (b["ended"] - a["ended"])
                for a, b in zip(here, here[5:], strict=False)
                if a["session"] == b["session"] and a["seconds"] > 40 and b["ended"] > a["ended"]
            ]
            most = [max((s[name] for s in here), default=0) for name in _USED]
            pace = statistics.median(paces) if paces else float("nan")
            lines.append(
                f"{f'{low:.0f} to {high:.0f}':>12} {pace:>10.2f} {most[0]:>10.0f} {most[1]:>6.0f}"
                f" {most[2]:>10.0f} {most[3]:>6.0f}"
            )
        return "\n".join(lines)

    def _unlike(self, experiment: Experiment) -> int:
        """Train some trials once more, each on its own; return how many have other scores."""
        sweep, unlike = Sweep(map(typed_event, read_plain(experiment.ledger))), 0
        for number in self._random.sample(sorted(sweep.trials), min(RETRAINED, self._trials)):
            trial = sweep.trials[number]
            job = Job.model_validate_json(json.dumps(trial.job))
            with tempfile.TemporaryDirectory(dir=self._folder) as there:
                folder = TrialFolder(Path(there))
                reports = run_jobs([job], [folder], device="cpu", num_threads=1)
                values = {r[0].epoch: r[0].metrics["student/miou"] for r in reports}
            unlike += values != trial.values
        return unlike

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


_USED = ("driver MB", "driver files", "worker MB", "worker files")


def _num_ended(ledger: Path) -> int:
    try:
        return ledger.read_bytes().count(b'"stop":"complete"')
    except OSError:
        return 0


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _memory_mb(pid: int) -> float:
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith("Pss:")), 0.0)


def _num_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def main() -> int:
    """Run it, and print what was killed, what it used and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="for the experiment; new")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--every", type=float, default=90.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    soak = Soak(options.folder, options.trials, options.every, options.seed)
    soak.run()
    wrong = soak.wrong()
    kills = ", ".join(f"{what} {number}" for what, number in soak.kills.items())
    print(f"{options.trials} trials in {soak.sessions} sessions; killed: {kills}")
    print(soak.table())
    print(wrong or "nothing lost")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
