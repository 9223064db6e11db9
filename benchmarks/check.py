"""Compares the benchmarks' ratios with their floors; exit code 1 if one lies below.

Runs the quick versions that ``floors.toml`` lists, one after the other::

    make bench-check
    python benchmarks/check.py step cohort      # only these
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def run(name: str, arguments: list[str]) -> dict[str, dict[str, float]]:
    """The ratios of a benchmark."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    # Libraries may have printed before.
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])["ratios"]
    return found


def compare(
    ratios: dict[str, dict[str, float]], floors: dict[str, float]
) -> list[tuple[str, float, float, bool]]:
    """Name, median, floor and whether it holds, for each floor.

    Raises:
        KeyError: A floor for a ratio that the benchmark does not give.
    """
    rows = []
    for name, floor in floors.items():
        median = ratios[name]["median"]
        rows.append((name, median, floor, median >= floor))
    return rows


def main() -> int:
    """Run and compare."""
    plan: dict[str, dict[str, Any]] = tomllib.loads((HERE / "floors.toml").read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(plan)}")
    parser.add_argument("--json", type=Path, help="write all ratios into this file too")
    options = parser.parse_args()
    if unknown := set(options.names) - set(plan):
        parser.error(f"no floors for {', '.join(sorted(unknown))}; there are {', '.join(plan)}")
    found, all_hold = {}, True
    print(f"{'benchmark':16}{'ratio':54}{'median':>9}{'floor':>9}")
    for name in options.names or plan:
        started = time.perf_counter()
        found[name] = run(name, plan[name]["arguments"])
        for ratio, median, floor, holds in compare(found[name], plan[name]["floors"]):
            verdict = "" if holds else "  below"
            print(f"{name:16}{ratio:54}{median:9.4g}{floor:9.4g}{verdict}", flush=True)
            all_hold &= holds
        print(f"{name:16}took {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
