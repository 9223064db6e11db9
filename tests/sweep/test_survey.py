"""What a machine of a cluster must have before it gets a trial."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from simulation import make_space

from kdsweep.ledger import Experiment
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.provenance import note_machines
from kdsweep.sweep.ray import survey
from kdsweep.sweep.ray.survey import Seen, Word, left_out, look, other_data, versions_here
from kdsweep.sweep.resources import Node, plan, slots_of

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def word(tmp_path: Path) -> Word:
    return Word.leave(tmp_path)


def found(word: Word, versions: dict[str, str] | None = None, gpus: int = 0) -> dict[str, Any]:
    jobs = [json.dumps(job.model_dump(mode="json")) for job in make_space().jobs_to_check()]
    return look(word, "a", versions or versions_here(), gpus, "fake_training", jobs)


def test_a_machine_that_has_everything(word: Word) -> None:
    assert found(word) == {"problem": None, "sees": True, "data": {}, "gpus": []}
    assert word.is_answered("a")
    assert not word.is_answered("b")


def test_gpus_of_each_machine_are_kept_though_it_leaves(tmp_path: Path) -> None:
    experiment = Experiment.create(tmp_path, "pairs")
    note_machines(experiment, {"node-a": ["NVIDIA A10, 23028 MiB, 560.1"]})
    assert not experiment.environment_json.exists()
    write_json(experiment.environment_json, {"gpus": []})
    note_machines(experiment, {"node-a": ["NVIDIA A10, 23028 MiB, 560.1"]})
    note_machines(experiment, {"node-b": []})
    known = json.loads(experiment.environment_json.read_text())
    assert known["machines"] == {"node-a": ["NVIDIA A10, 23028 MiB, 560.1"], "node-b": []}


def test_a_folder_of_the_same_name_is_not_the_same_folder(tmp_path: Path, word: Word) -> None:
    word.path.write_text("of another sweep")
    assert found(word)["sees"] is False
    assert not word.is_answered("a")
    shutil.rmtree(tmp_path)
    assert found(word)["sees"] is False


def test_a_folder_that_cannot_be_written_is_not_shared(
    word: Word, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey.os, "access", lambda path, mode: False)
    assert found(word)["sees"] is False


@pytest.mark.parametrize(
    ("name", "there", "problem"),
    [
        ("kdsweep", "0.0.1", "kdsweep"),
        ("torch", "1.0", "torch"),
        ("Python", "3.4.9", "Python"),
        ("Python", "{here}.99", None),
    ],
)
def test_other_versions(word: Word, name: str, there: str, problem: str | None) -> None:
    here = versions_here()
    version = there.format(here=".".join(here["Python"].split(".")[:2]))
    told = found(word, {**here, name: version})["problem"]
    assert told == (None if problem is None else f"{problem} {here[name]}, not {version}")


def test_little_space(word: Word, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 200_000_000))
    assert "0.2 GB are free" in found(word)["problem"]


def test_gpus_that_torch_does_not_see(word: Word) -> None:
    assert found(word, gpus=64)["problem"] == "Ray says it has 64 GPUs, torch sees 0"


def test_data_that_are_missing(word: Word, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NO_DATA", "no such folder: /data")
    assert found(word)["problem"] == "no such folder: /data"


def test_each_machine_that_lacks_something_is_named() -> None:
    said: list[str] = []
    left_out([Seen(Node("a", 1), None), Seen(Node("b", 1), "no data")], said.append)
    assert said == ["warning: b gets no trials: no data"]


def test_other_data_on_another_machine() -> None:
    lacking = Seen(Node("host-0", 1), "no disk", data={"s": "cccc3"})
    first = Seen(Node("host-1", 1), None, data={"s": "aaaa1"})
    assert other_data({"s": "bbbb2"}, [lacking]) is None
    assert other_data({"s": "aaaa1"}, [lacking, first]) is None
    told = other_data({"s": "bbbb2"}, [lacking, first])
    assert told == "its data are others: fingerprint bbbb there, aaaa on host-1"


def test_slots_follow_the_machines() -> None:
    small, large = Node("a", 2), Node("b", 8)
    first = plan([small], make_space().resources)
    assert (first.slots, first.cpus_per_trial) == (2, 1)
    assert slots_of([small, large], first.cpus_per_trial, 0.0) == 10
    assert slots_of([small, large], first.cpus_per_trial, 0.0, 4) == 4
    assert slots_of([], 1, 0.0) == 0
