"""A sweep whose copy in an object store outlives its machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from simulation import SPACE, Simulation, make_space

pytest.importorskip("obstore")

from kdsweep.ledger.object_store import ObjectStoreCopy
from kdsweep.sweep import storage as module
from kdsweep.sweep.storage import StorageListener, copy_of, note_copy


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path / "here", make_space(sweep={"trials": 3, "scheduler": "none"}))


def listener(simulation: Simulation, copy: ObjectStoreCopy, said: list[str]) -> StorageListener:
    return StorageListener(copy, simulation.experiment, said.append, lambda: said.append("lost"))


def claimed(tmp_path: Path) -> ObjectStoreCopy:
    copy = ObjectStoreCopy(f"file://{tmp_path}/store/run")
    copy.claim()
    return copy


def test_all_of_it_is_there_at_the_end(simulation: Simulation, tmp_path: Path) -> None:
    said: list[str] = []
    copy = claimed(tmp_path)
    simulation.run()
    listening = listener(simulation, copy, said)
    listening.close()
    assert said == [f"storage:    a copy at {copy.uri}", f"storage:    all of it is at {copy.uri}"]
    copy.fetch(tmp_path / "there")
    ledger = simulation.experiment.ledger.read_bytes()
    assert (tmp_path / "there" / "ledger.jsonl").read_bytes() == ledger


def test_a_store_that_does_not_answer_stops_nothing(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUSH_SECONDS", 0.05)
    said: list[str] = []
    copy = claimed(tmp_path)
    simulation.run()
    real, fails = copy.push, [True]

    def push(*given: Any) -> int:
        if fails[0]:
            raise OSError("no route to host")
        return real(*given)

    monkeypatch.setattr(copy, "push", push)
    listening = listener(simulation, copy, said)
    deadline = time.monotonic() + 20
    while not any("does not answer" in line for line in said):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    fails[0] = False
    while not any("answers again" in line for line in said):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    listening.close()
    assert said[1] == f"warning: {copy.uri} does not answer, tried again: no route to host"
    assert said[-1] == f"storage:    all of it is at {copy.uri}"


def test_what_could_not_be_sent_is_said(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.0)
    said: list[str] = []
    copy = claimed(tmp_path)
    simulation.run()

    def push(*given: Any) -> int:
        raise OSError("no route to host")

    monkeypatch.setattr(copy, "push", push)
    listener(simulation, copy, said).close()
    assert f"not all of this sweep is at {copy.uri}: no route to host" in said[-1]
    assert f"kdsweep resume {simulation.experiment.path} sends the rest" in said[-1]


def test_the_end_waits_for_a_store_until_somebody_wants_to_leave(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUSH_SECONDS", 0.05)
    monkeypatch.setattr(module, "LEAVING_SECONDS", 0.1)
    said: list[str] = []
    copy = claimed(tmp_path)
    simulation.run()
    pushes: list[Any] = []

    def push(*given: Any) -> int:
        pushes.append(given)
        raise OSError("no route to host")

    monkeypatch.setattr(copy, "push", push)
    note = said.append
    listening = StorageListener(
        copy,
        simulation.experiment,
        note,
        lambda: None,
        is_leaving=lambda: len(pushes) > 3,
    )
    listening.close()
    waiting = [line for line in said if "waiting for it, up to 10 min (" in line]
    assert len(waiting) == 1
    assert "not all of this sweep is at" in said[-1]


def test_who_was_taken_over_leaves(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUSH_SECONDS", 0.05)
    said: list[str] = []
    first = claimed(tmp_path)
    first.release()
    simulation.run()
    claimed(tmp_path).push(simulation.experiment.path)
    listening = listener(simulation, first, said)
    deadline = time.monotonic() + 20
    while "lost" not in said:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    listening.close()
    assert "another driver has taken over" in said[-1]


def test_the_address_is_kept_in_the_experiment(simulation: Simulation) -> None:
    assert copy_of(simulation.experiment) is None
    note_copy(simulation.experiment, "s3://bucket/run")
    assert copy_of(simulation.experiment) == "s3://bucket/run"


def start(verb: str, place: str, *more: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("sweep_process.py")
    return subprocess.Popen(
        [sys.executable, str(script), verb, place, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def epochs_in(ledger: Path) -> list[tuple[int, int]]:
    """Trial and epoch of each report."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [(e["trial"], e["epoch"]) for e in lines if e["event"] == "epoch"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_whose_machine_is_gone_goes_on_from_its_copy(tmp_path: Path) -> None:
    tree = {**SPACE, "teacher": {"encoder": "resnet34", "options": {"seconds": 0.5}}}
    tree |= {"sweep": {"trials": 3, "scheduler": "none", "controls": "none"}}
    space = tmp_path / "space.json"
    space.write_text(json.dumps(tree))
    store = f"file://{tmp_path}/store"
    process = start("run", str(tmp_path / "here"), str(space), f'storage="{store}"')
    assert process.stdout is not None
    for line in process.stdout:
        if '"epoch": 5' in line:
            break
    time.sleep(module.PUSH_SECONDS + 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (gone,) = (tmp_path / "here").glob("2*")
    known = (gone / "ledger.jsonl").read_text().count('"event": "epoch"')
    shutil.rmtree(tmp_path / "here")
    copy = ObjectStoreCopy(f"{store}/{gone.name}")
    copy.fetch(tmp_path / "before", "ledger")
    sent = epochs_in(tmp_path / "before" / "ledger.jsonl")
    assert len(sent) >= 5
    there = json.dumps(str(tmp_path / "there"))
    again = start("resume", f"{store}/{gone.name}", f"experiments={there}")
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0, said
    found = tmp_path / "there" / gone.name
    epochs = epochs_in(found / "ledger.jsonl")
    assert sorted(epochs) == [(trial, epoch) for trial in range(3) for epoch in range(1, 10)]
    assert len(epochs) >= known
    trained = Counter(
        (n, int(line.split()[0]))
        for n in range(3)
        for line in (found / "trials" / f"{n:04d}" / "trained.txt").read_text().splitlines()
    )
    # As far as the copy had them, no epoch was trained again.
    assert [trained[epoch] for epoch in sent] == [1] * len(sent)
    assert len(trained) == 27
    copy.fetch(tmp_path / "seen", "ledger")
    ledger = (found / "ledger.jsonl").read_bytes()
    assert (tmp_path / "seen" / "ledger.jsonl").read_bytes() == ledger
