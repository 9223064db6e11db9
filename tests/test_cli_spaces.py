"""The search spaces that come with kdsweep, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_run import Run

from kdsweep.config import load_space

SHIPPED = Path(__file__).parent.parent / "search_spaces"


def test_shipped_spaces_are_listed_with_question_and_cost(kdsweep: Run) -> None:
    done = kdsweep("spaces", "--json")
    assert done.returncode == 0
    found = {one["name"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert set(found) == {path.stem for path in SHIPPED.glob("*.yaml")}
    for name, one in found.items():
        assert one["question"].endswith("?"), name
        assert one["cost"].endswith("."), name
        assert "#" not in one["question"] + one["cost"]
        assert Path(one["path"]).read_text() == (SHIPPED / f"{name}.yaml").read_text()
    shown = " ".join(kdsweep("spaces").stdout.split())
    assert "which pairs of teacher and student deserve a closer look?" in shown
    assert "cost: five minutes on two CPU cores; no download, no GPU." in shown


def test_a_space_by_name_is_the_space_in_its_file(tmp_path: Path, kdsweep: Run) -> None:
    named, given = load_space("backbones"), load_space(SHIPPED / "backbones.yaml")
    assert named.text == given.text == (SHIPPED / "backbones.yaml").read_text()
    assert named.tree == given.tree
    assert (named.name, named.sweep) == (given.name, given.sweep)
    done = kdsweep("plan", "backbones", "--no-measure", "--json")
    assert json.loads(done.stdout)["trials"] == 6
    assert kdsweep("validate", "seed").stdout.startswith("seed: valid, one job")
    assert "name: backbones" in kdsweep("wandb", "export", "backbones").stdout
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_shipped_space_names_its_file(kdsweep: Run) -> None:
    done = kdsweep("train", "losses")
    assert done.returncode == 2
    assert "search_spaces/losses.yaml:" in done.stderr
    assert "this is a search space, not a job" in done.stderr


@pytest.mark.parametrize("file", ["backbones", "backbones.yaml"])
def test_a_file_that_is_there_goes_before_a_shipped_space(
    kdsweep: Run, tmp_path: Path, file: str
) -> None:
    (tmp_path / file).write_text("data: {source: x}\ntrain: {epochs: 0}\n")
    done = kdsweep("validate", "backbones")
    assert done.returncode == 2
    assert f"{file}:2: train.epochs" in done.stderr


@pytest.mark.parametrize("command", ["run", "plan", "wandb export"])
def test_without_a_space_the_shipped_ones_are_named(kdsweep: Run, command: str) -> None:
    done = kdsweep(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: no search space was named" in done.stderr
    assert "backbones, backbones_large, deploy, few_labels" in done.stderr
    assert f"`kdsweep {command} backbones`" in done.stderr
    # In one error, not as words on how the command is used.
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("few_label", "did you mean few_labels?"), ("xyzzy", "a space that comes with kdsweep: back")],
)
def test_a_near_miss_names_the_nearest(kdsweep: Run, wrong: str, hint: str) -> None:
    done = kdsweep("run", wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {wrong}: there is no such file" in done.stderr
    assert hint in done.stderr


def test_a_space_is_copied_once(kdsweep: Run, tmp_path: Path) -> None:
    text = (SHIPPED / "losses.yaml").read_text()
    (tmp_path / "mine").mkdir()
    for options, file in (
        ([], "losses.yaml"),
        (["--to", "mine"], "mine/losses.yaml"),
        (["--to", "mine/other.yaml"], "mine/other.yaml"),
    ):
        done = kdsweep("spaces", "--copy", "losses", *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}\n", "")
        assert (tmp_path / file).read_text() == text
        (tmp_path / file).write_text("changed")
        done = kdsweep("spaces", "--copy", "losses", *options)
        assert done.returncode == 2
        assert f"{file}: there already, and nothing is overwritten" in done.stderr
        assert (tmp_path / file).read_text() == "changed"
    done = kdsweep("spaces", "--copy", "loses")
    assert done.returncode == 2
    assert "did you mean `losses`?" in done.stderr
    assert kdsweep("spaces", "--to", "mine").returncode == 2
    assert kdsweep("spaces", "--copy", "losses", "--to", "no/where.yaml").returncode == 2
