"""What a sweep costs besides training: seconds per trial that does nothing, and busy slots.

Runs trials that only sleep through kdsweep, through a bare Ray Tune script (a function that calls
``tune.report``, random search), and through Optuna with a process per trial, one after the other on
the same machine. Every trial imports what a training imports: torch and
segmentation_models_pytorch. ::

    python benchmarks/sweep_overhead.py              # 100 no-op trials, busy share at 30 s a trial
    python benchmarks/sweep_overhead.py --seconds 3  # shorter trials: a harder test
    python benchmarks/sweep_overhead.py --seconds 0 --ways kdsweep --trials 2000
    python benchmarks/sweep_overhead.py --same-trials 16 --seconds 15    # about five minutes

With ``--same-trials`` kdsweep and the bare script that reuses its workers run as many trials of the
same length, and their wall-clock times are compared: once all slots are busy (from the end of the
second trial of a slot, on average, to that of the last one), and all of it, from a process with
nothing imported to one that has shut Ray down.

Seconds per no-op trial are those of the last three quarters: in the first, workers start and
import.
Busy share: seconds spent in epochs, divided by slots times the wall-clock time from the first
trial's start to the last one's end. Told besides are how the seconds of a no-op trial grow (the
first quarter of the trials against the last) and by how much kdsweep's driver grows meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from side_by_side import arguments, finish, ratio, spread

NAME = Path(__file__).stem
EPOCHS = 10


# -- the trainings, as kdsweep's workers find them


def check_job(job):
    """Anything goes."""


def check_memory(jobs, gpus_per_trial):
    """Sleeping takes none."""


def prepare(jobs, progress=None):
    return {"source": "none", "embedded": False, "notice": None, "classes": [], "palette": []}


def network_bytes(jobs):
    """They have no weights."""
    return 0, 0


def run_jobs(jobs, folders, *, metric, **_):
    import segmentation_models_pytorch  # noqa: F401  # once in a worker

    from kdsweep.training.report import EpochReport

    (job,) = jobs
    seconds = job.student.options["seconds"]
    for epoch in range(1, job.train.epochs + 1):
        time.sleep(seconds)
        yield {0: EpochReport(epoch, {metric: job.train.lr * epoch}, {}, seconds)}


TRAIN = """
import sys, time
import segmentation_models_pytorch
lr, epochs, seconds = float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
for epoch in range(1, epochs + 1):
    time.sleep(seconds)
print(lr * epochs)
"""


# -- the ways to run them


def through_kdsweep(trials: int, epochs: int, seconds: float, slots: int) -> dict:
    from kdsweep.config import load_space
    from kdsweep.ledger import Experiment, read_ledger
    from kdsweep.ledger.events import EpochEvent, StartEvent
    from kdsweep.sweep import run_sweep

    space = load_space(
        {
            "name": "overhead",
            "data": {"source": "roadscenes", "image_size": [32, 32]},
            "student": {"options": {"seconds": seconds}},
            "train": {"epochs": epochs, "lr": {"min": 1e-4, "max": 1e-1}},
            "sweep": {
                "trials": trials,
                # What a sampler takes is its own affair: TPE's time grows with the trials it knows.
                "sampler": "random",
                "scheduler": "none",
                "controls": "none",
                "max_concurrent": slots,
            },
            "resources": {"cpus_per_trial": 1},
            "tracking": {"wandb": {"mode": "off"}},
        }
    )
    with tempfile.TemporaryDirectory() as folder, Resident() as resident:
        outcome = run_sweep(space, experiments=Path(folder), runner=NAME, dashboard=False)
        assert outcome.exit_code == 0, outcome
        events = read_ledger(Experiment.open(outcome.experiment).ledger)
    starts = [event.time for event in events if isinstance(event, StartEvent)]
    ends = [event.time for event in events if isinstance(event, EpochEvent) and event.stop]
    return summary(starts, ends, trials * epochs * seconds, slots) | resident.growth()


class Resident(threading.Thread):
    """Looks every now and then at this process's memory."""

    def __enter__(self) -> Resident:
        self.mb: list[float] = []
        self.over = threading.Event()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        """Look, until the block ends."""
        pages = os.sysconf("SC_PAGE_SIZE")
        while not self.over.wait(0.2):
            self.mb.append(int(Path("/proc/self/statm").read_text().split()[1]) * pages / 1e6)

    def growth(self) -> dict:
        """MB from the end of the first quarter, when all is imported, to the end."""
        if len(self.mb) < 4:
            return {}
        return {
            "driver_mb": self.mb[-1],
            "driver_grew_mb": self.mb[-1] - self.mb[len(self.mb) // 4],
        }


def through_processes(trials: int, epochs: int, seconds: float, slots: int) -> dict:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    starts, ends = [], []

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        starts.append(time.time())
        command = [sys.executable, "-c", TRAIN, str(lr), str(epochs), str(seconds)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        ends.append(time.time())
        return float(printed)

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=trials, n_jobs=slots)
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
        import segmentation_models_pytorch  # noqa: F401

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
    ends = sorted(ends)
    # Whether slots began together or not, as many trials end in each after that.
    second = min(2 * slots, len(ends)) - 1
    quarter = len(ends) // 4
    found = {
        # Workers start and import during the first ones.
        "seconds_per_trial": (ends[-1] - ends[quarter]) / max(1, len(ends) - 1 - quarter),
        "busy": busy / (slots * (ends[-1] - min(starts))),
        "steady_s": ends[-1] - ends[second],
    }
    if quarter > 1:
        found["first_quarter_s"] = (ends[quarter] - ends[0]) / quarter
        found["last_quarter_s"] = (ends[-1] - ends[-1 - quarter]) / quarter
    return found


# -- the comparison

KDSWEEP, REUSING = "kdsweep", "bare Tune, reuse_actors"
WAYS = {
    KDSWEEP: through_kdsweep,
    "bare Tune": lambda *a: through_tune(*a, reuse=False),
    REUSING: lambda *a: through_tune(*a, reuse=True),
    "Optuna + processes": through_processes,
}
# Their trials cost seconds each, all of them alike.
DEAR = ("bare Tune", "Optuna + processes")


def same_trials(options: argparse.Namespace) -> None:
    """Compare wall-clock times of trials of real length."""
    found: dict[str, list[dict]] = {KDSWEEP: [], REUSING: []}
    for number in range(options.repeats):
        for name in list(found)[:: 1 if number % 2 else -1]:
            print(f"{name} …", file=sys.stderr, flush=True)
            # A process of its own, so that neither finds imported what the other needed.
            command = [sys.executable, __file__, "--alone", name]
            for key in ("same_trials", "seconds", "slots"):
                command += [f"--{key.replace('_', '-')}", str(getattr(options, key))]
            started = time.perf_counter()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            whole_s = time.perf_counter() - started
            found[name].append({**json.loads(done.stdout.splitlines()[-1]), "whole_s": whole_s})
    ratios = {
        f"{REUSING} / kdsweep, {words}": ratio(
            *([row[key] for row in found[name]] for name in (REUSING, KDSWEEP))
        )
        for key, words in (("steady_s", "once all slots are busy"), ("whole_s", "all of it"))
    }
    ideal = [options.seconds * (options.same_trials / options.slots - begun) for begun in (2, 0)]
    lines = [f"{options.same_trials} trials of {options.seconds:g} s, {options.slots} slots"]
    lines.append(f"{'':26}{'all slots busy':>16}{'all of it':>12}{'busy share':>12}")
    for name, rows in found.items():
        row = {key: statistics.median(r[key] for r in rows) for key in rows[0]}
        lines.append(
            f"{name:26}{row['steady_s']:14.2f} s{row['whole_s']:10.2f} s{row['busy']:12.3f}"
        )
    lines.append(f"{'without any overhead':26}{ideal[0]:14.2f} s{ideal[1]:10.2f} s")
    finish(options, ratios, found, lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=100, help="no-op trials")
    parser.add_argument("--epochs", type=int, default=1, help="of a no-op trial, a report each")
    parser.add_argument("--dear-trials", type=int, default=12, help=f"of {' and '.join(DEAR)}")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a sleeping trial; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="sleeping trials per slot")
    parser.add_argument("--slots", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--same-trials", type=int, default=0, help="compare so many of --seconds")
    parser.add_argument("--repeats", type=int, default=1, help="of that comparison")
    parser.add_argument("--alone", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()

    # Workers import this file by its name.
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

    if options.alone:
        found = WAYS[options.alone](
            options.same_trials, EPOCHS, options.seconds / EPOCHS, options.slots
        )
        print(json.dumps({key: found[key] for key in ("steady_s", "busy")}))
        return
    if options.same_trials:
        same_trials(options)
        return
    figures = {}
    for name in options.ways:
        print(f"{name} …", file=sys.stderr, flush=True)
        trials = min(options.trials, options.dear_trials) if name in DEAR else options.trials
        figures[name] = WAYS[name](trials, options.epochs, 0.0, options.slots)
        del figures[name]["busy"]
        if options.seconds:
            sleeping = WAYS[name](
                options.rounds * options.slots, EPOCHS, options.seconds / EPOCHS, options.slots
            )
            figures[name]["busy"] = sleeping["busy"]
    ours = figures.get(KDSWEEP, {})
    ratios = {
        f"{name} / kdsweep, a no-op trial": spread(
            [row["seconds_per_trial"] / ours["seconds_per_trial"]]
        )
        for name, row in figures.items()
        if ours and name != KDSWEEP
    }
    if "last_quarter_s" in ours:
        flat = ours["first_quarter_s"] / ours["last_quarter_s"]
        ratios["first quarter / last quarter, a no-op trial"] = spread([flat])
    if "busy" in ours:
        ratios["busy share of the slots"] = spread([ours["busy"]])
    lines = [f"{options.slots} slots, {options.trials} no-op trials, {options.seconds:g} s trials"]
    lines.append(f"{'':26}{'s per no-op trial':>18}{'busy share':>12}")
    for name, row in figures.items():
        busy = f"{row['busy']:12.3f}" if "busy" in row else f"{'':12}"
        lines.append(f"{name:26}{row['seconds_per_trial']:18.3f}{busy}")
    if "driver_mb" in ours:
        lines.append(
            f"kdsweep's driver: {ours['driver_mb']:.0f} MB at the end of the no-op trials, "
            f"{ours['driver_grew_mb']:+.1f} MB in their last three quarters"
        )
    finish(options, ratios, figures, lines)


if __name__ == "__main__":
    main()
