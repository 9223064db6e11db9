"""Whether the regressions that the floors are tried with can still be planted."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kdsweep.distill import LOSSES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench_mutants() -> ModuleType:
    config = importlib.util.spec_from_file_location("bench_mutants", BENCHMARKS / "mutants.py")
    assert config is not None
    assert config.loader is not None
    module = importlib.util.module_from_spec(config)
    sys.modules["bench_mutants"] = module  # dataclasses look there
    config.loader.exec_module(module)
    return module


def test_every_regression_can_be_planted_and_has_a_floor(
    bench_mutants: ModuleType, tmp_path: Path
) -> None:
    plan: dict[str, Any] = tomllib.loads((BENCHMARKS / "floors.toml").read_text("utf-8"))
    planted = bench_mutants.mutants()
    for number, mutant in enumerate(planted):
        assert mutant.floor in plan[mutant.benchmark]["floors"]
        copied = tmp_path / str(number) / mutant.file
        copied.parent.mkdir(parents=True)
        shutil.copy(bench_mutants.PACKAGE / mutant.file, copied)
        bench_mutants.plant(mutant, tmp_path / str(number))
        before = (bench_mutants.PACKAGE / mutant.file).read_text("utf-8")
        assert copied.read_text("utf-8") != before
        compile(copied.read_text("utf-8"), mutant.file, "exec")
    assert {m.floor.rsplit(", ")[-1] for m in planted} >= set(LOSSES.names())


def test_text_that_is_gone_is_an_error(bench_mutants: ModuleType, tmp_path: Path) -> None:
    mutant = bench_mutants.mutants()[0]
    (tmp_path / mutant.file).parent.mkdir(parents=True)
    (tmp_path / mutant.file).write_text("changed = True\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no longer"):
        bench_mutants.plant(mutant, tmp_path)
