"""Sweeps without Ray: the driver, with workers that are generators in this process."""

import copy
import json
import random

import fake_training
from plain_events import read_plain

from kdsweep.config import Job, Space, load_space
from kdsweep.ledger import Experiment, Ledger, TrialFolder
from kdsweep.sweep.driver import Driver
from kdsweep.sweep.ray.worker import failure
from kdsweep.sweep.resources import Plan

SPACE = {
    "name": "tiny",
    "data": {"source": "roadscenes", "image_size": [32, 32]},
    "teacher": {"encoder": {"values": ["resnet34", "resnet50"]}},
    "student": {"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
    "distill": {
        "pixel_kl": {
            "values": [
                {"weight": 1.0, "temperature": {"values": [1.0, 4.0]}},
                {"weight": {"min": 0.1, "max": 10.0, "distribution": "log_uniform_values"}},
            ]
        }
    },
    "train": {
        "epochs": 9,
        "lr": {"min": 1.0e-4, "max": 1.0e-1, "distribution": "log_uniform_values"},
    },
    "sweep": {"trials": 14},
    "tracking": {"wandb": {"mode": "off"}},
}


def make_space(**sections) -> Space:
    """The space above; keyword arguments update its sections, or replace what is no mapping."""
    tree = copy.deepcopy(SPACE)
    for name, value in sections.items():
        if isinstance(value, dict) and isinstance(tree.get(name), dict):
            tree[name].update(value)
        else:
            tree[name] = value
    return load_space(tree)


class Simulation:
    """One experiment, run by drivers that may be dropped at any event.

    Args:
        path: Parent folder.
        space: The search space.
        slots: Trials at a time.
    """

    def __init__(self, path, space, slots=1):
        self.space = space
        self.slots = slots
        self.experiment = Experiment.create(path, space.name)
        self.now = 1_000_000.0

    def driver(self, **options):
        """A new driver on the experiment's ledger."""
        ledger = options.pop("ledger", None) or Ledger.open(self.experiment.ledger)
        plan = Plan(self.slots, 1, options.pop("gpus_per_trial", 0.0))
        if self.space.sweep.static_bounds:
            known = self.space.architectures()
            costs = fake_training.static_costs([a.job for a in known], 2)
            options["static_costs"] = {a.key: c for a, c in zip(known, costs, strict=True)}
        driver = Driver(self.space, self.experiment, ledger, plan, **options)
        driver.ledger = ledger
        return driver

    def run(self, seed=0, max_events=None, prepared=None, differences=(), **options):
        """One session; after ``max_events`` ledger lines it is dropped as if it were killed.

        Which worker reports next is drawn at random, but the same seed gives the same order.

        ``prepared`` and ``differences`` are what :meth:`Driver.begin` takes.
        """
        driver = self.driver(**options)
        if max_events is not None:
            driver.listeners.append(_Killer(driver, max_events))
        try:
            driver.begin("test", prepared or fake_training.DATA, differences)
            self._work(driver, random.Random(seed))
            driver.end()
        except _KilledError:
            pass
        finally:
            driver.ledger.close()
        return driver

    def _work(self, driver, order):
        workers = {}
        while True:
            while (attempt := driver.next_attempt()) is not None:
                workers[attempt.cohort] = (attempt, self._reports(driver, attempt))
                driver.started(attempt)
            if not workers:
                assert driver.is_finished
                return
            number = order.choice(sorted(workers))
            attempt, reports = workers[number]
            if driver.reported(attempt, next(reports)) or not driver.is_active(attempt):
                del workers[number]
            driver.check_budgets()

    def _reports(self, driver, attempt):
        folders = [TrialFolder(task.folder).create() for task in attempt.tasks]
        jobs = [Job.model_validate_json(json.dumps(task.job)) for task in attempt.tasks]
        trials = [task.trial for task in attempt.tasks]

        def leaving():
            remaining = {trial.number for trial in driver.remaining(attempt)}
            return [place for place, trial in enumerate(trials) if trial not in remaining]

        cohort = fake_training.run_jobs(
            jobs,
            folders,
            device="cpu",
            num_threads=1,
            metric=self.space.sweep.score,
            leaving=leaving,
        )
        while True:
            try:
                found = next(cohort, None)
            except Exception as error:
                yield {"failed": failure(error, "…")}
                return
            if found is None:
                yield {"ended": True}
                continue
            left = {p: error for p, error in found.items() if isinstance(error, Exception)}
            yield {
                "reports": {trials[p]: r.to_json() for p, r in found.items() if p not in left},
                "left": {trials[p]: failure(error, error.traceback) for p, error in left.items()},
            }

    def events(self):
        """The ledger, as plain JSON."""
        return read_plain(self.experiment.ledger)

    def trained(self, number):
        """The epochs that a trial's workers trained, in order."""
        path = self.experiment.trial(number).path / "trained.txt"
        return [int(line.split()[0]) for line in path.read_text().splitlines()]


def results(attempt, report):
    """What a worker sends when each of an attempt's students has a report, one and the same."""
    return {"reports": {task.trial: report.to_json() for task in attempt.tasks}, "left": {}}


class _KilledError(Exception):
    """The driver was killed here."""


class _Killer:
    """Kills a driver as soon as its ledger has so many lines."""

    def __init__(self, driver, max_events):
        self.driver = driver
        self.max_events = max_events

    def event(self, sweep, event):
        if self.driver.ledger.num_events >= self.max_events:
            raise _KilledError


def essence(events):
    """What a sweep decided, without when, in which session and in which attempt it did."""
    kept = []
    for event in events:
        if event["event"] in ("sweep", "trial", "epoch", "fail", "done"):
            dropped = ("seq", "time", "attempt", "traceback")
            kept.append({k: v for k, v in event.items() if k not in dropped})
    return kept


def ended(events):
    """How often each trial ended."""
    counts = {}
    for event in events:
        if event["event"] == "epoch" and event["stop"] is not None:
            counts[event["trial"]] = counts.get(event["trial"], 0) + 1
        if event["event"] == "fail" and not event["retry"]:
            counts[event["trial"]] = counts.get(event["trial"], 0) + 1
    return counts
