"""Do the floors notice? Plants regressions in a copy of kdsweep, and runs what should notice each.

    make bench-mutants
    python benchmarks/mutants.py report loader      # only what is looked at by these

A regression is a piece of a file's text with another in its place. ``check.py`` runs on the copy,
with the benchmark that has the floor, and must call that floor ``below``. The exit code is 1 where
one goes unnoticed; text that is no longer there is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "kdsweep"


@dataclass(frozen=True)
class Mutant:
    """A regression.

    Attributes:
        words: What it is.
        file: Below the package.
        old: Text of the file, there once.
        new: What takes its place.
        benchmark: Has the floor.
        floor: The floor's name.
    """

    words: str
    file: str
    old: str
    new: str
    benchmark: str
    floor: str


def several_times(loss: str) -> Mutant:
    """A loss at eight times its work."""
    term = "term(student, teacher, labels_BHW)"
    head, tail = "return {name: ", " for name, term in self.terms.items()}"
    more = f"sum({term} for _ in range(8 if name == {loss!r} else 1))"
    return Mutant(
        f"{loss} at eight times its work",
        "distill/objective.py",
        head + term + tail,
        head + more + tail,
        "loss_cost",
        f"numbers given / operations, {loss}",
    )


def mutants() -> list[Mutant]:
    """All of them; of losses those that have a floor."""
    floors = tomllib.loads((HERE / "floors.toml").read_text("utf-8"))
    counted = [name for name in floors["loss_cost"]["floors"] if name.startswith("numbers given")]
    losses = [several_times(name.rsplit(", ", 1)[1]) for name in counted]
    forward = "logits_BKHW = networks[name](images_BHWC).logits_BKHW"
    lesson = "    lesson = _teach(teacher, batch, settings)\n"
    dispatch = '        if "failed" in result:\n            failed = result["failed"]\n'
    read = "    sweep, columns = read_epochs(iter_ledger(experiment.ledger, decode_numbers))\n"
    reader = "_Reader(Path(path), decode).events()"
    reading = f"    return {reader}\n"
    augmented = "self._augment(image_HWC, labels_HW, order.epoch, index)"
    augment = f"                image_HWC, labels_HW = {augmented}\n"
    return [
        Mutant(
            "every student scored twice in the validation",
            "training/evaluation.py",
            f"                    {forward}",
            f'                    {forward}\n                    if name.startswith("student"):\n'
            f"                        {forward}",
            "counted",
            "bare loop / engine, arithmetic, validation",
        ),
        *losses,
        Mutant(
            "a forward pass of the teacher too many in every fourth step",
            "training/online_step.py",
            lesson,
            lesson + "    if batch.step % 4 == 0:\n        with torch.no_grad():\n"
            "            teacher.network(batch.images_BHWC)\n",
            "counted",
            "bare loop / engine, arithmetic, steps",
        ),
        Mutant(
            "a driver that sleeps 15 ms a report",
            "sweep/driver.py",
            dispatch,
            "        time.sleep(0.015)\n" + dispatch,
            "driver",
            "awake / all of a report",
        ),
        Mutant(
            "a sampler that never learns",
            "sweep/samplers.py",
            "_STARTUP = 10 ",
            "_STARTUP = 10_000 ",
            "search",
            "random / kdsweep, regret",
        ),
        Mutant(
            "the best of each student stopped as any other",
            "sweep/schedulers/asha_per_student.py",
            "        return any(\n",
            "        return True or any(\n",
            "search",
            "random / kdsweep, regret",
        ),
        Mutant(
            "the results of a sweep loaded twice",
            "reporting/results.py",
            read,
            read + read,
            "report",
            "floor / load",
        ),
        Mutant(
            "every line of a ledger read twice",
            "ledger/file.py",
            reading,
            f"    sum(1 for _ in {reader})\n{reading}",
            "report",
            "floor / fold",
        ),
        Mutant(
            "every frame augmented twice",
            "data/loaders.py",
            augment,
            augment + augment,
            "loader",
            "DataLoader on arrays / kdsweep",
        ),
    ]


def plant(mutant: Mutant, package: Path) -> None:
    """Put a regression into a copy of the package."""
    path = package / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file} has no longer, or more than once:\n{mutant.old}")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def below(mutant: Mutant | None, benchmark: str) -> dict[str, float]:
    """The ratios that lie below their floors, with a regression or none."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder, "kdsweep"))
        if mutant is not None:
            plant(mutant, Path(folder, "kdsweep"))
        paths = filter(None, [folder, os.environ.get("PYTHONPATH")])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, str(HERE / "check.py"), benchmark]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not done.stdout.count("\n") > 1:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    rows = [row[16:] for row in done.stdout.splitlines() if row.endswith("  below")]
    return {row[:54].strip(): float(row[54:].split()[0]) for row in rows}


def main() -> int:
    """Plant one after another."""
    all_noticed = True
    planted = [m for m in mutants() if m.benchmark in (sys.argv[1:] or [m.benchmark])]
    for benchmark in dict.fromkeys(mutant.benchmark for mutant in planted):
        if found := below(None, benchmark):
            print(f"{benchmark}: below its floor without a regression: {found}", flush=True)
            all_noticed = False
    for mutant in planted:
        started = time.perf_counter()
        found = below(mutant, mutant.benchmark)
        noticed = mutant.floor in found
        all_noticed &= noticed
        said = f"{mutant.floor} = {found[mutant.floor]:.4g}" if noticed else "NOT NOTICED"
        print(f"{mutant.words:62}{said}", flush=True)
        print(f"{time.perf_counter() - started:.0f} s, below: {found}", file=sys.stderr)
    return 0 if all_noticed else 1


if __name__ == "__main__":
    sys.exit(main())
