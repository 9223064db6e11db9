"""Evaluating and post-processing the student of an experiment, with the files that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.config.metrics import NATIVE, Protocol
from kdsweep.deploy import test_split_log
from kdsweep.deploy.choosing import choose_student
from kdsweep.deploy.evaluation import Evaluation, evaluate_student, protocol_of
from kdsweep.deploy.search import Choice, Say, Search, read_choice, search_postprocessing
from kdsweep.deploy.steps import parse_steps, views_of
from kdsweep.deploy.trained_student import (
    TrainedStudent,
    check_data,
    open_student,
    open_teacher,
)
from kdsweep.deploy.windows import Windows
from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from kdsweep.data.source import Progress, SplitName
    from kdsweep.deploy.steps import Steps
    from kdsweep.models import SegmentationNetwork


@dataclass(frozen=True)
class Scored:
    """An evaluation and its files."""

    evaluation: Evaluation
    written: tuple[Path, ...]


@dataclass(frozen=True)
class Searched:
    """A search for post-processing and its files."""

    search: Search
    written: tuple[Path, ...]


def score(
    path: Path | str,
    *,
    trial: int | None = None,
    split: SplitName = "val",
    data: Sequence[str] = (),
    postprocess: str | None = None,
    teacher: Path | str | None = None,
    out: Path | None = None,
    device: str = "auto",
    accept_changed_data: bool = False,
    protocol: Protocol | None = None,
    windows: Windows | None = None,
    warn: Callable[[str], None],
    advance: Progress | None = None,
) -> Scored:
    """Score a student on a split and write the scores; see :func:`kdsweep.evaluate`.

    ``path`` is what :func:`~kdsweep.deploy.choosing.choose_student` takes. ``warn`` is told when
    the test split has been scored before, when ``auto`` is none, or of other weights, and when the
    data are others, or not known; ``advance`` what is being done, steps done and steps in all.

    Raises:
        KdsweepError: Bad input, before anything is scored.
    """
    chosen = choose_student(path, trial)
    home = chosen.folder.evaluation
    steps: Steps = ()
    choice = None
    if postprocess is not None:
        choice = read_choice(home.postprocess) if postprocess == "auto" else None
        steps = parse_steps(postprocess) if choice is None else choice.steps
    student = open_student(chosen, data=data, device=device, advance=advance)
    check_data(chosen, student.card, student.data, accept_changed_data, warn)
    if choice is not None:
        _about(choice, student, warn)
    student.split(split)
    protocol = protocol_of(student, protocol, steps, windows)
    network = _teacher_for(steps, student, teacher)
    if split == "test":
        before = test_split_log.scorings(home)
        said = test_split_log.warning(before, test_split_log.score_of_training(chosen))
        if said is not None:
            warn(said)
    found = evaluate_student(
        student,
        split,
        steps=steps,
        teacher=network,
        protocol=protocol,
        windows=windows,
        advance=advance,
    )
    if split == "test":
        test_split_log.record(home, found)
    place = home.scores(
        split,
        postprocessed=bool(steps),
        native=protocol == NATIVE,
        windows=windows is not None,
    )
    return Scored(found, tuple(found.write(place if out is None else out / place.name)))


def search(
    path: Path | str,
    *,
    trial: int | None = None,
    data: Sequence[str] = (),
    teacher: Path | str | None = None,
    device: str = "auto",
    accept_changed_data: bool = False,
    warn: Callable[[str], None] = lambda said: None,
    say: Say | None = None,
) -> Searched:
    """Try post-processing and write what pays; see :func:`kdsweep.postprocess`.

    ``path`` is what :func:`~kdsweep.deploy.choosing.choose_student` takes. ``warn`` is told when
    the data are others, or not known; ``say`` how far it is.

    Raises:
        KdsweepError: Bad input, before anything is tried.
    """
    chosen = choose_student(path, trial)
    student = open_student(chosen, data=data, device=device)
    check_data(chosen, student.card, student.data, accept_changed_data, warn)
    network, about = open_teacher(student, teacher)
    found = search_postprocessing(student, network, about, say=say)
    return Searched(found, tuple(found.write(chosen.folder.evaluation.postprocess)))


def _about(choice: Choice, student: TrainedStudent, warn: Callable[[str], None]) -> None:
    """Say what is to be known of a search's choice."""
    if not choice.steps:
        warn("the search found no post-processing that pays: these are the student's own scores")
    now = student.card.epoch
    if choice.epoch is not None and choice.epoch != now:
        warn(
            f"post-processing was searched for the weights of epoch {choice.epoch}, and these are "
            f"of epoch {now}: kdsweep postprocess searches it again"
        )


def _teacher_for(
    steps: Steps, student: TrainedStudent, checkpoint: Path | str | None
) -> SegmentationNetwork | None:
    """The teacher, where steps ask for one."""
    if not views_of(steps).teacher:
        return None
    network, about = open_teacher(student, checkpoint)
    if network is None:
        raise ConfigError(
            f"there is no teacher to take the mean with: {about}",
            path=("postprocess",),
            value=next(str(step) for step in steps if step.name == "teacher"),
        )
    return network
