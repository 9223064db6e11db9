"""What a session finds out in a worker before its trials, and what a later one takes over."""

import copy
import os
import sys
from pathlib import Path

import pytest
from simulation import SPACE

from kdsweep.config import load_space
from kdsweep.ledger import iter_ledger
from kdsweep.ledger.state import Sweep
from kdsweep.sweep import jobs_to_confirm, resume_sweep, run_sweep
from kdsweep.sweep.progress import Progress

HERE = Path(__file__).parent
FAKE = {"runner": "fake_training", "dashboard": False}

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _workers_find_the_made_up_trainings(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "argv", ["kdsweep"])


class Notes(Progress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)

    def of(self, what):
        said = [text.removeprefix(what).strip() for text in self.said if text.startswith(what)]
        self.said.clear()
        return said


def sweep_of(folder):
    return Sweep(iter_ledger(folder / "ledger.jsonl"))


def test_teachers_are_scored_and_steps_timed_once(tmp_path, monkeypatch):
    tree = copy.deepcopy(SPACE)
    checkpoint = str(tmp_path / "teacher")
    tree["distill"] = {"checkpoint": checkpoint, "pixel_kl": {"weight": 1.0}}
    tree["sweep"] = {"trials": 2, "controls": "none"}
    tree["train"]["epochs"] = 2
    notes = Notes()
    options = {"progress": notes, **FAKE}
    monkeypatch.setenv("FAKE_TEACHER_MIOU", "0.3")
    space = load_space({**tree, "sweep": {**tree["sweep"], "max_hours": 1e-9}})
    outcome = run_sweep(space, experiments=tmp_path / "first", **options)
    assert outcome.exit_code == 4  # before any trial
    folder = outcome.experiment
    (said,) = notes.of("teacher:")
    assert said.startswith(f"warning: cpu from {checkpoint} scores mIoU 0.300 on the 2 validation ")
    assert "barely more than guessing one of 2 classes; is it trained for other pixels" in said
    monkeypatch.setenv("FAKE_TEACHER_MIOU", "0.7")
    assert resume_sweep(folder, max_hours=9, **options).exit_code == 0
    assert notes.of("teacher:") == [said]
    (teacher,) = sweep_of(folder).header.data["teachers"]
    assert (teacher["checkpoint"], teacher["miou"]) == (checkpoint, 0.3)

    jobs = jobs_to_confirm(folder, top=1, seeds=2, equal_time=True)
    (name,) = jobs.jobs
    outcome = run_sweep(jobs, experiments=tmp_path / "second", **options)
    assert outcome.exit_code == 0
    sweep = sweep_of(outcome.experiment)
    assert sweep.header.data["teachers"][0]["miou"] == 0.7  # by itself
    # Two epochs of the stand-in's teacher and student, 60 s, in those of a control, 10 s.
    assert sweep.header.equal_time[name]["epochs"] == 6
    assert f"6 epochs of {name} without" in notes.of("equal time:")[0]
    alone = [t for t in sweep.trials.values() if t.is_control and t.rides_with is None]
    assert [(trial.epochs, trial.epoch) for trial in alone] == [(6, 6)] * 2
