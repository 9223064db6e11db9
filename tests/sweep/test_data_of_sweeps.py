"""Sweeps through Ray on real files that change between sessions."""

import copy
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from simulation import SPACE
from tiny_job import write_data

from kdsweep import load
from kdsweep.config import load_space
from kdsweep.errors import DataError
from kdsweep.ledger import iter_ledger
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import read_status
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


def swap_classes(data, first, second):
    table = np.arange(256, dtype=np.uint8)
    table[[first, second]] = second, first
    for path in (data / "masks").iterdir():
        cv2.imwrite(str(path), table[cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)])


def test_labels_swapped_before_extend_and_a_class_added_before_resume(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    data = write_data(root)
    tree = copy.deepcopy(SPACE)
    tree["data"] = {
        "source": "folder",
        "path": str(data),
        "image_size": [32, 32],
        "split": {"val": 0.34, "block": 2},
        "cache": str(tmp_path / "cache"),
    }
    tree["sweep"] = {"trials": 2, "controls": "none"}
    tree["train"]["epochs"] = 2
    notes = Notes()
    outcome = run_sweep(load_space(tree), experiments=tmp_path, progress=notes, **FAKE)
    folder = outcome.experiment
    assert outcome.exit_code == 0
    (short,) = read_status(folder).data
    assert short.startswith("folder 8+4, ")
    assert f"data:       {short}" in notes.said
    ledger = folder / "ledger.jsonl"
    before = ledger.read_bytes()
    assert len(list((folder / "data").iterdir())) == 1

    swap_classes(data, 0, 1)
    with pytest.raises(DataError) as caught:
        resume_sweep(folder, more_trials=2, **FAKE)
    message = str(caught.value)
    assert "this sweep was trained on" in message
    assert short in message
    assert "train: 8 masks changed (000, 001, 002, …)" in message
    assert "val: 4 masks changed" in message
    assert "--accept-changed-data" in message
    assert caught.value.exit_code == 2
    assert ledger.read_bytes() == before  # nothing was asked for either

    jobs = jobs_to_confirm(folder, top=1, seeds=1)
    with pytest.raises(DataError, match="8 masks changed"):
        run_sweep(jobs, experiments=tmp_path / "confirmed", **FAKE)
    assert not (tmp_path / "confirmed").exists()

    outcome = resume_sweep(
        folder, more_trials=2, accept_changed_data=True, max_hours=1e-9, progress=notes, **FAKE
    )
    assert outcome.exit_code == 4
    assert any("8 masks changed" in said for said in notes.said)
    sweep = Sweep(iter_ledger(ledger))
    assert [part.before for part in sweep.parts] == [[short]]
    assert sweep.header.trials == 4

    (data / "classes.yaml").write_text("names: [red, green, blue, grey]\n")
    with pytest.raises(DataError, match=r"1 class added \(grey\)"):
        resume_sweep(folder, max_hours=9, **FAKE)
    outcome = resume_sweep(folder, max_hours=9, accept_changed_data=True, **FAKE)
    assert outcome.exit_code == 0
    results = load(folder)
    assert results.summary.data["classes"] == ["red", "green", "blue", "grey"]
    assert results.summary.num_trials == 2
    assert min(results.trials["number"]) >= 2
    assert [part["num_trials"] for part in results.summary.parts] == [
        2,
        results.summary.parts[1]["num_trials"],
    ]
    assert outcome.best_trial == results.summary.best.number


def test_a_new_sweep_begins_with_what_an_earlier_one_knows(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    tree = copy.deepcopy(SPACE)
    tree["data"] = {
        **{"source": "folder", "path": str(write_data(root)), "image_size": [32, 32]},
        **{"split": {"val": 0.34, "block": 2}, "cache": str(tmp_path / "cache")},
    }
    tree["sweep"] = {"trials": 3, "controls": "none"}
    tree["train"]["epochs"] = 2
    old = run_sweep(load_space(tree), experiments=tmp_path, **FAKE).experiment
    space, said = load_space({**tree, "name": "next"}), Notes()
    outcome = run_sweep(
        space, experiments=tmp_path, progress=said, best_of=[old], priors=[old], **FAKE
    )
    assert outcome.exit_code == 0
    assert f"prior:      the sampler begins with 3 trials of {old.name}" in said.said
    assert sum(line.startswith("tried first: ") for line in said.said) == 3
    sweep = Sweep(iter_ledger(outcome.experiment / "ledger.jsonl"))
    best = sorted(Sweep(iter_ledger(old / "ledger.jsonl")).candidates(), key=lambda t: t.merit)
    assert [trial.params for trial in sweep.trials.values()] == [trial.params for trial in best]
    outcome = resume_sweep(outcome.experiment, more_trials=1, **FAKE)
    assert len(Sweep(iter_ledger(outcome.experiment / "ledger.jsonl")).priors) == 3
