"""A whole sweep with real networks: run, killed, resumed, reported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_events import read_plain
from tiny_job import SMALL

import kdsweep
from kdsweep.config import Space, load_space
from kdsweep.ledger import Experiment

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def make_space(data: Path, cache: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "data": {
            "source": "folder",
            "path": str(data),
            "image_size": [32, 32],
            "split": {"val": 0.34, "block": 2},
            "cache": str(cache),
        },
        "teacher": {"encoder": "resnet18", "options": SMALL},
        "student": {"encoder": {"values": ["mobilenet_v2", "resnet18"]}, "options": SMALL},
        "distill": {
            "pixel_kl": {"weight": {"min": 0.1, "max": 10, "distribution": "log_uniform_values"}}
        },
        "train": {"epochs": 4, "batch_size": 4, "lr": {"values": [0.001, 0.01]}},
        "sweep": {"trials": 4, "reduction_factor": 2, "seed": 1, "max_concurrent": 2},
        "tracking": {"wandb": {"mode": "off"}},
    }


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from kdsweep.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def events_until(process: subprocess.Popen[str], num_epochs: int) -> None:
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += json.loads(line).get("event") == "epoch"
        if seen >= num_epochs:
            return
    raise AssertionError("the sweep ended before it could be killed")


def epochs_trained(log: Path) -> list[int]:
    return [int(n) for n in re.findall(r"  epoch (\d+)/\d+  ", log.read_text())]


def test_a_real_sweep_killed_twice_trains_no_finished_epoch_again(
    tiny_data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(json.dumps(make_space(tiny_data, tmp_path / "cache")))
    out = tmp_path / "experiments"
    process = start("run", file, "--out", out, "--json")
    events_until(process, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    experiment = Experiment.open(out / "latest")
    process = start("resume", experiment.path, "--json")
    events_until(process, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    process = start("resume", experiment.path, "--json")
    process.communicate(timeout=240)
    assert process.returncode == 0

    events = read_plain(experiment.ledger)
    reported = Counter((e["trial"], e["epoch"]) for e in events if e["event"] == "epoch")
    assert set(reported.values()) == {1}
    ends = Counter(e["trial"] for e in events if e["event"] == "epoch" and e["stop"])
    assert ends == Counter(range(6))  # 4 trials and the controls of 2 students
    # Every kill interrupts at most one epoch of each running trial; a log line is written when
    # an epoch's checkpoint is in place, so an epoch that stands twice was trained twice. One that
    # does not stand there was trained too: a kill fell between its checkpoint and its line.
    for number in range(6):
        trained = epochs_trained(experiment.trial(number).log)
        assert len(trained) == len(set(trained))
        in_ledger = {e for t, e in reported if t == number}
        assert set(trained) <= in_ledger
        assert len(in_ledger) - len(trained) <= 2
    starts = [e for e in events if e["event"] == "start"]
    known: dict[int, int] = {}
    for event in events:
        if event["event"] == "epoch":
            known[event["trial"]] = event["epoch"]
        elif event in starts:
            assert event["epoch"] >= known.get(event["trial"], 0)
    assert len([e for e in events if e["event"] == "session"]) == 3

    results = kdsweep.load(experiment.path)
    assert results.summary["state"] == "done"
    assert len(results.trials) == 6
    gains = results.gains.set_index("trial")
    trials = results.trials.set_index("number")
    values = {(e["trial"], e["epoch"]): e["value"] for e in events if e["event"] == "epoch"}
    for number in trials.index[trials["kind"] == "search"]:
        last = known[number]
        control = int(trials.loc[number, "control"])
        best = max(values[number, e] for e in range(1, last + 1))
        best_control = max(values[control, e] for e in range(1, last + 1))
        assert gains.loc[number, "gain"] == pytest.approx(best - best_control)
    # Measured once, whatever was killed since.
    assert results.epochs.groupby("trial")["student/latency_ms"].nunique().tolist() == [1] * 6
    assert (trials[["macs_g", "latency_ms", "latency_p95_ms", "inference_mb"]] > 0).all(axis=None)
    for number in range(6):
        folder = experiment.trial(number)
        assert (folder.best / "student.safetensors").is_file()
        assert not folder.checkpoint.exists()
        confusion = json.loads(folder.confusion.read_text())
        assert confusion["epoch"] == trials.loc[number, "best_epoch"]
        counts = np.array(confusion["student"])
        ious = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
        assert ious.mean() == pytest.approx(trials.loc[number, "value"])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_run_load_and_train_from_python(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = make_space(tiny_data, tmp_path / "cache")
    space = load_space(tree, ["sweep.trials=1", "train.epochs=1"])
    assert isinstance(space, Space)
    results = kdsweep.run(space)
    assert results.summary["state"] == "done"
    again = kdsweep.load("experiments/latest")
    assert again.trials["value"].tolist() == results.trials["value"].tolist()

    number = int(results.ranked()["number"].iloc[0])
    job = Path("experiments/latest/trials") / f"{number:04d}" / "job.yaml"
    training = kdsweep.train(job, num_threads=1)
    value = results.trials.set_index("number").loc[number, "value"]
    assert training.best.metrics["student/miou"] == pytest.approx(value)
    assert (training.folder / "best" / "student.safetensors").is_file()


@pytest.mark.timeout(900)
def test_a_sweep_of_so_many_hours_chooses_for_them_and_ends_in_them(
    tiny_data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(json.dumps(make_space(tiny_data, tmp_path / "cache")))
    out = tmp_path / "experiments"
    arguments = ("run", file, "--out", out, "--json", "--set", "sweep.trials=3")
    hopeless = start(*arguments, "--hours", "0.001")
    hopeless.communicate()
    assert hopeless.returncode == 2
    assert not out.exists()

    process = start(*arguments, "--hours", "0.5")
    lines = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0
    notes = [line["text"].strip() for line in lines if line["event"] == "note"]
    assert any("30 min: 3 trials of 4 epochs" in note for note in notes)
    assert lines[-1]["reason"] == "done"
    assert lines[-1]["asked_hours"] == 0.5
    assert lines[-1]["hours"] < lines[-1]["used_hours"] <= 0.5 * 1.05
    (experiment,) = (path for path in out.iterdir() if not path.is_symlink())
    header, *_, last = read_plain(Experiment(experiment).ledger)
    assert header["hours"]["asked"] == 0.5
    assert header["students_per_teacher"] >= 1
    assert last["event"] == "done"
