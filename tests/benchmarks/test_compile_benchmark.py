"""When compiling has paid."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("compile")


def test_compiling_pays_once_steps_have_saved_what_it_took(benchmark: ModuleType) -> None:
    # Two seconds an epoch of ten batches, against thirty.
    assert benchmark.break_even(30.0, 0.2, 10) == pytest.approx(15.0)
    assert benchmark.pays_after(15.0) == "15.0 epochs"


@pytest.mark.parametrize("saved_s", [0.0, -0.1])
def test_slower_steps_never_pay(benchmark: ModuleType, saved_s: float) -> None:
    assert benchmark.break_even(30.0, saved_s, 10) is None
    assert benchmark.pays_after(None) == "never"
