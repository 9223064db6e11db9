"""Keys that stand in the environment of a sweep appear in no file that it leaves."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from simulation import SPACE

HERE = Path(__file__).resolve().parent
KEYS = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN")
KEY = "nobody-may-read"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_key_is_in_a_file_that_a_sweep_leaves(tmp_path):
    space = tmp_path / "space.json"
    teacher = {"encoder": "resnet34", "options": {"behave": "error", "at": 4, "seconds": 0.5}}
    sweep = {"trials": 2, "scheduler": "none", "controls": "none"}
    tracking = {"wandb": {"mode": "offline"}}
    train = {**SPACE["train"], "epochs": 4}
    tree = {**SPACE, "teacher": teacher, "sweep": sweep, "tracking": tracking, "train": train}
    space.write_text(json.dumps(tree))
    secrets = {name: f"{KEY}-{number}-{'x' * 24}" for number, name in enumerate(KEYS)}
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as ray:
        process = subprocess.Popen(
            [sys.executable, HERE / "sweep_process.py", "run", tmp_path / "out", space],
            env={**os.environ, **secrets, "RAY_TMPDIR": ray, "PYTHONPATH": str(HERE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = ""
        for line in process.stdout:
            said += line
            if '"epoch": 3' in line:
                break
        in_ray = files_with_a_key(Path(ray), at_least=10)  # its folder goes with the sweep
        said += process.communicate(timeout=200)[0]
    assert in_ray == []
    assert process.returncode == 3, said
    assert files_with_a_key(tmp_path / "out", at_least=15) == []
    assert KEY not in said


def files_with_a_key(root, *, at_least):
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) >= at_least, "there was nothing to look at"
    found = []
    for path in files:
        with suppress(FileNotFoundError):  # it was there for a moment
            if KEY.encode() in path.read_bytes():
                found.append(path)
    return found
