"""The stages of a start, and what is said of workers; without Ray."""

import io
import os
from contextlib import ExitStack

import pytest
from rich.console import Console
from simulation import make_space

from kdsweep.errors import MachineError
from kdsweep.pulse import Beat
from kdsweep.sweep.display import stage_line
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
    stages = Stages(PlainProgress(Console()), clock := Clock())
    for name in ("Ray", "data"):
        stages.begin(name)
        for _ in range(70):
            clock.now += 1.0
            stages.tick()
    stages.end()
    assert capsys.readouterr().out.splitlines() == [
        "Ray        starting or joining it …",
        "Ray: 30 s so far",
        "Ray: 60 s so far",
        "Ray        70.0 s",
        "data       preparing frames and weights …",
        "data: 30 s so far",
        "data: 60 s so far",
        "data       70.0 s",
    ]


def test_what_a_worker_prepares_is_counted_from_its_stage_on():
    told = []

    class Shown(Notes):
        def waiting(self, stage, seconds, beat=None):
            told.append((stage, beat))

    stages = Stages(Shown(), Clock())
    stages.begin("networks")
    stages.tick(jobs := Beat(3, "jobs", 2, 2))
    stages.begin("data")
    stages.tick(jobs)
    stages.tick(frames := Beat(4, "decoding folder train", 30, 900))
    assert told == [
        *[("networks", None), ("networks", jobs)],
        *[("data", None), ("data", None), ("data", frames)],
    ]


@pytest.mark.parametrize("width", [80, 200])
def test_on_a_terminal_a_stage_is_one_line_with_a_bar(width):
    def line(beat):
        console = Console(width=width, file=io.StringIO(), color_system=None)
        console.print(stage_line("data", 12.4, "preparing frames and weights", beat))
        (text,) = console.file.getvalue().splitlines()
        return text.rstrip()

    assert line(None) == "data         12 s  preparing frames and weights …"
    assert line(Beat(1, "weights of encoders")) == line(None)
    counted = line(Beat(2, "decoding folder train", 450, 900))
    assert counted.startswith("data         12 s  ━━━━━━━━━━")
    assert counted.endswith("  450/900 decoding folder train")


def test_a_long_stage_says_in_plain_lines_how_far_it_is(capsys):
    stages = Stages(PlainProgress(Console()), clock := Clock())
    stages.begin("data")
    clock.now += 31.0
    stages.tick(Beat(2, "decoding folder train", 450, 900))
    assert capsys.readouterr().out.splitlines()[1] == (
        "data: 31 s so far, decoding folder train, 450 of 900"
    )


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
