"""Which trials a sweep trains: search trials drawn cohort by cohort, and their controls.

Each trial becomes a line of the ledger at once, so a driver may be killed between any two of them:
what is missing of a cohort is drawn by the next one, with the same result.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from kdsweep.config import Draw, Job, JobList, Space, control_key
from kdsweep.config.job_list import JOB
from kdsweep.config.losses import LOSSES
from kdsweep.config.sweep import ALL_LABELS, EQUAL_TIME, SELF
from kdsweep.ledger import Event
from kdsweep.ledger.events import Kind, RejectedEvent, TrialEvent
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import Trial
from kdsweep.sweep.feasibility import Feasibility
from kdsweep.sweep.study import Study

# A sampler that draws nothing but what breaks a bound, so many times in a row, is told the rest.
PATIENCE = 10


class Drawing:
    """Draws the trials of a sweep.

    A draw that breaks a bound by its architecture alone becomes no trial. The sampler learns of it
    and draws again.

    Args:
        sweep: The state; read only.
        feasibility: What may be trained.
        emit: Writes an event, which reaches state and study that way.
    """

    def __init__(
        self,
        space: Space | JobList,
        sweep: Sweep,
        study: Study,
        feasibility: Feasibility,
        emit: Callable[[Event], None],
    ) -> None:
        self._space = space
        self._sweep = sweep
        self._study = study
        self._feasibility = feasibility
        self._emit = emit
        controls = space.controls() if space.sweep.controls == "shared" else []
        self._controls = [job for job in controls if feasibility.allows(job)]
        self._shared: dict[tuple[str, str], int] = {}

    @property
    def num_shared(self) -> int:
        """Controls that stand for all trials with their student's architecture."""
        return len(self._controls)

    def begin(self) -> None:
        """Write the shared controls, and what a killed driver has left out of the last cohort."""
        trials = self._sweep.trials
        # They are the first trials on their data. A driver killed in between has written some.
        current = [t.number for t in trials.values() if t.is_control and not t.is_outdated]
        for index, job in enumerate(self._controls):
            number = current[index] if index < len(current) else len(trials)
            if number not in trials:
                self._emit(self._event(number, Kind.CONTROL, Draw({}, {}, job)))
            self._shared[_kind_of(job), control_key(job)] = number
        self._finish()

    def draw_cohort(self) -> None:
        """Draw the first trial of a new cohort, then its siblings."""
        number = len(self._sweep.trials)
        draw = self._draw(number, partial(self._study.ask, number))
        assert draw is not None
        self._add_trial(number, draw)
        self._draw_siblings(number)

    def _draw(
        self, number: int, ask: Callable[..., Draw | None], drawn_with: int | None = None
    ) -> Draw | None:
        """Ask until a draw keeps to the static bounds."""
        for patience in range(PATIENCE, -1, -1):
            draw = ask(feasible=patience == 0)
            if draw is None:
                return None
            excess = self._feasibility.excess(draw.job)
            if all(value <= 0 for value in excess.values()):
                return draw
            assert patience, draw
            self._emit(
                RejectedEvent(
                    number=number,
                    label=draw.job.label,
                    student=draw.job.student.label,
                    params=draw.params,
                    values=draw.values,
                    drawn_with=drawn_with,
                    excess=excess,
                    first=draw.first,
                )
            )
        raise AssertionError

    def _finish(self) -> None:
        """Draw what a driver that was killed meanwhile has left out of the last cohort."""
        trials = self._sweep.trials.values()
        search = [trial for trial in trials if not trial.is_control and not trial.is_outdated]
        if not search:
            return
        self._pair(search[-1])
        first = search[-1].number if search[-1].drawn_with is None else search[-1].drawn_with
        # A cohort that has begun stays as it is: its checkpoints know no further student.
        if not any(trial.attempt for trial in self._sweep.cohort(first)):
            self._draw_siblings(first)

    def _draw_siblings(self, first: int) -> None:
        leader = self._sweep.trials[first]
        wanted = self._sweep.header.students_per_teacher - 1
        if wanted == 0 or _is_reciprocal(leader.job):
            return
        drawn = sum(trial.drawn_with == first for trial in self._sweep.trials.values())
        for _ in range(drawn, min(wanted, drawn + self._sweep.num_undrawn)):
            number = len(self._sweep.trials)
            draw = self._draw(
                number,
                partial(self._study.ask_sibling, number, leader.params),
                drawn_with=first,
            )
            if draw is None:
                return
            self._add_trial(number, draw, drawn_with=first)

    def _add_trial(self, number: int, draw: Draw, drawn_with: int | None = None) -> None:
        job = draw.job.model_dump(mode="json")
        # In mutual learning the teacher learns from its student, so it can have no other.
        rides_with = None if _is_reciprocal(job) else drawn_with
        controls: dict[str, int] = {}
        if self._space.sweep.controls == "paired":
            following = itertools.count(number + 1)
            for kind, job_of in self._control_jobs(draw.job, draw.params).items():
                known = self._control_of(job_of, number if rides_with is None else rides_with)
                controls[kind] = next(following) if known is None else known
        else:
            kinds = ("", *self._space.sweep.further_controls)
            keys = {kind: (kind, control_key(draw.job)) for kind in kinds}
            controls = {k: self._shared[key] for k, key in keys.items() if key in self._shared}
        event = self._event(
            number,
            Kind.SEARCH,
            draw,
            control=controls.pop("", None),
            further=controls,
            rides_with=rides_with,
            drawn_with=drawn_with,
            at_random=self._study.at_random,
        )
        self._emit(event)
        self._pair(self._sweep.trials[number])

    def _control_of(self, job: Job, cohort: int) -> int | None:
        """The control in a cohort that is this job: siblings may differ in losses only.

        One with all labels trains apart, and stands for all trials that differ in losses only.
        """
        every = list(self._sweep.trials.values())
        if not job.data.all_labels:
            every = self._sweep.cohort(cohort) if cohort in self._sweep.trials else []
        for trial in every:
            if trial.is_control and not trial.is_outdated and _same(trial.job, job):
                return trial.number
        return None

    def _pair(self, trial: Trial) -> None:
        """Give a search trial its own controls, unless it has them."""
        if self._space.sweep.controls != "paired":
            return
        job = Job.model_validate_json(json.dumps(trial.job))
        jobs = self._control_jobs(job, trial.params)
        for kind, number in {"": trial.control, **trial.further}.items():
            if number not in self._sweep.trials:
                assert number == len(self._sweep.trials), trial
                draw = Draw({}, {}, jobs[kind])
                event = self._event(number, Kind.CONTROL, draw, rides_with=trial.cohort)
                if kind == EQUAL_TIME:  # it trains on after its pair has ended
                    label = f"{event.label}, {draw.job.train.epochs} epochs"
                    event = msgspec.structs.replace(event, label=label, rides_with=None)
                elif kind == ALL_LABELS:
                    event = msgspec.structs.replace(event, rides_with=None)
                self._emit(event)

    def _control_jobs(self, job: Job, params: Mapping[str, Any]) -> dict[str, Job]:
        """The controls that stand beside a job, by kind; the first one has no teacher at all."""
        jobs = {"": job.as_control()}
        if SELF in self._space.sweep.further_controls:
            jobs[SELF] = job.as_self_taught()
        if EQUAL_TIME in self._space.sweep.further_controls:
            epochs = self._sweep.header.equal_time[params[JOB]]["epochs"]
            jobs[EQUAL_TIME] = job.as_equal_time(int(epochs))
        if ALL_LABELS in self._space.sweep.further_controls and job.data.leaves_labels_out:
            jobs[ALL_LABELS] = job.as_all_labels()
        return jobs

    def _event(
        self,
        number: int,
        kind: Kind,
        draw: Draw,
        *,
        control: int | None = None,
        further: Mapping[str, int] | None = None,
        rides_with: int | None = None,
        drawn_with: int | None = None,
        at_random: Sequence[str] = (),
    ) -> TrialEvent:
        job = draw.job
        return TrialEvent(
            trial=number,
            kind=kind,
            label=job.label,
            student=job.student.label,
            teacher=None if job.teacher is None else job.teacher.label,
            params=draw.params,
            values=draw.values,
            job=job.model_dump(mode="json"),
            control=control,
            further=dict(further or {}),
            rides_with=rides_with,
            drawn_with=drawn_with,
            at_random=list(at_random),
            first=draw.first,
        )


def _kind_of(job: Job) -> str:
    if job.data.all_labels:
        return ALL_LABELS
    return SELF if job.is_self_taught else ""


def _same(stored: Mapping[str, Any], job: Job) -> bool:
    """Return whether a job of the ledger, which an older version may have written, is this one."""
    return Job.model_validate_json(json.dumps(stored)) == job


def _is_reciprocal(job: Mapping[str, Any]) -> bool:
    """Return whether the teacher learns from its student as well."""
    terms = {name: term for name, term in job["distill"].items() if name in LOSSES}
    return job["teacher"] is not None and any(
        LOSSES.get(name).reciprocal and term is not None and term.get("weight", 0) > 0
        for name, term in terms.items()
    )
