"""Artifacts on their way from a worker's own folder into the experiment's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdsweep.errors import KdsweepError
from kdsweep.ledger import depot as module
from kdsweep.ledger.atomic import new_directory
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.ledger.depot import Depot, LocalCopy, files_in, unit_of
from kdsweep.ledger.fence import FencedError, fenced
from kdsweep.ledger.layout import TrialFolder


@pytest.fixture(params=[1 << 20, 3])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", request.param)


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    folder = tmp_path / "experiment" / "trials"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def store(trials: Path) -> Iterator[Depot]:
    made = Depot(trials)
    yield made
    made.close()
    assert not list(trials.glob(".*"))


def copy_of(tmp_path: Path, store: Depot, attempt: str) -> tuple[LocalCopy, Path]:
    root = tmp_path / f"worker-{attempt}"
    copy = LocalCopy(root, store, "0003", attempt, ["0003", "0004"])
    copy.fetch()
    return copy, root


def train_an_epoch(root: Path, epoch: int) -> None:
    """Do in folders what a cohort of two does in an epoch."""
    for name in ("0003", "0004"):
        folder = TrialFolder(root / name)
        folder.best.mkdir(exist_ok=True)
        (folder.best / "student.safetensors").write_bytes(b"weights of %d" % epoch)
        (folder.best / "student.json").write_text(f"card of {epoch}")
        CheckpointFolder(folder.checkpoint).save(
            epoch, lambda path: (path / "state").write_bytes(b"own %d" % epoch) and None
        )
    first = TrialFolder(root / "0003")
    CheckpointFolder(first.cohort).save(
        epoch, lambda path: (path / "state").write_bytes(b"shared %d" % epoch) and None
    )
    with first.log.open("a") as log:
        log.write(f"epoch {epoch}\n")
    (first.path / "empty").touch()


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


@pytest.mark.usefixtures("_chunks")
def test_another_machine_goes_on_with_what_the_first_one_left(
    tmp_path: Path, store: Depot, trials: Path
) -> None:
    copy, root = copy_of(tmp_path, store, "1-a")
    for epoch in (1, 2, 3):
        train_an_epoch(root, epoch)
        assert copy.deliver() > 0
        for name in ("0003", "0004"):
            assert content(trials / name) == content(root / name)
    assert copy.deliver() == 0
    other, elsewhere = copy_of(tmp_path, store, "2-b")
    assert content(elsewhere / "0003") == content(root / "0003")
    assert other.deliver() == 0
    train_an_epoch(elsewhere, 4)
    other.deliver()
    assert (trials / "0003" / "log.txt").read_text() == "epoch 1\nepoch 2\nepoch 3\nepoch 4\n"
    kept = [
        path.name for path in CheckpointFolder(TrialFolder(trials / "0003").cohort).newest_first()
    ]
    assert kept == ["epoch-0004", "epoch-0003"]


def test_an_older_attempt_hands_over_nothing_more(
    tmp_path: Path, store: Depot, trials: Path
) -> None:
    copy, root = copy_of(tmp_path, store, "1-a")
    train_an_epoch(root, 1)
    copy.deliver()
    newer, elsewhere = copy_of(tmp_path, store, "2-b")
    train_an_epoch(root, 2)
    before = content(trials / "0003")
    with pytest.raises(FencedError, match="2-b has taken over"):
        copy.deliver()
    assert content(trials / "0003") == before
    train_an_epoch(elsewhere, 2)
    newer.deliver()
    assert content(trials / "0003") == content(elsewhere / "0003")


def test_what_only_half_arrived_is_nowhere(tmp_path: Path, store: Depot, trials: Path) -> None:
    copy, root = copy_of(tmp_path, store, "1-a")
    train_an_epoch(root, 1)
    copy.deliver()
    before = content(trials / "0003")
    store.stage("1-a", "0003/best/student.json", 0, b"half")
    assert content(trials / "0003") == before
    copy_of(tmp_path, store, "2-b")
    assert content(trials / "0003") == before


def test_the_shared_checkpoint_comes_last(
    tmp_path: Path, store: Depot, trials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[str] = []

    def noted(target: Path) -> Any:
        put.append(target.relative_to(trials).as_posix())
        return new_directory(target)

    monkeypatch.setattr(module, "new_directory", noted)
    copy, root = copy_of(tmp_path, store, "1-a")
    train_an_epoch(root, 1)
    copy.deliver()
    assert put[-3:] == [
        "0003/checkpoint/epoch-0001",
        "0004/checkpoint/epoch-0001",
        "0003/cohort/epoch-0001",
    ]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "0003/../../x", ""])
def test_nothing_is_put_outside(store: Depot, trials: Path, name: str) -> None:
    with pytest.raises(KdsweepError, match="not the name of an artifact"):
        store.stage("1-a", name, 0, b"x")
    with pytest.raises(KdsweepError, match="not the name of an artifact"):
        store.read(name, 0)


def test_nothing_that_a_link_leads_to_is_taken_away(
    tmp_path: Path, store: Depot, trials: Path
) -> None:
    store.begin("0003", "a", ["0003"])
    outside = tmp_path / "outside"
    (outside / "epoch-0001").mkdir(parents=True)
    (trials / "0003" / "checkpoint").symlink_to(outside)
    store.commit("0003", "a", [], ["0003/checkpoint/epoch-0001/tensors"])
    assert (outside / "epoch-0001").is_dir()


def test_units() -> None:
    assert unit_of("0003/best/student.json") == "0003/best"
    assert unit_of("0003/checkpoint/epoch-0002/state") == "0003/checkpoint/epoch-0002"
    assert unit_of("0003/frames/00001-image.png") == "0003/frames/00001-image.png"
    assert unit_of("0003/log.txt") == "0003/log.txt"


def test_behind_a_newer_fence_nothing_is_put_in_place(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "0001").create()
    checkpoints = CheckpointFolder(folder.checkpoint)

    def write(path: Path) -> None:
        (path / "state").write_text("x")

    with fenced(folder.fence, "1-a"):
        checkpoints.save(1, write)
        folder.fence.write_text("2-b")
        with pytest.raises(FencedError, match="2-b has taken over this trial; 1-a"):
            checkpoints.save(2, write)
    assert [path.name for path in checkpoints.newest_first()] == ["epoch-0001"]
    assert [path.name for path in folder.checkpoint.iterdir()] == ["epoch-0001"]
    checkpoints.save(3, write)
