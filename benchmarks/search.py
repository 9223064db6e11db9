"""How soon a search finds a good student: kdsweep's against Ray's, Optuna's, and chance.

Whole sweeps with curves in place of trainings (``search_families.py``), with the real code of each
way (``search_ways.py``): four workers in virtual time, no Ray cluster. Regret is what the student
that would be shipped lacks of the best of its problem, in % of that: the one with the best score so
far, at that score's epoch, noise taken off. Each way solves the same problems with the same noise,
so differences are paired; intervals are 95 % bootstrap intervals over problems.

Choices were made on problems 0 to 59 and 100 to 115 of each family; what docs/performance.md
reports has problems of its own (``--first 5000``):

    python benchmarks/search.py --problems 10 --first 5000 --picture search.html
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from search_families import EPOCHS, FAMILIES, Problem, problem
from search_ways import Kdsweep, OneEpoch, OptunaHyperband, Random, RayTune, Way, quiet

WORKERS = 4
BUDGETS = (270, 810)
NEW, OLD = "kdsweep", "kdsweep, TPE, ASHA, first rung at epoch 1"
TOLD = "kdsweep, told the best of an earlier sweep"
# Each is made of a seed and of the epochs that there are.
WAYS: dict[str, Callable[[int, int], Way]] = {
    NEW: Kdsweep,
    TOLD: Kdsweep,  # and what `best_of` has found
    "kdsweep, TPE": partial(Kdsweep, sampler="tpe"),
    "kdsweep, random": partial(Kdsweep, sampler="random"),
    "kdsweep, TPE, ASHA": partial(Kdsweep, sampler="tpe", scheduler="asha"),
    OLD: partial(Kdsweep, sampler="tpe", scheduler="asha", grace_period=1),
    "Optuna's TPE + Hyperband": lambda seed, budget: OptunaHyperband(seed),
    "Ray's OptunaSearch + ASHA": lambda seed, budget: RayTune(seed),
    "random + ASHA": partial(Kdsweep, sampler="random", scheduler="asha", grace_period=1),
    "one epoch each, the best to the end": OneEpoch,
    "random": lambda seed, budget: Random(seed),
}


def search(
    problem: Problem,
    way: Way,
    seed: int,
    budget: int,
    told: Callable[[Mapping[str, Any], float], None] = lambda params, score: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Run a search.

    Args:
        problem: What is searched.
        way: Who searches.
        seed: Of the noise.
        budget: Epochs in all.
        told: Called with the parameters and the score of each epoch.

    Returns:
        After each of ``budget`` epochs, in the order in which they end: the regret in %, and the
        time in epochs of a middling network. Both have the shape [budget].
    """
    regret, hours = np.empty(budget), np.empty(budget)
    params: list[Any] = []
    curves: list[np.ndarray] = []
    epochs: list[int] = []
    running: list[tuple[float, int]] = []
    best_score = shipped = -1.0

    def next_epoch(number: int, now: float) -> None:
        heapq.heappush(running, (now + problem.seconds(params[number]), number))

    def begin(now: float) -> None:
        number = way.resumed()
        if number is None:
            number = len(params)
            params.append(way.draw(number))
            curves.append(problem.training(params[number], seed, number))
            epochs.append(0)
        next_epoch(number, now)

    for _ in range(WORKERS):
        begin(0.0)
    for spent in range(budget):
        now, number = heapq.heappop(running)
        epochs[number] += 1
        epoch = epochs[number]
        score = float(curves[number][epoch - 1])
        told(params[number], score)
        if score > best_score:
            best_score, shipped = score, float(problem.curve(params[number])[epoch - 1])
        regret[spent], hours[spent] = 100 * (1 - shipped / problem.best), now
        if way.goes_on(number, epoch, score):
            next_epoch(number, now)
        else:
            begin(now)
    return regret, hours


def best_of(problem: Problem, seed: int) -> list[dict[str, Any]]:
    """Return the three best settings of an earlier sweep of the same problem, of as many epochs.

    It had other draws and other noise. What counts is each trial's best score, as in ``--best-of``.
    """
    scores: dict[str, float] = {}

    def told(params: Mapping[str, Any], score: float) -> None:
        key = json.dumps(params)
        scores[key] = max(score, scores.get(key, score))

    other, budget = seed + 1_000_000, BUDGETS[0]
    search(problem, Kdsweep(other, budget), other, budget, told)
    return [json.loads(key) for key in sorted(scores, key=scores.__getitem__)[:-4:-1]]


# Family, way, problem and the epochs that there are.
_Task = tuple[str, str, int, int]


def _run(task: _Task) -> tuple[_Task, list[float], list[float]]:
    family, name, seed, budget = task
    quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solved = problem(family, seed)
        way = (
            Kdsweep(seed, budget, try_first=best_of(solved, seed))
            if name == TOLD
            else WAYS[name](seed, budget)
        )
        regret, hours = search(solved, way, seed, budget)
    return task, regret.tolist(), hours.tolist()


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of values of the shape [n], and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (4000, len(values)))
    low, high = np.percentile(draws.mean(1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def tables(
    found: dict[_Task, np.ndarray], budgets: tuple[int, ...], ways: list[str]
) -> list[dict[str, Any]]:
    """Return one row for each family, and for all of them, each way and each budget.

    ``reached`` is the epoch after which a way's mean regret is that of the first way at the end.
    """
    rows = []
    families = sorted({key[0] for key in found})
    seeds = sorted({key[2] for key in found})
    for family in [*families, "all"]:
        chosen = families if family == "all" else [family]
        for budget in budgets:
            curves = {
                way: np.array([found[f, way, s, budget] for f in chosen for s in seeds])
                for way in ways
            }
            wanted = curves[ways[0]][:, -1]
            for way, regrets in curves.items():
                values = regrets[:, -1]
                mean, low, high = interval(values - wanted)
                early = regrets.mean(0) <= wanted.mean()
                rows.append(
                    {
                        "family": family,
                        "epochs": budget,
                        "way": way,
                        "regret": float(values.mean()),
                        "behind": mean,
                        "low": low,
                        "high": high,
                        "reached": int(early.argmax()) + 1 if early.any() else None,
                    }
                )
    return rows


def show(rows: list[dict[str, Any]], budgets: tuple[int, ...], ways: list[str]) -> None:
    """Print the tables."""
    for family in dict.fromkeys(row["family"] for row in rows):
        print(f"\n{family}")
        head = "".join(
            f"{f'at {b} epochs':>12}{f'behind {ways[0]} [95 %]':>34}{'reached':>9}" for b in budgets
        )
        print(f"{'':38}{head}")
        for way in ways:
            line = f"{way:38}"
            for row in rows:
                if (row["family"], row["way"]) == (family, way):
                    line += f"{row['regret']:12.2f}"
                    behind = f"{row['behind']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
                    line += f"{'' if way == ways[0] else behind:>34}{row['reached'] or '-':>9}"
            print(line)


def draw(
    path: Path,
    found: dict[_Task, np.ndarray],
    hours: dict[_Task, np.ndarray],
    ways: list[str],
    budget: int,
) -> None:
    """Write a page with mean regret against epochs and against time, for each family."""
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    families = sorted({key[0] for key in found})
    seeds = sorted({key[2] for key in found})
    figure = make_subplots(2, len(families), shared_yaxes="all", column_titles=families)
    for column, family in enumerate(families, start=1):
        for way, colour in zip(ways, ["#0072B2", *qualitative.Safe[1:]], strict=False):
            curves = [found[family, way, seed, budget] for seed in seeds]
            ends = [hours[family, way, seed, budget] for seed in seeds]
            grid = np.linspace(0, min(end[-1] for end in ends), 200)[1:]
            at = [np.interp(grid, h, c) for h, c in zip(ends, curves, strict=True)]
            line = {"color": colour, "width": 3 if way == ways[0] else 1.5}
            style = {"mode": "lines", "name": way, "legendgroup": way, "line": line}
            epochs, is_first = np.arange(1, len(curves[0]) + 1), column == 1
            figure.add_scatter(
                x=epochs, y=np.mean(curves, 0), showlegend=is_first, row=1, col=column, **style
            )
            figure.add_scatter(
                x=grid, y=np.mean(at, 0), showlegend=False, row=2, col=column, **style
            )
    figure.update_yaxes(type="log", range=[0, 1.8])
    figure.update_yaxes(title="regret, % of the best", col=1)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title="epochs", range=[1, np.log10(budget)], row=1)
    shown = [1, np.log10(budget / WORKERS)]
    figure.update_xaxes(title=f"time on {WORKERS} workers, in epochs", range=shown, row=2)
    figure.update_layout(template="plotly_white", legend={"orientation": "h", "y": -0.15})
    figure.write_html(path, include_plotlyjs=True)


def main() -> int:
    """Run all ways on all problems and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--problems", type=int, default=10, help="of each family")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="an HTML page with the curves")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    budgets, budget = tuple(options.budgets), max(options.budgets)
    seeds = range(options.first, options.first + options.problems)
    # Each number of epochs is a search of its own: some ways depend on how many there are.
    tasks = list(product(options.families, options.ways, seeds, budgets))
    found, hours = {}, {}
    with Pool(options.processes) as pool:
        for key, regret, ended in pool.imap_unordered(_run, tasks):
            found[key], hours[key] = np.array(regret), np.array(ended)
            print(f"\r{len(found)} of {len(tasks)}", end="", file=sys.stderr)
    rows = tables(found, budgets, options.ways)
    print(
        f"{options.problems} problems of each family, from {options.first}; "
        f"{EPOCHS} epochs a trial; regret of the student shipped, in %"
    )
    show(rows, budgets, options.ways)
    if options.picture:
        draw(options.picture, found, hours, options.ways, budget)
    if options.json:
        # The better the higher, as everywhere in benchmarks/.
        best = [row for row in rows if row["family"] == "all" and row["epochs"] == budget]
        ours = next(row["regret"] for row in best if row["way"] == options.ways[0])
        ratios = {
            f"{row['way']} / {options.ways[0]}, regret": {"median": row["regret"] / ours}
            for row in best
            if row["way"] != options.ways[0]
        }
        print(json.dumps({"rows": rows, "ratios": ratios}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
