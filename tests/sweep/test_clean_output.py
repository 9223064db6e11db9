"""Standard output of a sweep with ``--json``: nothing but JSON, whatever Ray has to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulation import SPACE

HERE = Path(__file__).parent
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("behave", ["kill", "exit"])
def test_every_line_is_json_where_a_worker_dies(behave, tmp_path):
    space = {**SPACE, "train": {"epochs": 2}, "sweep": {"trials": 1, "max_concurrent": 1}}
    space["teacher"] = {"encoder": "resnet34", "options": {"behave": behave, "times": 1}}
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space))
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, HERE / "sweep_process.py", "run", tmp_path, file],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (failed,) = [event for event in events if event["event"] == "fail"]
    assert (failed["class"], failed["retry"]) == ("crash", True)
    assert "(raylet)" not in done.stderr
