"""Copies of experiments in object stores: a real S3 server on this machine, and folders."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from s3_server import s3_server

from kdsweep.errors import ExperimentError, MachineError
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.ledger.depot import files_in
from kdsweep.ledger.layout import Experiment, TrialFolder
from kdsweep.ledger.object_store import (
    ObjectStoreCopy,
    TakenOverError,
    check_writable,
    experiments_at,
    names_in,
    open_store,
    uri_of,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server; the address of a bucket."""
    with s3_server() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.env.items():
            patch.setenv(name, value)
        yield found.uri


@pytest.fixture(params=["file", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address of an experiment that is not there yet."""
    if request.param == "file":
        return f"file://{tmp_path}/store/run"
    return f"{request.getfixturevalue('server')}/{uuid.uuid4().hex}/run"


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    made = Experiment(tmp_path / "here" / "run")
    made.trials.mkdir(parents=True)
    made.space_yaml.write_text("name: run\n")
    made.spec_json.write_text("{}")
    made.ledger.write_text("")
    return made


def train(experiment: Experiment, trial: int, epoch: int) -> None:
    """Leave what an epoch of a trial leaves, then its line."""
    folder = TrialFolder(experiment.trial(trial).path).create()
    folder.best.mkdir(exist_ok=True)
    (folder.best / "student.safetensors").write_bytes(os.urandom(2000))
    (folder.best / "student.json").write_text(json.dumps({"epoch": epoch}))

    def write(path: Path) -> None:
        (path / "state").write_text(f"{trial} {epoch}")

    CheckpointFolder(folder.checkpoint).save(epoch, write)
    with experiment.ledger.open("a") as ledger:
        ledger.write(json.dumps({"trial": trial, "epoch": epoch}) + "\n")


def content(folder: Path) -> dict[str, bytes]:
    names = [*files_in(folder / "trials"), "space.yaml", "spec.json", "ledger.jsonl"]
    return {
        name: ((folder / "trials" / name) if "/" in name else folder / name).read_bytes()
        for name in names
    }


def test_another_machine_goes_on_with_the_copy(
    uri: str, experiment: Experiment, tmp_path: Path
) -> None:
    first = ObjectStoreCopy(uri)
    assert not first.exists
    first.claim()
    for epoch in range(1, 5):
        for trial in (0, 1):
            train(experiment, trial, epoch)
        assert first.push(experiment.path) > 0
    assert first.push(experiment.path) == 0
    first.release()
    second, elsewhere = ObjectStoreCopy(uri), Experiment(tmp_path / "there" / "run")
    second.claim()
    second.fetch(elsewhere.path)
    assert content(elsewhere.path) == content(experiment.path)
    assert second.push(elsewhere.path) == 0
    train(elsewhere, 1, 5)
    assert 0 < second.push(elsewhere.path, ["0001"]) < 5000
    first.fetch(experiment.path)
    assert (experiment.trial(1).best / "student.json").read_text() == '{"epoch": 5}'
    assert experiment.ledger.read_bytes() == elsewhere.ledger.read_bytes()
    assert experiments_at(uri.rpartition("/")[0]) == ["run"]


def test_reports_fetch_no_checkpoints(uri: str, experiment: Experiment, tmp_path: Path) -> None:
    copy = ObjectStoreCopy(uri)
    copy.claim()
    train(experiment, 0, 1)
    copy.push(experiment.path)
    copy.fetch(tmp_path / "results", "results")
    copy.fetch(tmp_path / "ledger", "ledger")
    names = set(files_in(tmp_path / "results" / "trials"))
    assert names == {"0000/best/student.json", "0000/best/student.safetensors"}
    assert not list(files_in(tmp_path / "ledger" / "trials"))
    assert (tmp_path / "ledger" / "ledger.jsonl").read_bytes() == experiment.ledger.read_bytes()


def test_the_ledger_tells_of_nothing_that_is_not_there(
    uri: str, experiment: Experiment, tmp_path: Path
) -> None:
    copy = ObjectStoreCopy(uri)
    copy.claim()
    train(experiment, 0, 1)
    size = experiment.ledger.stat().st_size
    train(experiment, 1, 1)  # while the first one is on its way
    copy.push(experiment.path, ["0000"], size)
    copy.fetch(tmp_path / "seen")
    assert len((tmp_path / "seen" / "ledger.jsonl").read_text().splitlines()) == 1
    with experiment.ledger.open("a") as ledger:
        ledger.write('{"half')
    copy.push(experiment.path)
    copy.fetch(tmp_path / "seen")
    assert len((tmp_path / "seen" / "ledger.jsonl").read_text().splitlines()) == 2


def test_two_drivers_cannot_run_at_once(
    uri: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ObjectStoreCopy(uri), ObjectStoreCopy(uri)
    first.claim()
    with pytest.raises(ExperimentError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        second.claim(wait=False)
    # Its lease runs out: it was cut off, and does not know.
    monkeypatch.setattr("kdsweep.ledger.object_store.time.time", lambda: time.monotonic() + 1e12)
    second.claim(wait=False)
    monkeypatch.undo()
    train(experiment, 0, 1)
    second.push(experiment.path)
    with pytest.raises(TakenOverError):
        first.renew()
    with pytest.raises(TakenOverError):
        first.push(experiment.path)


def test_a_dead_process_of_this_machine_is_not_waited_for(uri: str) -> None:
    code = (
        "import sys; from kdsweep.ledger.object_store import ObjectStoreCopy; "
        "ObjectStoreCopy(sys.argv[1]).claim()"
    )
    subprocess.run([sys.executable, "-c", code, uri], check=True, timeout=120)
    ObjectStoreCopy(uri).claim(wait=False)


@pytest.mark.parametrize("fails_at", range(1, 8))
def test_what_a_broken_off_push_had_sent_is_in_the_next_one(
    uri: str, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    copy = ObjectStoreCopy(uri)
    copy.claim()
    for trial in (0, 1):
        train(experiment, trial, 1)
    num, real = [0], obstore.put

    def put(*given: Any, **options: Any) -> Any:
        num[0] += 1
        if num[0] == fails_at:
            raise OSError("no route to host")
        return real(*given, **options)

    monkeypatch.setattr(obstore, "put", put)
    with pytest.raises(OSError, match="no route"):
        copy.push(experiment.path)
    copy.push(experiment.path)
    copy.fetch(tmp_path / "there")
    assert content(tmp_path / "there") == content(experiment.path)


def test_a_commit_whose_answer_was_lost_is_no_other_drivers(
    uri: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = ObjectStoreCopy(uri)
    real = obstore.put

    def put(store: Any, key: str, data: bytes, **options: Any) -> Any:
        if options:  # its answer is lost, and the client asks again
            real(store, key, data, **options)
        return real(store, key, data, **options)

    monkeypatch.setattr(obstore, "put", put)
    copy.claim(wait=False)
    train(experiment, 0, 1)
    assert copy.push(experiment.path) > 0
    copy.renew()


def test_objects_that_are_needed_no_more_are_removed(uri: str, experiment: Experiment) -> None:
    copy = ObjectStoreCopy(uri)
    copy.claim()
    for epoch in range(1, 30):
        train(experiment, 0, epoch)
        copy.push(experiment.path)
    names = list(names_in(open_store(uri), ""))
    # Two checkpoints, two files of the best, all of the last two states; and the ledger's pieces.
    assert len(names) < 29 + 25


def test_pieces_of_the_ledger_are_put_together(
    uri: str, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdsweep.ledger.object_store._MOST_PIECES", 3)
    copy = ObjectStoreCopy(uri)
    copy.claim()
    for epoch in range(1, 12):
        train(experiment, 0, epoch)
        copy.push(experiment.path)
        copy.fetch(tmp_path / "seen", "ledger")
        seen = (tmp_path / "seen" / "ledger.jsonl").read_bytes()
        assert seen == experiment.ledger.read_bytes()


def test_sweeps_that_went_on_apart_are_not_mixed(
    uri: str, experiment: Experiment, tmp_path: Path
) -> None:
    copy = ObjectStoreCopy(uri)
    copy.claim()
    train(experiment, 0, 1)
    copy.push(experiment.path)
    other = Experiment(tmp_path / "other")
    copy.fetch(other.path)
    train(other, 1, 1)
    train(experiment, 0, 2)
    copy.push(experiment.path)
    with pytest.raises(ExperimentError, match="have gone on apart"):
        copy.fetch(other.path)
    # A folder that is ahead stays as it is: its driver could not send the rest.
    train(experiment, 0, 3)
    before = content(experiment.path)
    copy.fetch(experiment.path)
    assert content(experiment.path) == before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        ("gs:/bucket/a", "gs://bucket/a"),
        ("file:///nfs/a", "file:///nfs/a"),
        (Path("file:///nfs/a"), "file:///nfs/a"),
        ("experiments/latest", None),
        ("/data/experiments", None),
        ("C:/sweeps", None),
    ],
)
def test_addresses(text: str | Path, found: str | None) -> None:
    assert uri_of(text) == found


def test_a_place_that_cannot_be_written_is_said_at_once(server: str, tmp_path: Path) -> None:
    check_writable(f"{server}/prefix")
    check_writable(f"file://{tmp_path}/new")
    with pytest.raises(MachineError, match="nothing can be written there"):
        check_writable("s3://no-such-bucket-here/prefix")
    with pytest.raises(MachineError, match="not an address of an object store"):
        check_writable("ftp://host/prefix")
    with pytest.raises(ExperimentError, match="there is no such experiment"):
        Experiment.open(f"{server}/nothing/run")
    for look in (Experiment.open, experiments_at, lambda uri: ObjectStoreCopy(uri).claim()):
        with pytest.raises(MachineError, match="does not answer, or not as it should") as caught:
            look("s3://no-such-bucket-here/run")
        assert len(str(caught.value).splitlines()) == 2
