"""The stages of a start, and what is said of workers; without Ray."""

import os
from contextlib import ExitStack

import pytest
from simulation import make_space

from kdsweep.errors import MachineError
from kdsweep.sweep.progress import PlainProgress, Progress
from kdsweep.sweep.ray import cluster
from kdsweep.sweep.signals import Interruption
from kdsweep.sweep.stages import Stages
from kdsweep.sweep.start import Start


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_each_stage_is_a_line_with_its_seconds():
    shown, clock = Notes(), Clock()
    stages = Stages(shown, clock)
    stages.begin("Ray")
    clock.now += 6.04
    stages.begin("networks")
    clock.now += 90.0
    stages.end()
    stages.end()
    stages.begin("data")
    stages.drop()
    stages.end()
    assert shown.notes == ["Ray         6.0 s", "networks   90.0 s"]


def test_a_long_stage_is_told_every_half_minute(capsys):
    from rich.console import Console

    stages = Stages(PlainProgress(Console()), clock := Clock())
    for name in ("Ray", "data"):
        stages.begin(name)
        for _ in range(70):
            clock.now += 1.0
            stages.tick()
    stages.end()
    assert capsys.readouterr().out.splitlines() == [
        "Ray: 30 s so far",
        "Ray: 60 s so far",
        "Ray        70.0 s",
        "data: 30 s so far",
        "data: 60 s so far",
        "data       70.0 s",
    ]


def make_start(tmp_path, shown, **options):
    return Start(shown, Interruption(), None, tmp_path, tmp_path, dashboard=False, **options)


def test_nicer_workers_are_named_once_a_machine(tmp_path):
    shown = Notes()
    start = make_start(tmp_path, shown)
    for host, niceness in (("a", os.nice(0)), ("b", 15), ("b", 15), ("c", 15)):
        start.look_at_worker(host, niceness)
    assert [note.split()[3] for note in shown.notes] == ["b", "c"]


def test_a_ray_without_workers_is_given_up(tmp_path, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def ray(*_, **__):
        yield cluster.Cluster((), True, tmp_path, None)

    monkeypatch.setattr(cluster, "start", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for worker_comes in (True, False):
        start = make_start(tmp_path, Notes())
        with ExitStack() as stack:
            start.connect(stack, make_space(), is_new=True)
            if worker_comes:
                start.look_at_worker("here", 0)
            monkeypatch.setattr(cluster, "START_SECONDS", -1.0)
            if worker_comes:
                start.tick()
            else:
                with pytest.raises(MachineError, match="has started no worker"):
                    start.tick()
