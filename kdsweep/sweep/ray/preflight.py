"""What workers do before the first trial: check the jobs, prepare the data, import what trains.

Importing torch and its companions takes a core up to ten seconds. So the checks that need them do
not run in the driver but in the worker that trains the first trial afterwards, while the other
workers import them too: each slot's first Tune trial is a preflight task.

A plain Ray task would be simpler, and slower. Ray keeps processes that have run a task apart from
those for actors (seen on 2.60, with equal resources and environments), so a trial cannot have the
process in which a task has imported torch. In eight pairs of sweeps, in turns, on two cores, the
first epoch's report came 3 to 6 s later with a task before the trials (medians: 25.4 s after the
command, 20.2 s this way). A task beside workers that import meanwhile is no slower on a CPU
(20.5 s), but needs these Tune trials too, and on a GPU it would hold the share that the first trial
waits for.

And no trial starts before every worker is up: Ray Tune gives a worker that comes free to a trial
whose own worker is still starting, and drops that one, so that short trials would keep a sweep on a
single slot.
"""

from __future__ import annotations

import atexit
import base64
import gc
import importlib
import json
import os
import pickle
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from kdsweep.config import Job
from kdsweep.disk import disk_problem
from kdsweep.errors import KdsweepError, MachineError, check_all
from kdsweep.pulse import Pulse

# A worker may never come up (a cluster that others use too); trials then start without it.
PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.05


Measure = Literal["largest", "each"]


@dataclass(frozen=True)
class PreflightTask:
    """Something a worker does before its first trial.

    Attributes:
        slot: Number of the slot, from 0.
        jobs: Jobs to check and prepare, as JSON; empty for a worker that only imports.
        measure: Whether to time a few steps: of the ``largest`` of them, or of ``each``.
        students: Jobs whose students' static costs are wanted, as JSON.
        num_heads: Students and controls that a teacher has at once, for what memory they need.
        teachers: What is known of trained teachers already; ``None`` where none is to be scored.
    """

    slot: int
    jobs: tuple[dict[str, Any], ...] = ()
    measure: Measure | None = None
    students: tuple[dict[str, Any], ...] = ()
    num_heads: int = 1
    teachers: tuple[dict[str, Any], ...] | None = None


class Preflight:
    """Hands out one task for each slot, and says when the trials may begin.

    Args:
        jobs: Jobs that together show every choice of a space.
        slots: Trials at a time.
        measure: Whether to time a few steps: of the ``largest`` job, or of ``each``.
        students: Jobs whose students' static costs are wanted.
        num_heads: Students and controls that a teacher has at once.
        teachers: What is known of the jobs' trained teachers already, which are not scored again.
        on_stage: Called with the name of each stage that a worker begins.
        on_worker: Called with each worker's machine and niceness.
        clock: Source of monotonic time.

    Attributes:
        data: What ``prepare`` returned; ``None`` before it has.
        measured: What ``measure`` returned; ``None`` before it has, or if it was not asked to.
        static_costs: Those of each of ``students``, in their order.
        warning: What ``check_memory`` warns of; ``None`` if there is nothing.
        network_bytes: Of the largest teacher and of the largest student, on the disk.
        error: Why nothing can start.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        slots: int,
        *,
        measure: Measure | None = None,
        students: Sequence[Job] = (),
        num_heads: int = 1,
        teachers: Sequence[dict[str, Any]] = (),
        on_stage: Callable[[str], None] = lambda name: None,
        on_worker: Callable[[str, int], None] = lambda host, niceness: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        checked, costed = (
            tuple(job.model_dump(mode="json") for job in j) for j in (jobs, students)
        )
        known = tuple(teachers) if any(job.distill.checkpoint for job in jobs) else None
        first = PreflightTask(0, checked, measure, costed, num_heads, known)
        self._tasks = [first, *(PreflightTask(slot) for slot in range(1, slots))]
        self._handed_out = 0
        self._missing = slots
        self._clock = clock
        self._on_stage = on_stage
        self._on_worker = on_worker
        self._prepared_at: float | None = None
        self.data: dict[str, Any] | None = None
        self.measured: dict[str, Any] | None = None
        self.static_costs: list[dict[str, float]] = []
        self.warning: str | None = None
        self.network_bytes: Sequence[int] = (0, 0)
        self.error: KdsweepError | None = None

    def next_task(self) -> PreflightTask | None:
        """Return the next task, or ``None`` if all have been handed out."""
        if self._handed_out == len(self._tasks):
            return None
        self._handed_out += 1
        return self._tasks[self._handed_out - 1]

    def started(self, task: PreflightTask) -> None:
        """Take note that a worker is up."""
        self._missing -= 1

    def reported(self, task: PreflightTask, result: dict[str, Any]) -> bool:
        """Take what a worker sent.

        Args:
            task: The task.
            result: ``{"prepared": …, "measured": …, "static_costs": …, "warning": …}``,
                ``{"refused": …}``, ``{"ready": true}``, ``{"stage": …}`` or
                ``{"host": …, "niceness": …}``.

        Returns:
            Whether the worker goes on to trials.
        """
        if "stage" in result:
            self._on_stage(result["stage"])
        elif "niceness" in result:
            self._on_worker(result["host"], result["niceness"])
        elif "refused" in result:
            self.error = restore_error(result["refused"])
        elif "prepared" in result:
            self.data, self.measured = result["prepared"], result["measured"]
            self.static_costs, self.warning = result["static_costs"], result["warning"]
            self.network_bytes = result["network_bytes"]
            self._prepared_at = self._clock()
        return self.is_over

    def crashed(self, task: PreflightTask, message: str) -> None:
        """Take in that a worker died: a worry only if it was the one that checks."""
        if task.jobs:
            self.error = KdsweepError(f"the worker that prepared the data died: {message}")
        else:
            self._missing -= 1

    @property
    def is_over(self) -> bool:
        """Whether the trials may begin."""
        if self._prepared_at is None:
            return False
        return self._missing <= 0 or self._clock() - self._prepared_at > PATIENCE_SECONDS


# ---------------------------------------------------------------------------------------------
# In the worker


def run_task(
    runner: str,
    jobs: Sequence[dict[str, Any]],
    measure: Mapping[str, Any] | None = None,
    students: Sequence[dict[str, Any]] = (),
    gpus: float = 0.0,
    num_heads: int = 1,
    teachers: Mapping[str, Any] | None = None,
    pulse: Pulse | None = None,
) -> Iterator[dict[str, Any]]:
    """Import the runner, check and prepare jobs if there are any, then wait to be relieved.

    Args:
        runner: Module with what workers call, like :mod:`kdsweep.trial`.
        jobs: The jobs, as JSON.
        measure: What to tell ``measure`` about the resources of a trial; it is not called if left
            out.
        students: Jobs whose students' static costs are wanted, as JSON.
        gpus: A trial's share of a GPU; 0 where there is none.
        num_heads: Students and controls that a teacher has at once.
        teachers: What to tell ``score_teachers``; it is not called if left out.
        pulse: Told of each job that is checked, and of each frame that is prepared.

    Yields:
        What :meth:`Preflight.reported` takes.
    """
    pulse = pulse or Pulse()
    yield {"host": socket.gethostname(), "niceness": os.nice(0)}
    try:
        module = load_runner(runner)
        if jobs:
            checked = _as_jobs(jobs)
            yield {"stage": "networks"}
            check_all(module.check_job, pulse.along("jobs", checked))
            yield {"stage": "data"}
            pulse("")  # the jobs are no part of it
            data = module.prepare(checked, pulse)
            if teachers is not None:
                yield {"stage": "teachers"}
                pulse("")
                data["teachers"] = module.score_teachers(checked, **teachers)
            if gpus or measure is not None or students:
                yield {"stage": "costs"}
                pulse("")
            # Before steps are measured, which would run out of memory without saying as much.
            warning = module.check_memory(checked, gpus, num_heads) if gpus else None
            measured = None if measure is None else module.measure(checked, **measure)
            costs = (
                module.static_costs(_as_jobs(students), len(data["classes"])) if students else []
            )
            yield {
                "prepared": data,
                "measured": measured,
                "static_costs": costs,
                "warning": warning,
                "network_bytes": module.network_bytes(checked),
            }
    except Exception as error:
        yield {"refused": keep_error(error)}
    while True:
        yield {"ready": True}
        time.sleep(_POLL_SECONDS)


def _as_jobs(jobs: Sequence[dict[str, Any]]) -> list[Job]:
    return [Job.model_validate_json(json.dumps(job)) for job in jobs]


def load_runner(name: str) -> ModuleType:
    """Return the module with what workers call, like :mod:`kdsweep.trial`.

    What it imports stays as long as the process, so no collection of garbage looks through it:
    neither meanwhile nor after each trial.
    """
    if name not in sys.modules:
        gc.disable()
        try:
            importlib.import_module(name)
        finally:
            gc.freeze()
            gc.enable()
            atexit.register(gc.unfreeze)  # extensions complain of what they cannot clean up
    return sys.modules[name]


def keep_error(error: Exception) -> str:
    """Return an error as text that :func:`restore_error` understands.

    What kdsweep raises on purpose crosses the border as it is. Of everything else only the words:
    its class may not exist, or not unpickle, in the driver.
    """
    if not isinstance(error, KdsweepError):
        text = "".join(traceback.format_exception(error))
        if problem := disk_problem(error):
            error = MachineError("{}\n  try:     {}".format(*problem))
        else:
            error = KdsweepError(f"checking the jobs and preparing the data failed\n{text}")
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return base64.b64encode(pickle.dumps(error)).decode("ascii")


def restore_error(text: str) -> KdsweepError:
    """Return the error that a worker of this sweep kept."""
    error = pickle.loads(base64.b64decode(text))
    assert isinstance(error, KdsweepError), type(error)
    return error
