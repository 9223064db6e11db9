"""Where everything of an experiment lies on disk; no other module spells these paths."""

from __future__ import annotations

import os
import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import ExperimentError, did_you_mean, nearest_first
from kdsweep.ledger.atomic import sync_directory

LATEST = "latest"
CONFUSION = "confusion.json"
WEIGHTS = "student.safetensors"
CARD = "student.json"
EVALUATION = "evaluation"
DATA = "data"
EXPERIMENTS = "experiments"  # where runs put their folders unless they are told otherwise


@dataclass(frozen=True)
class EvaluationFolder:
    """Scores of one trained student, and the post-processing that was searched for it.

    Attributes:
        path: The folder; trials of an experiment share it.
        stem: What the student's files are called.
    """

    path: Path
    stem: str

    def scores(
        self,
        split: str,
        *,
        postprocessed: bool = False,
        native: bool = False,
        windows: bool = False,
    ) -> Path:
        """The scores on a split as JSON; a CSV lies beside it.

        Args:
            split: ``train``, ``val`` or ``test``.
            postprocessed: Whether they are those with post-processing.
            native: Whether they are those at the size of the label files.
            windows: Whether images were looked at in windows.
        """
        ends = {"-postprocessed": postprocessed, "-native": native, "-windows": windows}
        end = "".join(text for text, there in ends.items() if there)
        return self.path / f"{self.stem}-{split}{end}.json"

    @property
    def postprocess(self) -> Path:
        """Which post-processing was tried and chosen, as JSON; a CSV lies beside it."""
        return self.path / f"{self.stem}-postprocess.json"

    @property
    def test_scorings(self) -> Path:
        """When the test split was scored, and for which students."""
        return self.path / "test-scorings.json"


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial; it also stands alone, for one job trained without a sweep."""

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
    def fence(self) -> Path:
        """Name of the newest attempt, the only one that may write here."""
        return self.path / ".attempt"

    def drafts(self) -> list[Path]:
        """Return what was half written when its process was killed; while none writes here."""
        # Without ``best`` a draft may be the only one there is.
        parts = self.best, self.job_yaml, self.inference, self.samples
        whole = [path for path in parts if path.exists()]
        drafts = [draft for path in whole for draft in self.path.glob(f".{path.name}.*")]
        return [*drafts, *self.frames.glob(".[0-9]*-*.png.*")]

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoints that the student resumes from."""
        return self.path / "checkpoint"

    @property
    def cohort(self) -> Path:
        """Folder of the checkpoints of what the students of a cohort share, its teacher above all.

        Lies in the folder of the cohort's first trial.
        """
        return self.path / "cohort"

    @property
    def best(self) -> Path:
        """Folder of the weights of the best epoch."""
        return self.path / "best"

    @property
    def confusion(self) -> Path:
        """Confusion matrices of the best epoch on the validation split; lies among its weights."""
        return self.best / CONFUSION

    @property
    def inference(self) -> Path:
        """What a frame costs the student and its teacher, and on what that was measured."""
        return self.path / "inference.json"

    @property
    def samples(self) -> Path:
        """Sheet of validation images with their predictions."""
        return self.path / "samples.png"

    @property
    def frames(self) -> Path:
        """Folder of the sheet's pictures, one file each."""
        return self.path / "frames"

    @property
    def wandb(self) -> Path:
        """Runs of Weights & Biases, of a job trained without a sweep."""
        return self.path / "wandb"

    def data(self, fingerprint: str) -> Path:
        """What data were that it trained on; of a sweep's trial that lies in the experiment."""
        experiment = Experiment(self.path.parent.parent)
        home = experiment.path if experiment.ledger.is_file() else self.path
        return home / DATA / f"{fingerprint}.json"

    @property
    def data_used(self) -> Path:
        """Names of the data that it was trained on so far, of a job trained without a sweep."""
        return self.path / DATA / "used.json"

    @property
    def evaluation(self) -> EvaluationFolder:
        """Scores of the best student: of a sweep's trial in the experiment, else in this folder.

        A sweep's exports count like its trials, so that one record holds all looks at the test
        split.
        """
        experiment = Experiment(self.path.parent.parent)
        stems = {experiment.trials: "trial", experiment.exports: "export"}
        if experiment.ledger.is_file() and self.path.parent in stems:
            stem = f"{stems[self.path.parent]}-{self.path.name}"
            return EvaluationFolder(experiment.evaluation, stem)
        return EvaluationFolder(self.path / EVALUATION, "student")

    def frame(self, index: int, what: str) -> Path:
        """One picture of a validation frame, at the best epoch.

        Args:
            index: Number of the frame in the validation split.
            what: ``image``, an RGB PNG; or ``truth``, ``teacher`` or ``student``, PNGs whose pixels
                are class ids (255 = void) and whose palette has the classes' colours.
        """
        return self.frames / f"{index:05d}-{what}.png"

    def frame_pictures(self) -> dict[int, dict[str, Path]]:
        """The pictures that are there, by frame and by what they show."""
        found: dict[int, dict[str, Path]] = {}
        for path in sorted(self.frames.glob("[0-9]*-*.png")):
            index, _, what = path.stem.partition("-")
            found.setdefault(int(index), {})[what] = path
        return found


@dataclass(frozen=True)
class Experiment:
    """The folder of one sweep, absolute, with ``latest`` resolved."""

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

        Of the address of a copy in an object store it is what the copy has for reports, fetched
        anew.

        Raises:
            ExperimentError: There is no such folder, or it is not an experiment.
        """
        from kdsweep.ledger.object_store import cache_of, fetched, uri_of

        uri = uri_of(path)
        if uri is not None:
            return cls(fetched(uri, "results", cache_of(uri)).resolve())
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
    def priors(self) -> Path:
        """Trials of earlier sweeps that the sampler knows of, as their lines of the ledger."""
        return self.path / "priors.jsonl"

    @property
    def storage_json(self) -> Path:
        """Where its copy in an object store is, if it has one."""
        return self.path / "storage.json"

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
    def wandb_sweep(self) -> Path:
        """Id of the W&B sweep that the runs belong to, if there is one."""
        return self.wandb / "sweep.json"

    def tracker(self, name: str) -> Path:
        """Return what a tracker other than W&B writes."""
        return self.path / "tracking" / name

    @property
    def report(self) -> Path:
        """Tables and pages."""
        return self.path / "report"

    def data(self, fingerprint: str) -> Path:
        """What data were: names and digests of their files, as JSON."""
        return self.path / DATA / f"{fingerprint}.json"

    @property
    def evaluation(self) -> Path:
        """Scores of trained students, and what was searched for them."""
        return self.path / EVALUATION

    @property
    def exports(self) -> Path:
        """Parent of the folders of exported students."""
        return self.path / "exports"

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
    """Names the experiments beside ``path`` and under ``experiments``, nearest first.

    The latter only where a bare name was given. A second line asks after one that is most likely
    meant.
    """
    parent = path.parent
    names = _experiments_in(parent)
    elsewhere = parent / EXPERIMENTS
    if parent.resolve() == Path.cwd():
        names |= {f"{EXPERIMENTS}/{name}" for name in _experiments_in(elsewhere)}
    if not names:
        return f"  try:     kdsweep run SPACE.yaml starts one; {parent} holds none"
    newest_first = sorted(names, key=lambda name: name.rpartition("/")[2], reverse=True)
    by_end = {name.rpartition("/")[2]: name for name in newest_first}
    ordered = [by_end[end] for end in nearest_first(path.name, by_end)]
    more = f", … ({len(names)} in all)" if len(names) > 6 else ""
    lines = [f"  there:   {', '.join(ordered[:6])}{more}"]
    linked = [LATEST] if (parent / LATEST).exists() else []
    meant = did_you_mean(path.name, [*by_end, *linked])
    if meant is not None:
        lines.append(f"  try:     {meant}")
    return "\n".join(lines)


def _experiments_in(parent: Path) -> set[str]:
    found = parent.glob("*/ledger.jsonl") if parent.is_dir() else ()
    return {path.parent.name for path in found} - {LATEST}
