"""What a shell is told at the tab key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_run import Run

from kdsweep.cli import completion
from kdsweep.models.encoders import encoder_names


@pytest.fixture
def offered(kdsweep: Run, monkeypatch: pytest.MonkeyPatch) -> object:
    """What bash is offered behind a line, whose last word is being written."""

    def offer(line: str) -> list[str]:
        monkeypatch.setenv("_KDSWEEP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        done = kdsweep()
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return offer


def make_experiments(*names: str) -> None:
    for name in names:
        folder = Path("experiments") / name
        folder.mkdir(parents=True)
        (folder / "ledger.jsonl").touch()
    (Path("experiments") / "latest").symlink_to(names[-1])


def test_spaces_are_those_here_and_the_shipped_ones(offered, tmp_path: Path) -> None:
    (tmp_path / "loss.yaml").touch()
    (tmp_path / "losses.txt").touch()
    for command in ("run", "plan", "validate", "wandb export", "run --quiet"):
        assert offered(f"kdsweep {command} loss") == ["loss.yaml", "loss_weights", "losses"]
    assert offered("kdsweep spaces --copy loss") == ["loss_weights", "losses"]
    # bash goes on with files.
    assert offered("kdsweep run elsewhere/sp") == []


def test_experiments_are_offered_newest_first(offered) -> None:
    (Path("experiments") / "no-experiment").mkdir(parents=True)
    make_experiments("20261101-a", "20261102-b")
    there = ["experiments/latest", "experiments/20261102-b", "experiments/20261101-a"]
    for command in (
        *("report", "status", "resume", "extend", "confirm", "evaluate", "postprocess", "export"),
        *("dashboard", "compare", "predict", "wandb sync", "run backbones --prior", "compare x"),
    ):
        # Which experiment a command would take is not said here.
        assert offered(f"kdsweep {command} exp") == there, command
    assert offered("kdsweep report experiments/20261101") == [there[2]]


def test_losses_and_encoders_are_offered(offered) -> None:
    assert offered("kdsweep losses p") == ["pairwise", "pixel_kl"]
    assert offered("kdsweep encoders resnet1") == ["resnet101", "resnet152", "resnet18"]
    assert "tu-lcnet_035" in offered("kdsweep encoders tu-lcnet")


def test_encoders_read_from_source_are_those_that_there_are() -> None:
    assert completion.encoders("") == sorted(encoder_names())
    known = [name for name in encoder_names("tu-") if name.startswith("tu-")]
    assert completion.encoders("tu-") == sorted(known)


def test_a_shell_does_not_wait_for_torch(tmp_path: Path) -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('heavy:', *{'torch', 'ray', 'timm'} & set(sys.modules)))\n"
        "sys.argv = ['kdsweep']\n"
        "from kdsweep.cli import main; main()"
    )
    for line in ("kdsweep encoders res", "kdsweep losses p", "kdsweep run b", "kdsweep report "):
        words = {"COMP_WORDS": line, "COMP_CWORD": "2", "_KDSWEEP_COMPLETE": "complete_bash"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | words,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines()[-1] == "heavy:", line
