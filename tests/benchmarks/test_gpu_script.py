"""Whether everything that is to be measured on a GPU runs where neither Ray nor Optuna is."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.sh"
PARTS = {"step", "compile", "cohort", "packing", "seed_loop", "loader", "memory"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_part_gives_numbers_without_ray_and_optuna(tmp_path: Path) -> None:
    for name in ("ray", "optuna"):
        package = tmp_path / "absent" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('not on that machine')\n")
    paths = filter(None, [str(tmp_path / "absent"), os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    result = tmp_path / "result.json"
    done = subprocess.run(
        [SCRIPT, result, "--tiny"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    found = json.loads(result.read_text())
    assert set(found) == PARTS
    for name, part in found.items():
        assert part["ratios"], name
        assert all(math.isfinite(values["median"]) for values in part["ratios"].values()), name


def test_a_part_that_fails_leaves_its_error(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    # Every part imports it.
    (tmp_path / "torch.py").write_text("raise SystemExit('no such device')\n")
    result = tmp_path / "result.json"
    done = subprocess.run(
        [SCRIPT, result, "--tiny"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    found = json.loads(result.read_text())
    assert set(found) == PARTS
    assert all("no such device" in part["said"] for part in found.values())
