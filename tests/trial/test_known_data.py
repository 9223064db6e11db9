"""A training that was started goes on with the data that it was started with, or says so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import pytest
from tiny_job import make_job, write_data

import kdsweep
from kdsweep.cli import main
from kdsweep.config import dump_yaml
from kdsweep.errors import DataError
from kdsweep.ledger import TrialFolder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return write_data(root)


def _job(data: Path, tmp_path: Path, **train: object) -> kdsweep.config.Job:
    return make_job(
        data,
        tmp_path,
        teacher=None,
        distill={},
        train={"epochs": 1, "batch_size": 4, "lr": 3e-3, **train},
    )


def add_frames(data: Path) -> None:
    for kind in ("images", "masks"):
        for new in ("100", "101"):
            shutil.copyfile(data / kind / "000.png", data / kind / f"{new}.png")


def test_frames_added_before_a_training_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        return int(ended.value.code or 0)

    out = tmp_path / "out"
    job = _job(data, tmp_path)
    kdsweep.train(job, out=out)
    card = json.loads((out / "best" / "student.json").read_text())["data"]
    folder = TrialFolder(out)
    assert json.loads(folder.data_used.read_text()) == [card]
    assert card["short"] == f"folder 8+4, {card['fingerprint'][:4]}"
    kept = json.loads(folder.data(card["fingerprint"]).read_text())
    assert {name: len(frames) for name, frames in kept["splits"].items()} == {"train": 8, "val": 4}

    add_frames(data)
    before = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}
    with pytest.raises(DataError) as caught:
        kdsweep.train(job, out=out)
    message = str(caught.value)
    assert message.startswith("the data are not those that this training was trained on\n")
    assert card["short"] in message
    assert "2 frames added (100, 101)" in message
    assert "--accept-changed-data" in message
    assert {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))} == before

    (tmp_path / "job.yaml").write_text(dump_yaml(job))
    command = ["train", str(tmp_path / "job.yaml"), "--out", str(out)]
    assert run(*command) == 2
    assert "2 frames added" in capsys.readouterr().err
    assert run("evaluate", str(out)) == 2
    assert "2 frames added" in capsys.readouterr().err
    assert run("postprocess", str(out)) == 2
    assert "2 frames added" in capsys.readouterr().err
    assert run("evaluate", str(out), "--accept-changed-data", "--json") == 0
    told = capsys.readouterr()
    assert "2 frames added" in told.err
    assert json.loads(told.out)["data"]["short"] != card["short"]
    assert run(*command, "--accept-changed-data") == 0
    told = capsys.readouterr()
    assert "2 frames added" in told.err
    used = json.loads(folder.data_used.read_text())
    assert used[0] == card
    assert used[1]["short"] in told.err
    assert run(*command) == 0  # nothing has changed since


@pytest.mark.slow
def test_the_best_epoch_on_other_data_counts_no_more(data: Path, tmp_path: Path) -> None:
    job, out = _job(data, tmp_path, epochs=2), tmp_path / "out"
    reports = iter(kdsweep.trial.run_job(job, TrialFolder(out), device="cpu"))
    next(reports)
    reports.close()  # type: ignore[attr-defined]
    card = out / "best" / "student.json"
    first = json.loads(card.read_text())
    # All masks of one class: no later epoch can score as high on what they were.
    for path in (data / "masks").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), 2 - mask.clip(max=2))
    list(kdsweep.trial.run_job(job, TrialFolder(out), device="cpu"))
    last = json.loads(card.read_text())
    assert last["epoch"] == 2
    assert last["data"]["fingerprint"] != first["data"]["fingerprint"]


def test_with_other_classes_no_network_goes_on(data: Path, tmp_path: Path) -> None:
    job, out = _job(data, tmp_path), tmp_path / "out"
    kdsweep.train(job, out=out)
    (data / "classes.yaml").write_text("names: [red, green, blue, grey]\n")
    with pytest.raises(DataError, match=r"1 class added \(grey\)") as caught:
        kdsweep.train(job, out=out, accept_changed_data=True)
    assert "--out with a new folder" in str(caught.value)


def test_a_training_without_a_record_goes_on(data: Path, tmp_path: Path) -> None:
    job, out = _job(data, tmp_path), tmp_path / "out"
    kdsweep.train(job, out=out)
    shutil.rmtree(out / "data")
    card = out / "best" / "student.json"
    plain = json.loads(card.read_text())
    del plain["data"]
    card.write_text(json.dumps(plain))
    with pytest.warns(UserWarning, match="not written down which data this training"):
        kdsweep.train(job, out=out)
    card.write_text(json.dumps(plain))
    with pytest.warns(UserWarning, match="not written down which data this student"):
        kdsweep.evaluate(out)
