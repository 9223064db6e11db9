"""What the benchmarks count in place of time."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("operations")


def test_arithmetic_is_that_of_products_and_their_backward_pass(operations: ModuleType) -> None:
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(3, 5, requires_grad=True)
    forward = operations.count(lambda: a @ b)
    assert (forward.arithmetic, forward.elements) == (2 * 2 * 3 * 5, 0)
    both = operations.count(lambda: (a @ b).backward(torch.ones(2, 5)))
    assert both.arithmetic == 3 * forward.arithmetic


def test_everything_else_counts_by_what_it_writes(operations: ModuleType) -> None:
    a = torch.ones(4, 6)
    assert operations.count(lambda: a + a).total == 24
    assert operations.count(lambda: a.add_(1)).total == 24
    assert operations.count(lambda: torch._foreach_add_([a, a[0]], 1)).total == 24 + 6
    assert operations.count(lambda: a.sum()).total == 1
    assert operations.count(lambda: a.view(3, 8).t()).total == 0


def test_work_done_twice_counts_twice(operations: ModuleType) -> None:
    layer, images = torch.nn.Conv2d(3, 4, 3), torch.ones(1, 3, 8, 8)
    once = operations.count(lambda: layer(images).relu().sum().backward())
    twice = operations.count(lambda: [layer(images).relu().sum().backward() for _ in range(2)])
    assert once.arithmetic > 0
    assert twice.arithmetic == 2 * once.arithmetic
    # Gradients are added to those that are there.
    assert twice.total >= 2 * once.total


def test_peak_is_of_what_lives_at_the_same_time(operations: ModuleType) -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.zeros(1000)

    def together() -> None:
        _kept = [torch.zeros(1000) for _ in range(3)]

    assert operations.peak_bytes(together) == 3 * operations.peak_bytes(one_after_another) == 12000
