"""Kills the driver of sweeps, again and again, and counts what is lost by it.

Each scenario is a sweep of made-up trainings, run once undisturbed. Then the same sweep is run and
its driver ended by SIGKILL at chosen moments (while it starts, while a checkpoint, weights, a job
or a line of the ledger is written, or anywhere), and resumed, until it has been killed so often.
What must be the same is compared. By hand, for a night::

    PYTHONPATH=tests:tests/sweep python tests/chaos/chaos.py WORKDIR --kills 20 --seed 3

Linux only, as it looks for the processes that a driver leaves behind.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plain_events import read_plain, typed_event
from simulation import ended, essence

from kdsweep.ledger import Experiment
from kdsweep.ledger.state import Sweep
from kdsweep.sweep.run import read_space
from kdsweep.sweep.study import Study

HERE = Path(__file__).resolve().parent
SPACE: dict[str, Any] = {
    "name": "chaos",
    "data": {"source": "roadscenes", "image_size": [32, 32]},
    "teacher": {"encoder": "resnet18"},
    "student": {"encoder": {"values": ["resnet18", "resnet34", "mobilenet_v2"]}},
    "distill": {
        "pixel_kl": {"weight": {"min": 0.1, "max": 10, "distribution": "log_uniform_values"}}
    },
    "train": {
        "epochs": 8,
        "student": {"lr": {"min": 5e-4, "max": 5e-3, "distribution": "log_uniform_values"}},
    },
    "tracking": {"wandb": {"mode": "off"}},
}
SWEEP = {"trials": 12, "scheduler": "asha", "reduction_factor": 2, "max_concurrent": 1}


@dataclass(frozen=True)
class Scenario:
    """A kind of sweep.

    Attributes:
        sweep: Keys of its ``sweep:`` section.
        then: What is attacked, if it is not the run itself: ``extend`` or ``confirm``.
        in_order: Whether it does the same in the same order each time.
        stored: Whether a copy is kept in a store.
    """

    sweep: dict[str, Any] = field(default_factory=dict)
    then: str = ""
    in_order: bool = True
    stored: bool = False

    def write(self, path: Path) -> Path:
        """Write the space."""
        tree = copy.deepcopy(SPACE) | {"sweep": SWEEP | self.sweep}
        path.write_text(json.dumps(tree))
        return path


SCENARIOS = {
    "plain": Scenario(),
    "controls": Scenario({"controls": "shared", "sampler": "tpe"}),
    "slots": Scenario({"max_concurrent": 2}, in_order=False),
    "cohorts": Scenario(
        {"students_per_teacher": 3, "controls": "paired", "max_concurrent": 2, "trials": 9},
        in_order=False,
    ),
    "extend": Scenario({"trials": 5}, then="extend"),
    "confirm": Scenario({"trials": 4}, then="confirm"),
    "metrics": Scenario({"metric": ["student/miou", "student/latency_ms"], "controls": "none"}),
    "constraints": Scenario({"constraints": {"student/params_m": "<= 20"}, "trials": 8}),
    "storage": Scenario({"trials": 6}, stored=True),
}
MOMENTS = {
    "a checkpoint": "trials/*/c*/.epoch-*",
    "weights": "trials/*/.best.*",
    "a job": "trials/*/.job.yaml.*",
}

_STAY = (".lock", ".attempt", ".copy.json")


class Attack:
    """One scenario below a folder.

    Args:
        scenario: What is run.
        folder: For everything; new.
        kills: How often its driver is killed.
        seed: Of the moments.
    """

    def __init__(self, scenario: Scenario, folder: Path, kills: int, seed: int) -> None:
        folder.mkdir(parents=True)
        self._scenario, self._folder, self._kills = scenario, folder, kills
        self._random = random.Random(seed)
        self._space = scenario.write(folder / "space.json")
        self.moments: list[str] = []

    def run(self) -> dict[str, Any]:
        """Run it undisturbed and with kills; return what is wrong with the second one, if anything.

        Returns:
            Counts of what should not be, empty where all is well.
        """
        for name in ("undisturbed", "killed"):
            if self._scenario.then:
                self._whole(name, self._start(name, "run"))
        self._whole("undisturbed", self._start("undisturbed", self._verb()))
        left: list[int] = []
        for _ in range(self._kills):
            process = self._start("killed", self._verb())
            moment = self._wait(process)
            if process.poll() is not None:  # it was over before that
                self._whole("killed", process)
                break
            family = _family(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            self.moments.append(moment)
            left += family
        self._whole("killed", self._start("killed", self._verb()))
        wrong = what_is_wrong(self._experiment("killed"), self._experiment("undisturbed"))
        wrong["not as the undisturbed one"] = self._differences() if self._scenario.in_order else 0
        wrong["processes left"] = _still_there(left, seconds=30)
        return {what: found for what, found in wrong.items() if found}

    def _verb(self) -> str:
        return self._scenario.then or "run"

    def _experiment(self, name: str) -> Experiment:
        where = self._folder / name / ("confirmed" if self._scenario.then == "confirm" else "runs")
        return Experiment.open(where / "latest")

    def _start(self, name: str, verb: str) -> subprocess.Popen[str]:
        runs = self._folder / name / "runs"
        target = self._folder / name / "confirmed" if verb == "confirm" else runs
        has_begun = (target / "latest" / "ledger.jsonl").exists()
        arguments = ["run", str(runs), str(self._space)]
        if verb == "extend" and '"extend"' not in (runs / "latest/ledger.jsonl").read_text():
            arguments = ["resume", str(runs / "latest"), "more_trials=6"]
        elif has_begun:
            arguments = ["resume", str(target / "latest")]
        elif verb == "confirm":
            arguments = ["confirm", str(target), str(runs / "latest")]
        if self._scenario.stored and arguments[0] == "run":
            arguments.append(f'storage="file://{self._folder}/{name}/store"')
        script = str(HERE.parent / "sweep" / "sweep_process.py")
        path = [HERE, HERE.parent, HERE.parent / "sweep", os.environ.get("PYTHONPATH", "")]
        return subprocess.Popen(
            [sys.executable, script, *arguments, 'runner="chaos_runner"'],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _whole(self, name: str, process: subprocess.Popen[str]) -> None:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, f"{name}: {errors}"

    def _wait(self, process: subprocess.Popen[str]) -> str:
        """Wait for the moment of a kill; return its name."""
        moment = self._random.choice(["the start", "anywhere", "a line", *MOMENTS, "a checkpoint"])
        if moment == "the start":
            return moment if _pass(process, self._random.uniform(0.2, 12)) else ""
        ledger, skip = None, self._random.randint(0, 6)
        deadline = time.monotonic() + 60
        size, seen = -1, set[str]()
        later = self._random.uniform(0, 3)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
            try:
                ledger = self._experiment("killed").ledger
                now = ledger.stat().st_size
            except Exception:
                continue
            if size < 0:
                size = now
            if now == size and not seen:
                continue  # this session has written nothing
            if moment == "anywhere":
                return moment if _pass(process, later) else ""
            pattern = MOMENTS.get(moment)
            here = {str(now)} if pattern is None else {str(p) for p in ledger.parent.glob(pattern)}
            if here - seen:
                skip -= 1
            seen |= here or {""}
            if skip < 0:
                return moment
        return "anywhere"

    def _differences(self) -> int:
        def lines(name: str) -> Iterator[str]:
            for event in essence(read_plain(self._experiment(name).ledger)):
                left_out = {"seconds", "data", "equal_time", "confirms"}
                yield json.dumps({k: v for k, v in event.items() if k not in left_out})

        return sum((Counter(lines("killed")) - Counter(lines("undisturbed"))).values())


def what_is_wrong(experiment: Experiment, undisturbed: Experiment) -> dict[str, Any]:
    """Return what should not be there in an experiment that has ended, with how often it is."""
    events = read_plain(experiment.ledger)
    sweep, study = Sweep(), Study(read_space(experiment))
    for event in map(typed_event, events):
        sweep.apply(event)
        study.apply(event)
    ends = ended(events)
    epochs = Counter((e["trial"], e["epoch"]) for e in events if e["event"] == "epoch")
    folders = {number: experiment.trial(number).path for number in sweep.trials}
    trained = {
        number: Counter((path / "trained.txt").read_text().split())
        for number, path in folders.items()
        if (path / "trained.txt").exists()
    }
    wanted = len(Sweep([typed_event(e) for e in read_plain(undisturbed.ledger)]).trials)
    searched = [number for number, trial in sweep.trials.items() if not trial.is_control]
    return {
        "trials lost": wanted - len(sweep.trials) + sum(n not in ends for n in sweep.trials),
        "trials that ended twice": sum(n > 1 for n in ends.values()),
        "epochs told twice": sum(n > 1 for n in epochs.values()),
        "epochs missing": sum(
            sorted(t.values) != list(range(1, t.epoch + 1)) for t in sweep.trials.values()
        ),
        # One whose report was on its way when the driver died.
        "finished epochs trained again": sum(
            max(0, n - 1) for counts in trained.values() for n in counts.values()
        ),
        "study unlike the ledger": sum(
            study.trial(n).intermediate_values != sweep.trials[n].values for n in searched
        ),
        "weights missing": sum(not (folders[n] / "best" / "state.json").exists() for n in trained),
        "checkpoints left": sum(
            any((path / name).exists() for name in ("checkpoint", "cohort"))
            for path in folders.values()
        ),
        "half-written files": sum(p.name not in _STAY for p in experiment.path.rglob(".*")),
        "failures": sum(event["event"] == "fail" for event in events),
        "not done": int(not sweep.is_done),
    }


def _pass(process: subprocess.Popen[str], seconds: float) -> bool:
    """Return whether a process is still there after some time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _family(leader: int) -> list[int]:
    """Return all processes that descend from a process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(") ")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, queue = [], children.get(leader, [])
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def _still_there(pids: list[int], seconds: float) -> int:
    """Return how many processes live on after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        alive = 0
        for pid in pids:
            try:
                alive += "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
            except OSError:
                continue
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.2)


def main() -> int:
    """Attack the scenarios that are named, and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="for the experiments; new")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faults = 0
    for number, name in enumerate(options.scenarios):
        attack = Attack(
            SCENARIOS[name], options.folder / name, options.kills, options.seed + number
        )
        wrong = attack.run()
        faults += len(wrong)
        moments = ", ".join(f"{n} × {m}" for m, n in Counter(attack.moments).items())
        print(
            f"{name:12} killed {len(attack.moments)} ({moments}): {wrong or 'nothing lost'}",
            flush=True,
        )
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
