"""``kdsweep plan`` and ``kdsweep run --dry-run`` as a user meets them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_job import make_job

import kdsweep
from kdsweep.cli import main
from kdsweep.config import dump_yaml, load_space
from kdsweep.errors import ConfigError
from kdsweep.sweep.preview import preview

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def space(tiny_data: Path, tmp_path: Path) -> Path:
    tree = make_job(tiny_data, tmp_path).model_dump(mode="json", exclude_none=True)
    tree["distill"]["pixel_kl"]["weight"] = {"values": [0.5, 1.0, 2.0]}
    tree["train"]["lr"] = {"min": 0.001, "max": 0.1}
    tree["sweep"] = {"trials": 6, "students_per_teacher": 2, "controls": "shared"}
    path = tmp_path / "space.yaml"
    path.write_text(dump_yaml(tree))
    return path


def test_a_plan_says_what_is_tried_first(run: Run, space: Path) -> None:
    more = ("--set", "sweep.try_first=[{distill.pixel_kl.weight: 2.0, train.lr: 0.01}]")
    code, out, _ = run("plan", space, "--no-measure", *more)
    assert code == 0
    assert "tried first, 1: distill.pixel_kl.weight = 2.0, train.lr = 0.01" in " ".join(out.split())
    code, out, _ = run("plan", space, "--no-measure", "--json", *more)
    assert json.loads(out)["try_first"] == [{"distill.pixel_kl.weight": 2.0, "train.lr": 0.01}]


@pytest.mark.slow
def test_a_dry_run_measures_a_sweep_and_leaves_nothing_behind(
    run: Run, space: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("run", space, "--dry-run", "--json", "--set", "sweep.max_concurrent=1")
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before
    found = json.loads(out)
    assert (found["trials"], found["controls"]) == (6, {"kind": "shared", "number": 1})
    assert {row["name"]: row["shared"] for row in found["ranges"]} == {
        "distill.pixel_kl.weight": False,
        "train.lr": True,
    }
    assert found["data"][0]["num_train"] == 8
    cost = found["jobs"][1]["cost"]
    assert (cost["num_batches"], cost["num_val"]) == (2, 4)
    asked = next(row for row in found["estimates"] if row["asked"])
    assert asked["students_per_teacher"] == 2
    assert asked["cohorts"] == 3
    epoch_s = 2 * (cost["batch_s"] + cost["teacher_s"] + 2 * cost["student_s"])
    # Three cohorts of three epochs; starting, controls, validation and checkpoints come on top.
    assert asked["complete"][1]["slot_hours"] > 3 * 3 * epoch_s / 3600
    assert asked["asha"][1]["slot_hours"] < asked["complete"][1]["slot_hours"]


def test_a_plan_without_measuring_says_what_would_be_trained(run: Run, space: Path) -> None:
    code, out, _ = run("plan", space, "--no-measure", "--slots", "3")
    assert code == 0
    assert "6 trials and 1 control (shared) · 3 epochs" in out
    assert "ASHA stops weak trials after epoch 1" in out
    assert "2 trials share a teacher" in out
    assert "3 cohorts at a time" in out
    assert "Nothing was measured" in out
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("command", [["plan"], ["run", "--dry-run"]])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("student.encoder=resnet81", "student.encoder: unknown encoder"),
        ("distill.hint.taps=[encoder.9]", "has no such tap"),
        ("data.path=nowhere", "is not there"),
        ("resources.cpus_per_trial=4096", "fits on none of the machines"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    run: Run, space: Path, command: list[str], change: str, says: str
) -> None:
    code, out, err = run(*command, space, "--set", change)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err
    assert list(Path.cwd().iterdir()) == []


def test_a_dry_run_for_a_cluster_says_what_it_plans_for(
    run: Run, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kdsweep.api.plan", lambda *_, **__: preview(load_space(space), measure=False)
    )
    code, out, err = run("run", space, "--dry-run", "--address", "auto")
    assert code == 0
    assert "a plan is for this machine" in err
    assert "Nothing was measured" in out


def test_from_python_a_plan_has_the_same_words(space: Path) -> None:
    found = kdsweep.plan(space, measure=False, overrides=["sweep.trials=4"])
    assert (found.num_trials, found.num_controls, found.epochs) == (4, 1, (3, 3))
    with pytest.raises(ConfigError, match="not loaded yet"):
        kdsweep.plan(found.space, overrides=["sweep.trials=4"])
