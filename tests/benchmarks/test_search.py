"""The simulated searches: every way solves a problem, and the same one each time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NEW, OLD = "kdsweep", "kdsweep, TPE, ASHA, first rung at epoch 1"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The benchmark's modules, which import one another by their names."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def problem(family, seed):
    from search_families import problem as make

    return make(family, seed)


@pytest.mark.parametrize("budget", [60])
def test_ways_spend_their_epochs_and_repeat_themselves(budget):
    from search import WAYS, search

    for name, way in WAYS.items():
        if "gp" in name:  # it takes seconds
            continue
        first, hours = search(problem("plain", 3), way(3, budget), 3, budget)
        again, _ = search(problem("plain", 3), way(3, budget), 3, budget)
        np.testing.assert_array_equal(first, again, err_msg=name)
        assert first.shape == hours.shape == (budget,)
        assert np.all(np.diff(hours) >= 0), name
        assert first[-1] < 60, name


@pytest.mark.parametrize("family", ["crossing", "camvid"])
def test_nothing_is_better_than_the_best(family):
    from search import WAYS

    one, chance = problem(family, 5), WAYS["random"](5, 0)
    last = [one.curve(chance.draw(number))[-1] for number in range(500)]
    assert 0.7 * one.best < max(last) <= one.best + 1e-9


def test_the_real_curves_are_those_of_the_sweep_that_is_beside_them():
    from kdsweep.config import load_space

    told = json.loads((BENCHMARKS / "search_curves.json").read_text())
    space = load_space(BENCHMARKS / "search_curves.yaml")
    miou = np.asarray(told["miou"])
    shape = (len(told["students"]), len(told["lr"]), len(told["weight"]))
    assert miou.shape == (*shape, 27)
    assert np.prod(shape) == space.num_points() == 75
    assert ((miou > 0) & (miou < 1)).all()


def test_differences_are_paired_with_the_first_way():
    from search import tables

    levels = [(seed, way, level) for seed in (0, 1) for way, level in (("a", 1.0), ("b", 3.0))]
    found = {("plain", way, seed, 10): np.full(10, level + seed) for seed, way, level in levels}
    rows = {r["way"]: r for r in tables(found, (10,), ["a", "b"]) if r["family"] == "plain"}
    assert (rows["a"]["regret"], rows["b"]["behind"]) == (1.5, 2.0)
    assert rows["b"]["low"] == rows["b"]["high"] == 2.0
    assert (rows["a"]["reached"], rows["b"]["reached"]) == (1, None)


def test_the_script_prints_ratios_for_the_floors():
    arguments = ["--problems", "1", "--families", "plain", "--budgets", "40", "--json"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "search.py", *arguments, "--ways", NEW, OLD],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"{OLD} / {NEW}, regret" in json.loads(done.stdout.splitlines()[-1])["ratios"]
