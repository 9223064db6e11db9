"""Which student is meant: of a named trial, of an experiment's best one, or a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsweep.deploy.card import Card
from kdsweep.errors import ExperimentError, ModelFileError
from kdsweep.ledger import Experiment, TrialFolder, iter_ledger
from kdsweep.ledger.checkpoints import CheckpointFolder, epoch_of
from kdsweep.ledger.events import decode_progress
from kdsweep.ledger.layout import CARD, WEIGHTS
from kdsweep.ledger.provenance import installed_versions
from kdsweep.ledger.state import Sweep

_ALLOWED = "an experiment, a trial's folder, or a student's weights with their card and job"


@dataclass(frozen=True)
class TrialProgress:
    """How far a training has come.

    Attributes:
        epochs: Epochs that it was trained for.
        stop: Why it ended, as the ledger has it; ``None`` while it has not.
    """

    epochs: int
    stop: str | None = None


@dataclass(frozen=True)
class ChosenStudent:
    """A trained student on disk.

    Attributes:
        folder: Its trial's folder, or the one that it was exported to.
        experiment: The experiment it is from; ``None`` for a training of its own.
    """

    folder: TrialFolder
    experiment: Experiment | None = None

    @property
    def is_export(self) -> bool:
        """Whether it lies in an export, of which nothing else of its trial is known."""
        return (self.folder.path / CARD).is_file()

    @property
    def best(self) -> Path:
        """Folder of its weights and card."""
        return self.folder.path if self.is_export else self.folder.best

    @property
    def weights(self) -> Path:
        """Its safetensors file."""
        return self.best / WEIGHTS

    @property
    def provenance(self) -> dict[str, Any]:
        """Experiment, trial, commit and versions, as far as they are known."""
        found: dict[str, Any] = {**installed_versions(["kdsweep"]), "trial": self.folder.path.name}
        if self.experiment is None:
            return found
        found["experiment"] = self.experiment.name
        try:
            made = json.loads(self.experiment.environment_json.read_text(encoding="utf-8"))
            code, packages = made.get("code") or {}, made.get("packages") or {}
        except (OSError, ValueError, AttributeError):
            return found
        known = {
            "trained": made.get("time"),
            "commit": code.get("commit"),
            "uncommitted_changes": code.get("dirty"),
            "kdsweep_of_training": packages.get("kdsweep"),
            "torch_of_training": packages.get("torch"),
        }
        return found | {key: value for key, value in known.items() if value is not None}

    def card(self) -> Card:
        """Its card, with where it comes from.

        Raises:
            ModelFileError: The card cannot be used.
        """
        file = self.best / CARD
        try:
            card = Card.from_json(file.read_bytes(), file)
        except OSError as error:
            raise ModelFileError(f"{file}: cannot be read ({error.strerror})") from None
        if self.is_export:  # which says so itself
            return card
        provenance = {**self.provenance, "epoch": card.epoch, "miou": card.miou}
        return card.model_copy(update={"provenance": provenance})

    def progress(self) -> TrialProgress | None:
        """How far its training has come; ``None`` where that is not known."""
        if self.experiment is None:
            saved = CheckpointFolder(self.folder.checkpoint).newest_first()
            return TrialProgress(epochs=epoch_of(saved[0])) if saved else None
        trial = state_of(self.experiment).trials.get(int(self.folder.path.name))
        return None if trial is None else TrialProgress(trial.epoch, trial.stop)


def choose_student(path: Path | str, trial: int | None = None) -> ChosenStudent:
    """The student that is meant by an experiment, a trial's folder, or a checkpoint.

    Args:
        path: An experiment; a trial's folder; a folder with a student's weights and card (``best``
            of a trial, or an export of ``torch``), or one of these two files.
        trial: Number of a trial of the experiment; the best one by the sweep's (first) metric, with
            a teacher or without, if left out.

    Raises:
        ExperimentError: There is no such experiment or trial, or it has no student yet.
        ModelFileError: It is a file that is no student, or one of ONNX.
    """
    given = Path(path).expanduser()
    folder = given.parent if given.is_file() else given
    if given.is_file() and given.name not in (WEIGHTS, CARD):
        raise ModelFileError(f"{path}: {_not_a_checkpoint(given)}")
    if folder.name == "best" and (folder / CARD).is_file():
        folder = folder.parent
    is_student = (folder / CARD).is_file() or (folder / "best" / CARD).is_file()
    if is_student and not Experiment(folder).ledger.exists():
        if trial is not None:
            raise ExperimentError(
                f"{path}: this is one student's folder\n  try:     leave --trial out"
            )
        return _of_folder(folder.resolve())
    if given.is_dir() and (graph := next(given.glob("*.onnx"), None)) is not None:
        raise ModelFileError(f"{path}: {_not_a_checkpoint(graph)}")
    experiment = Experiment.open(given)
    if trial is None:
        trial = best_trial(experiment)
    chosen = experiment.trial(trial)
    if not chosen.path.is_dir():
        there = sorted(entry.name for entry in experiment.trials.glob("[0-9]*"))
        shown = f"{there[0]} to {there[-1]}" if there else "none"
        raise ExperimentError(f"{experiment.path}: there is no trial {trial}\n  there:   {shown}")
    return _complete(ChosenStudent(chosen, experiment))


def state_of(experiment: Experiment) -> Sweep:
    """Return the state of an experiment's sweep."""
    return Sweep(iter_ledger(experiment.ledger, decode_progress))


def best_trial(experiment: Experiment) -> int:
    """Return the number of the best trial.

    Raises:
        ExperimentError: There is none yet, or its student is not here.
    """
    sweep = state_of(experiment)
    for trial in sweep.candidates():
        if _has_student(experiment, trial.number):
            return trial.number
        # Another one would be shipped under the name of the best.
        there = (t.number for t in sweep.candidates() if _has_student(experiment, t.number))
        number = next(there, None)
        other = "" if number is None else f"; --trial {number} takes the best one that is here"
        raise ExperimentError(
            f"{experiment.path}: the weights of the best student, trial {trial.number} "
            f"({trial.title}), are not here\n"
            f"  missing: {experiment.trial(trial.number).best / WEIGHTS}\n"
            f"  try:     bring its folder back{other}"
        )
    too_costly = any(t.breaks_bound for t in sweep.trials.values())
    where = " within the sweep's constraints" if too_costly else ""
    raise ExperimentError(
        f"{experiment.path}: no trial has left a student{where} yet\n"
        f"  try:     kdsweep status {experiment.path} says how it stands"
    )


def _has_student(experiment: Experiment, trial: int) -> bool:
    return (experiment.trial(trial).best / WEIGHTS).is_file()


def _of_folder(folder: Path) -> ChosenStudent:
    """The folder of one student; its experiment is above it, if it has one."""
    above = Experiment(folder.parent.parent)
    is_part = above.ledger.is_file() and above.trials == folder.parent
    return _complete(ChosenStudent(TrialFolder(folder), above if is_part else None))


def _complete(chosen: ChosenStudent) -> ChosenStudent:
    """The student, if all of it is there."""
    for needed in (chosen.folder.job_yaml, chosen.best / CARD, chosen.weights):
        if not needed.is_file():
            folder = chosen.folder.path
            raise ExperimentError(
                f"{folder}: there is no trained student, {needed.relative_to(folder)} is missing\n"
                "  try:     another trial; one that ended before its first epoch has none"
            )
    return chosen


def _not_a_checkpoint(file: Path) -> str:
    if file.suffix != ".onnx":
        return f"is no trained student\n  allowed: {_ALLOWED}"
    return (
        "is an ONNX file, without the job that says which data and batches belong to it\n"
        f"  allowed: {_ALLOWED}\n"
        "  try:     the experiment or trial that it was exported from; export.json beside the file "
        "has its score on validation frames"
    )
