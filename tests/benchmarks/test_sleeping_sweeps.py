"""Benchmarks whose trainings only sleep run whole sweeps through Ray; here tiny ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("script", "ways", "ratio"),
    [
        (
            "sweep_overhead.py",
            ["kdsweep", "bare Tune, reuse_actors"],
            "bare Tune, reuse_actors / kdsweep, a no-op trial",
        ),
        ("wandb_wall.py", ["off", "never answers"], "off / never answers, wall time"),
    ],
)
def test_it_runs(script: str, ways: list[str], ratio: str) -> None:
    arguments = ["--trials", "4", "--epochs", "1", "--seconds", "0.1", "--json", "--ways", *ways]
    if script == "wandb_wall.py":
        arguments += ["--rounds", "1"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ratios"][ratio]["median"] > 0
