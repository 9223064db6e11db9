"""What a sweep costs besides training: seconds per trial that does nothing, and busy slots.

Runs trials that only sleep through kdsweep and through a bare Ray Tune script (a function that
calls ``tune.report``, random search, ASHA), one after the other on the same machine::

    python benchmarks/sweep_overhead.py              # 100 no-op trials, busy share at 30 s a trial
    python benchmarks/sweep_overhead.py --seconds 3  # shorter trials: a harder test
    python benchmarks/sweep_overhead.py --json

Busy share: seconds spent in epochs, divided by slots times the wall-clock time from the first
trial's start to the last one's end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

NAME = Path(__file__).stem
EPOCHS = 10


# -- the trainings, as kdsweep's workers find them


def check_job(job):
    """Anything goes."""


def prepare(jobs):
    return {"source": "none", "embedded": False, "notice": None, "classes": [], "palette": []}


def run_job(job, folder, *, device, num_threads, metric):
    from kdsweep.training.report import EpochReport

    seconds = job.student.options["seconds"]
    for epoch in range(1, job.train.epochs + 1):
        time.sleep(seconds)
        yield EpochReport(epoch, {metric: job.train.lr * epoch}, {}, seconds)


# -- the two ways to run them


def through_kdsweep(trials: int, epochs: int, seconds: float, slots: int) -> dict:
    from kdsweep.spec import load_space
    from kdsweep.store import Experiment, read_ledger
    from kdsweep.sweep import run_sweep

    space = load_space(
        {
            "name": "overhead",
            "data": {"source": "roadscenes", "image_size": [32, 32]},
            "student": {"options": {"seconds": seconds}},
            "train": {"epochs": epochs, "lr": {"min": 1e-4, "max": 1e-1}},
            "sweep": {
                "trials": trials,
                "scheduler": "none",
                "controls": "none",
                "max_concurrent": slots,
            },
            "resources": {"cpus_per_trial": 1},
            "tracking": {"wandb": {"mode": "off"}},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_sweep(space, experiments=Path(folder), runner=NAME, dashboard=False)
        assert outcome.exit_code == 0, outcome
        events = read_ledger(Experiment.open(outcome.experiment).ledger)
    starts = [e["time"] for e in events if e["event"] == "start"]
    ends = [e["time"] for e in events if e["event"] == "epoch" and e["stop"]]
    return summary(starts, ends, trials * epochs * seconds, slots)


def through_tune(trials: int, epochs: int, seconds: float, slots: int, *, reuse: bool) -> dict:
    import ray
    from ray import tune

    starts, ends = [], []

    class Clock(tune.Callback):
        def on_trial_start(self, iteration, trials, trial, **info):
            starts.append(time.time())

        def on_trial_complete(self, iteration, trials, trial, **info):
            ends.append(time.time())

    def train(config):
        for epoch in range(1, epochs + 1):
            time.sleep(seconds)
            tune.report({"value": config["lr"] * epoch})

    with tempfile.TemporaryDirectory() as folder:
        ray.init(
            address="local",
            num_cpus=slots,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="CRITICAL",
        )
        tuner = tune.Tuner(
            train,
            param_space={"lr": tune.loguniform(1e-4, 1e-1)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[Clock()], verbose=0),
        )
        tuner.fit()
        ray.shutdown()
    return summary(starts, ends, trials * epochs * seconds, slots)


def summary(starts: list[float], ends: list[float], busy: float, slots: int) -> dict:
    return {
        "seconds_per_trial": (max(ends) - min(ends)) / (len(ends) - 1),
        "busy": busy / (slots * (max(ends) - min(starts))),
    }


# -- the comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=100, help="no-op trials")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a sleeping trial")
    parser.add_argument("--rounds", type=int, default=3, help="sleeping trials per slot")
    parser.add_argument("--slots", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()

    # Workers import this file by its name.
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

    ways = {
        "kdsweep": through_kdsweep,
        "bare Tune": lambda *a: through_tune(*a, reuse=False),
        "bare Tune, reuse_actors": lambda *a: through_tune(*a, reuse=True),
    }
    results = {}
    for name, run in ways.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        no_op = run(options.trials, 1, 0.0, options.slots)
        sleeping = run(
            options.rounds * options.slots, EPOCHS, options.seconds / EPOCHS, options.slots
        )
        results[name] = {"no_op_s": no_op["seconds_per_trial"], "busy": sleeping["busy"]}
    ratio = results["bare Tune"]["no_op_s"] / results["kdsweep"]["no_op_s"]
    if options.json:
        print(json.dumps({**vars(options), "results": results, "ratio": ratio}))
        return
    print(f"{options.slots} slots, {options.trials} no-op trials, {options.seconds:g} s trials")
    print(f"{'':26}{'s per no-op trial':>18}{'busy share':>12}")
    for name, row in results.items():
        print(f"{name:26}{row['no_op_s']:18.3f}{row['busy']:12.3f}")
    print(f"a no-op trial costs 1/{ratio:.1f} of a bare Tune script's")


if __name__ == "__main__":
    main()
