"""Where everything of an experiment lies on disk; no other module spells these paths."""

from __future__ import annotations

import os
import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import ExperimentError, nearest_first
from kdsweep.store.atomic import sync_directory

LATEST = "latest"


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial; it also stands alone, for one job trained without a sweep.

    Attributes:
        path: The folder.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).absolute())

    def create(self) -> TrialFolder:
        """Make the folder if it is not there yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    @property
    def job_yaml(self) -> Path:
        """The trial's job; ``kdsweep train`` runs it again."""
        return self.path / "job.yaml"

    @property
    def log(self) -> Path:
        """All that the trial's process printed."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the trial."""
        return self.path / ".lock"

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoints that training resumes from."""
        return self.path / "checkpoint"

    @property
    def best(self) -> Path:
        """Folder of the weights of the best epoch."""
        return self.path / "best"

    @property
    def samples(self) -> Path:
        """Sheet of validation images with their predictions."""
        return self.path / "samples.png"


@dataclass(frozen=True)
class Experiment:
    """The folder of one sweep.

    Attributes:
        path: The folder, absolute, with ``latest`` resolved.
    """

    path: Path

    @classmethod
    def create(cls, parent: Path, name: str) -> Experiment:
        """Make a new folder ``<time>-<name>`` under ``parent`` and point ``latest`` to it.

        An experiment that is already there is never written into: a second one of the same name in
        the same second gets a number.
        """
        parent = Path(parent).absolute()
        parent.mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "sweep"
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}"
        for number in range(1, 1000):
            path = parent / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            break
        else:
            raise ExperimentError(f"{parent}: 999 experiments named {stem} are already there")
        experiment = cls(path)
        experiment.trials.mkdir()
        _point_latest(parent, path.name)
        sync_directory(parent)
        return experiment

    @classmethod
    def open(cls, path: Path | str) -> Experiment:
        """The experiment in a folder that is already there.

        Raises:
            ExperimentError: There is no such folder, or it is not an experiment.
        """
        path = Path(path).expanduser()
        if not path.exists():
            raise ExperimentError(f"{path}: there is no such experiment\n{_siblings(path)}")
        experiment = cls(path.resolve())
        if not experiment.ledger.is_file():
            raise ExperimentError(
                f"{path}: this is not an experiment, it has no {experiment.ledger.name}\n"
                f"{_siblings(path / 'x' if path.is_dir() else path)}"
            )
        return experiment

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def space_yaml(self) -> Path:
        """The search space as it was given, comments and all."""
        return self.path / "space.yaml"

    @property
    def spec_json(self) -> Path:
        """The search space as it was understood, with overrides and defaults."""
        return self.path / "spec.json"

    @property
    def environment_json(self) -> Path:
        """What the sweep ran with and on."""
        return self.path / "environment.json"

    @property
    def ledger(self) -> Path:
        """The record of the sweep."""
        return self.path / "ledger.jsonl"

    @property
    def study_db(self) -> Path:
        """Mirror of the Optuna study, for optuna-dashboard; never read back."""
        return self.path / "study.db"

    @property
    def wandb(self) -> Path:
        """Runs of Weights & Biases."""
        return self.path / "wandb"

    @property
    def report(self) -> Path:
        """Tables and pages."""
        return self.path / "report"

    @property
    def trials(self) -> Path:
        """Parent of the trials' folders."""
        return self.path / "trials"

    def trial(self, number: int) -> TrialFolder:
        """The folder of trial ``number``, whether it is there or not."""
        return TrialFolder(self.trials / f"{number:04d}")


def _point_latest(parent: Path, name: str) -> None:
    """Let ``latest`` name the newest experiment, in one step that readers cannot see half done."""
    link = parent / LATEST
    temporary = parent / f".{LATEST}.{os.getpid()}"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name, target_is_directory=True)
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        warnings.warn(
            f"{link} could not be pointed to {name} ({error}); use the folder's own name",
            stacklevel=3,
        )


def _siblings(path: Path) -> str:
    """One line that names the experiments beside ``path``, nearest first."""
    parent = path.parent
    found = (
        sorted((p.parent.name for p in parent.glob("*/ledger.jsonl")), reverse=True)
        if parent.is_dir()
        else []
    )
    if not found:
        return f"  try:     kdsweep run SPACE.yaml starts one; {parent} holds none"
    names = nearest_first(path.name, [n for n in found if n != LATEST])
    more = f", … ({len(names)} in all)" if len(names) > 6 else ""
    return f"  there:   {', '.join(names[:6])}{more}"
