"""The command line as a user meets it.

Run in this process, because importing torch anew takes seconds; what needs signals has its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_job import make_job

from kdsweep.cli import main
from kdsweep.spec import dump_yaml


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def kdsweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path | int) -> Done:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Done(0 if code is None else int(code), *capsys.readouterr())

    return run


@pytest.fixture
def job_file(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(dump_yaml(make_job(tiny_data, tmp_path)))
    return path


def test_train_prints_a_line_an_epoch_and_says_where_the_student_is(
    kdsweep: Run, job_file: Path, tmp_path: Path
) -> None:
    done = kdsweep("train", job_file, "--set", "train.epochs=2", "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "resnet18→mobilenet_v2, 2 epochs"
    assert lines[1].startswith("epoch 1/2  student mIoU 0.")
    assert "teacher 0." in lines[2]
    best = Path(lines[-1].removeprefix("The best student is in "))
    assert (tmp_path / best / "student.safetensors").is_file()
    assert best.parts[:2] == ("experiments", "single")


def test_train_as_json_goes_on_where_it_was_ended(
    kdsweep: Run, job_file: Path, tmp_path: Path
) -> None:
    arguments = ["train", job_file, "--json", "--threads", "1", "--out", tmp_path / "t"]
    command = [sys.executable, "-c", "from kdsweep.cli import main; main()"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    # A fast machine may have ended before the signal came.
    assert process.returncode in (130, 0)
    done = kdsweep(*arguments)
    epochs = [json.loads(line)["epoch"] for line in done.stdout.splitlines()]
    assert first["epoch"] == 1
    assert epochs == list(range(epochs[0], 4))
    assert epochs[0] >= 1


def test_bad_input_is_one_message_and_exit_code_2(
    kdsweep: Run, job_file: Path, tmp_path: Path
) -> None:
    done = kdsweep("train", job_file, "--set", "student.encoder=resnet81")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "student.encoder: unknown encoder" in done.stderr
    assert "resnet81" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "experiments").exists()


def test_validate_names_file_and_line(kdsweep: Run, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(
        "data: {source: roadscenes, image_size: [64, 96]}\n"
        "student: {encoder: {values: [resnet18, mobilenet_v2]}}\n"
        "train: {epochs: 2}\n"
    )
    bad.write_text(good.read_text().replace("epochs", "epoch"))
    done = kdsweep("validate", good, bad)
    assert done.returncode == 2
    assert f"{good}: valid, 2 combinations" in done.stdout
    assert "bad.yaml:3" in done.stderr
    assert "epochs" in done.stderr
    assert kdsweep("validate", good).returncode == 0


def test_validate_finds_what_only_the_networks_know(kdsweep: Run, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "data: {source: roadscenes, image_size: [64, 96]}\n"
        "teacher: {encoder: resnet18}\n"
        "student:\n"
        "  encoder: {values: [resnet18, resnet81]}\n"
        "train: {epochs: 2}\n"
    )
    done = kdsweep("validate", file)
    assert done.returncode == 2
    assert "space.yaml:4" in done.stderr
    assert "resnet81" in done.stderr


def test_shipped_search_spaces_are_valid(kdsweep: Run, tmp_path: Path) -> None:
    spaces = sorted((Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))
    assert spaces
    done = kdsweep("validate", *spaces)
    assert done.returncode == 0, done.stderr


def test_reports_and_resumes_of_what_is_not_there(kdsweep: Run, tmp_path: Path) -> None:
    for command in ("report", "resume"):
        done = kdsweep(command, "experiments/latest")
        assert done.returncode == 2
        assert "no such experiment" in done.stderr
        assert "kdsweep run" in done.stderr


def test_version_help_and_unknown_commands(kdsweep: Run, tmp_path: Path) -> None:
    assert kdsweep("--version").stdout.startswith("kdsweep 0.")
    assert "resume" in kdsweep("--help").stdout
    unknown = kdsweep("rnu")
    assert unknown.returncode == 2
    assert "run" in unknown.stderr
