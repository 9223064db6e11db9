"""What decides whether the benchmarks are fast enough."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    config = importlib.util.spec_from_file_location("bench_check", BENCHMARKS / "check.py")
    assert config is not None
    assert config.loader is not None
    module = importlib.util.module_from_spec(config)
    config.loader.exec_module(module)
    return module


def every_ratio(share: float) -> Any:
    """Stands for running a benchmark: all its ratios are so much of their floors."""
    plan = tomllib.loads((BENCHMARKS / "floors.toml").read_text())

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess:
        assert command[-1] == "--json"
        floors = plan[Path(command[1]).stem]["floors"]
        ratios = {name: {"median": floor * share} for name, floor in floors.items()}
        printed = "a library said something\n" + json.dumps({"ratios": ratios})
        return subprocess.CompletedProcess(command, 0, printed, "")

    return run


@pytest.mark.parametrize(("share", "code"), [(1.0, 0), (0.99, 1)])
def test_a_ratio_below_its_floor_fails(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any, share: float, code: int
) -> None:
    monkeypatch.setattr("sys.argv", ["check.py", "step", "report"])
    monkeypatch.setattr(check.subprocess, "run", every_ratio(share))
    assert check.main() == code
    table = capsys.readouterr().out
    assert "bare loop / engine" in table
    assert "floor / fold" in table
    assert ("below" in table) == bool(code)


def test_every_floor_is_of_a_benchmark_that_is_there() -> None:
    plan = tomllib.loads((BENCHMARKS / "floors.toml").read_text())
    assert all((BENCHMARKS / f"{name}.py").is_file() for name in plan)
    assert all(entry["floors"] for entry in plan.values())


def test_a_benchmark_that_fails_is_said(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 2, "", "no such option")
    monkeypatch.setattr("sys.argv", ["check.py", "step"])
    monkeypatch.setattr(check.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match="ended with exit code 2"):
        check.main()
