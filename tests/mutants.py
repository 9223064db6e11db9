"""Do the tests notice small faults? Plants some, one at a time, and says how many were noticed.

    python tests/mutants.py                      # a sample of each group below
    python tests/mutants.py --group metrics --all
    python tests/mutants.py --seed 3 --number 40

A fault (mutant) is a comparison turned, a constant raised, a condition negated, a sum made a
difference, ``and`` made ``or``, or ``min`` made ``max``, at one place of one module. The module's
own tests should fail then. A fault that changes nothing that anybody could see (a chunk size, an
order that a sort undoes) is listed in
``equivalent_mutants.py`` with the reason, and is not planted.

Nothing on the disk is changed: a module's faulty code is put in place as it is imported, in a fork
of a process that has imported torch and the like already.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from equivalent_mutants import EQUIVALENT

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 120

# Modules with the tests that are theirs.
GROUPS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "ledger": (
        [f"ledger/{n}.py" for n in ("file", "state", "trials", "rungs", "driven", "slot_time")],
        ["tests/ledger"],
    ),
    "schedulers": (["sweep/schedulers/*.py"], ["tests/sweep/test_schedulers.py"]),
    "sampler": (
        [f"sweep/{n}.py" for n in ("study", "samplers", "recorder")],
        ["tests/sweep/test_study.py", "tests/sweep/test_study_draws.py"],
    ),
    "objective": (
        ["distill/objective.py", "distill/ramp.py", "distill/gate.py"],
        ["tests/distill/test_objective.py"],
    ),
    "metrics": (["training/metrics.py"], ["tests/training/test_metrics.py"]),
    "statistics": (["reporting/statistics.py"], ["tests/reporting/test_statistics.py"]),
    "splitting": (["data/splitting.py"], ["tests/data/test_splitting.py"]),
}

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OTHER: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        module: The module's file below ``kdsweep``.
        line: 1-based line of the fault.
        code: That line, as it is.
        fault: What is changed, as ``before -> after``.
        source: The module's whole text with the fault.
    """

    module: str
    line: int
    code: str
    fault: str
    source: str

    def __str__(self) -> str:
        return f"kdsweep/{self.module}:{self.line}: {self.fault}\n    {self.code}"


def mutants(path: Path) -> Iterator[Mutant]:
    """All faults of a module, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for faulty in _faults_of(node):
            before, after = ast.unparse(node), ast.unparse(faulty)
            yield Mutant(
                str(path.relative_to(ROOT / "kdsweep")),
                node.lineno,  # type: ignore[attr-defined]
                text.splitlines()[node.lineno - 1].strip(),  # type: ignore[attr-defined]
                f"{before} -> {after}",
                _replaced(text, node, f"({after})"),
            )


def _faults_of(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _TURNED:
        faulty = copy.deepcopy(node)
        faulty.ops[0] = _TURNED[type(node.ops[0])]()
        yield faulty
    elif isinstance(node, ast.BinOp) and type(node.op) in _OTHER and not _is_text(node):
        faulty = copy.deepcopy(node)
        faulty.op = _OTHER[type(node.op)]()
        yield faulty
    elif isinstance(node, ast.BoolOp):
        faulty = copy.deepcopy(node)
        faulty.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield faulty
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Name(_NAMES[node.id], ast.Load())
    if isinstance(node, ast.IfExp):
        faulty = copy.deepcopy(node)
        faulty.test = ast.UnaryOp(ast.Not(), node.test)
        yield faulty


def _is_text(node: ast.BinOp) -> bool:
    """Whether a sum joins texts, a union types: a fault there is an error at import."""
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and not isinstance(side.value, int | float))
        for side in (node.left, node.right)
    )


def _replaced(text: str, node: ast.AST, new: str) -> str:
    lines = text.encode().splitlines(keepends=True)
    first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
    start = sum(map(len, lines[:first])) + node.col_offset  # type: ignore[attr-defined]
    end = sum(map(len, lines[:last])) + node.end_col_offset  # type: ignore[attr-defined]
    data = b"".join(lines)
    return (data[:start] + new.encode() + data[end:]).decode()


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Gives one module another source as it is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self._source = mutant.source
        self._path = ROOT / "kdsweep" / mutant.module
        name = mutant.module.removesuffix(".py").removesuffix("/__init__")
        self._name = "kdsweep." + name.replace("/", ".")

    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        is_package = self._path.name == "__init__.py"
        return importlib.util.spec_from_file_location(
            name,
            self._path,
            loader=self,  # type: ignore[arg-type]
            submodule_search_locations=[str(self._path.parent)] if is_package else None,
        )

    def get_source(self, fullname: str) -> str:
        return self._source

    def exec_module(self, module: object) -> None:
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


def is_noticed(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Whether tests fail with a fault in place; a fault that makes them hang is noticed."""
    child = os.fork()
    if child == 0:
        _run_tests(mutant, tests)
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run_tests(mutant: Mutant | None, tests: Sequence[str]) -> None:
    """Run tests in a fork, which ends here."""
    code = 1
    with contextlib.suppress(BaseException):
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.chdir(ROOT)
        sys.path.insert(0, str(ROOT))
        if mutant is not None:
            sys.meta_path.insert(0, _Planter(mutant))
        import pytest

        options = [
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-m",
            "not ray and not slow",
        ]
        code = int(pytest.main([*options, *tests]))
    os._exit(code)


def main() -> None:
    """Plant faults and print those that nobody noticed, then the share that was noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", choices=GROUPS, action="append", help="default: all of them")
    parser.add_argument("--number", type=int, default=6, help="faults of each group")
    parser.add_argument("--all", action="store_true", help="every fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--floor", type=float, default=0.85, help="share to be noticed")
    options = parser.parse_args()
    # What every test imports, once.
    import optuna  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch
    import torchmetrics  # noqa: F401

    torch.set_num_threads(1)
    num_planted = num_noticed = 0
    for group in options.group or GROUPS:
        patterns, tests = GROUPS[group]
        matching = [sorted((ROOT / "kdsweep").glob(pattern)) for pattern in patterns]
        assert all(matching), f"{group}: not all of these modules are there: {patterns}"
        paths = [path for found in matching for path in found]
        if is_noticed(None, tests):
            sys.exit(f"{group}: its tests fail without any fault")
        found = [m for path in paths for m in mutants(path)]
        found = [m for m in found if (m.module, m.code, m.fault) not in EQUIVALENT]
        if not options.all:
            found = random.Random(options.seed).sample(found, min(options.number, len(found)))
        survivors = [mutant for mutant in found if not is_noticed(mutant, tests)]
        num_planted += len(found)
        num_noticed += len(found) - len(survivors)
        print(f"{group}: {len(found) - len(survivors)} of {len(found)} noticed", flush=True)
        for mutant in survivors:
            print(f"  {mutant}", flush=True)
    share = num_noticed / max(num_planted, 1)
    print(f"{num_noticed} of {num_planted} faults were noticed: {share:.0%}")
    sys.exit(share < options.floor)


if __name__ == "__main__":
    main()
