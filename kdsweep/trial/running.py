"""Training jobs in their folders; it can be ended and begun again at any time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from kdsweep.config.metrics import LABELLED, MIOU, MiouOver
from kdsweep.data import open_data
from kdsweep.errors import NonFiniteLossError, StepError, TrainingError
from kdsweep.models import choose_device
from kdsweep.pulse import SAVING, Pulse
from kdsweep.training.report import EpochReport
from kdsweep.trial.cohort import Cohort, build_cohort
from kdsweep.trial.cohort_checkpoint import CohortCheckpoint
from kdsweep.trial.freed_memory import keep_freed_memory
from kdsweep.trial.inference import measure_costs
from kdsweep.trial.student_folder import StudentFolder

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.ledger.layout import TrialFolder

_LOGGER = logging.getLogger(__name__)

EpochOutcome = EpochReport | TrainingError
"""What an epoch gave a student: its report, or why it cannot go on."""

_ERRORS = {cls.__name__: cls for cls in (NonFiniteLossError, StepError)}


def run_job(
    job: Job,
    folder: TrialFolder,
    *,
    device: str = "auto",
    num_threads: int | None = None,
    keep_checkpoints: int = 2,
    metric: str = MIOU,
) -> Iterator[EpochReport]:
    """Train a job in a folder, going on from its last checkpoint if there is one.

    :func:`run_jobs` with a single job; see there.

    Yields:
        The report of each epoch.
    """
    outcomes = run_jobs(
        [job],
        [folder],
        device=device,
        num_threads=num_threads,
        keep_checkpoints=keep_checkpoints,
        metric=metric,
    )
    with closing(outcomes):
        for outcome in outcomes:
            report = outcome[0]
            assert isinstance(report, EpochReport), "an only student's error is raised"
            yield report


def run_jobs(
    jobs: Sequence[Job],
    folders: Sequence[TrialFolder],
    *,
    cohort_dir: TrialFolder | None = None,
    device: str = "auto",
    num_threads: int | None = None,
    keep_checkpoints: int = 2,
    metric: str = MIOU,
    score_test: bool = False,
    miou_over: MiouOver = LABELLED,
    leaving: Callable[[], Collection[int]] = tuple,
    pulse: Pulse | None = None,
) -> Generator[dict[int, EpochOutcome]]:
    """Train jobs that share a teacher in one cohort, going on from its last checkpoint.

    The reports of an epoch are stored inside its checkpoint. A resumed cohort yields them again
    first, in case they were lost on their way to the consumer, and then only new epochs. Closing
    the generator frees networks and loader processes.

    Args:
        jobs: What to train; see :func:`~kdsweep.trial.cohort.build_cohort`. Of a cohort that goes
            on, those of its students that have not ended.
        folders: Where each job's best student, samples and checkpoints go.
        cohort_dir: Where checkpoints of what the students share go; the first of the folders if
            left out. The same whenever the cohort goes on.
        device: ``auto`` is CUDA where there is any, else the CPU.
        num_threads: CPU threads; the process's setting if left out.
        keep_checkpoints: Checkpoints left in the folders, at least 1.
        metric: Key of the report that says which epoch is best (higher is better).
        score_test: Score each best student on the test split, if there is one, after the last
            epoch; its report then has ``test/miou`` and the like.
        miou_over: The classes that count in mIoU, in a cohort that begins; one that goes on keeps
            to those it began with, so that all its epochs compare.
        leaving: Asked after each epoch which jobs end there, by their place in ``jobs``.
        pulse: Told of each step, and of what else takes time.

    Yields:
        After each epoch what it gave each job that still trains, by its place in ``jobs``. One
        that diverged, or whose step failed, is not there again; the others go on.

    Raises:
        CheckpointError: The folders hold checkpoints of other jobs.
        TrainingError: The teacher or the last student diverged, or steps of all students failed.
        ConfigError: There is no such device.
    """
    cohort_dir = cohort_dir or folders[0]
    pulse = pulse or Pulse()
    students = {
        place: StudentFolder(job, folder, cohort_dir)
        for place, (job, folder) in enumerate(zip(jobs, folders, strict=True))
    }
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    chosen = choose_device(device)
    keep_freed_memory(chosen)
    checkpoint = CohortCheckpoint(cohort_dir, keep_checkpoints)
    num_epochs = jobs[0].train.epochs
    pulse("reading the checkpoint")
    saved = checkpoint.load([(s.job, s.folder) for s in students.values()])
    if saved is not None:
        shared, states = saved
        for student, state in zip(students.values(), states, strict=True):
            student.load_state(state)
        reported = _outcomes(states)
        if reported:
            _LOGGER.info("goes on after epoch %d", shared["epochs_done"])
            failed = {place: o for place, o in reported.items() if isinstance(o, TrainingError)}
            if len(failed) == len(reported):
                raise next(iter(failed.values()))
            yield reported
            if shared["epochs_done"] >= num_epochs:
                return
            left = set(failed).union(leaving())
            states = [state for place, state in enumerate(states) if place not in left]
            students = {place: s for place, s in students.items() if place not in left}
            if not students:
                return
    places = list(students)
    pulse("opening the data")
    data = open_data(jobs[0].data, pulse)
    pulse("building the networks")
    cohort = build_cohort(
        [jobs[place] for place in places], data, device=chosen, over=miou_over, pulse=pulse
    )
    for student in students.values():
        student.judge_anew(cohort.data)
    try:
        pulse("measuring the networks")
        measure_costs(cohort, [jobs[p] for p in places], [folders[p] for p in places])
        if saved is not None:
            cohort.engine.load_state_dict(
                {**shared, "students": [state["learner"] for state in states]}
            )
            saved = None
            del shared, states
        for values in cohort.engine.head_start():
            pulse(SAVING)
            _save(checkpoint, cohort, students, {})
            _LOGGER.info(_head_start_line(cohort, values))
        for found in cohort.engine.epochs():
            outcomes: dict[int, EpochOutcome] = dict(zip(students, found, strict=True))
            pulse(SAVING, epoch=cohort.engine.epochs_done)
            for index, (place, outcome) in enumerate(outcomes.items()):
                if isinstance(outcome, EpochReport):
                    students[place].take(outcome, metric, cohort, index)
                    if score_test and outcome.epoch == num_epochs:
                        outcomes[place] = students[place].with_test_scores(outcome, cohort, index)
            pulse(SAVING, epoch=cohort.engine.epochs_done)
            _log_and_save(checkpoint, cohort, students, outcomes)
            yield outcomes
            left = {place for place, o in outcomes.items() if not isinstance(o, EpochReport)}
            left.update(leaving())
            cohort.engine.leave([i for i, place in enumerate(students) if place in left])
            students = {place: s for place, s in students.items() if place not in left}
    finally:
        cohort.close()
        del cohort
        gc.collect()
        if chosen.type == "cuda":
            torch.cuda.empty_cache()


def _outcomes(states: Sequence[Mapping[str, Any]]) -> dict[int, EpochOutcome]:
    """Return what the epoch of a checkpoint gave each student; empty before the first."""
    outcomes: dict[int, EpochOutcome] = {}
    for place, state in enumerate(states):
        if state.get("error") is not None:
            error = state["error"]
            outcomes[place] = _ERRORS[error["kind"]](error["message"], error["traceback"])
        elif state["report"] is not None:
            outcomes[place] = EpochReport.from_json(state["report"])
    return outcomes


def _log_and_save(
    checkpoint: CohortCheckpoint,
    cohort: Cohort,
    students: Mapping[int, StudentFolder],
    outcomes: Mapping[int, EpochOutcome],
) -> None:
    lines = {
        place: students[place].look_at(outcome) if isinstance(outcome, EpochReport) else []
        for place, outcome in outcomes.items()
    }
    _save(checkpoint, cohort, students, outcomes)
    alone = len(students) == 1
    for place, outcome in outcomes.items():
        if not isinstance(outcome, EpochReport):
            why = "\n".join(text for text in (str(outcome), outcome.traceback) if text)
            students[place].say(f"leaves: {why}", level=logging.ERROR, alone=alone)
        for number, line in enumerate(lines[place]):
            level = logging.WARNING if number else logging.INFO
            students[place].say(line, level=level, alone=alone)


def _save(
    checkpoint: CohortCheckpoint,
    cohort: Cohort,
    students: Mapping[int, StudentFolder],
    outcomes: Mapping[int, EpochOutcome],
) -> None:
    """Save where everything stands; of a student that cannot go on only why, which ends it.

    After the last epoch that is the reports, for whoever has not heard of them, and little else.
    """
    engine = cohort.engine
    state = engine.end_state() if engine.is_over else engine.state_dict()
    own = []
    for (place, student), learner in zip(students.items(), state.pop("students"), strict=True):
        outcome = outcomes.get(place)
        parts = student.state()
        if isinstance(outcome, TrainingError):
            parts["error"] = {
                "kind": type(outcome).__name__,
                "message": str(outcome),
                "traceback": outcome.traceback,
            }
        else:
            report = None if outcome is None else outcome.to_json()
            parts |= {"report": report, "learner": learner}
        own.append((student.job, student.folder, parts))
    checkpoint.save(engine.epochs_done, state, own)


def _head_start_line(cohort: Cohort, values: Mapping[str, float]) -> str:
    teacher = cohort.engine.teacher
    assert teacher is not None
    done = f"{teacher.head_start_done}/{teacher.head_start_epochs}"
    return f"head start {done}  {teacher.head_start_s:.1f} s  teacher loss {values['loss']:.4g}"
