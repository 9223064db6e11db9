"""Times steps in several processes at once, as the trials of a sweep share a machine.

Cores share their memory's bandwidth, and often their arithmetic; trials on one GPU share all of it.
So a step takes longer beside others than alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import KdsweepError
from kdsweep.training.step_cost import StepCost
from kdsweep.trial.kept_timing import KeptTimes

if TYPE_CHECKING:
    from kdsweep.config.job import Job


def measure_in_parallel(
    jobs: Sequence[Job],
    num_processes: int,
    *,
    device: str,
    num_threads: int = 1,
    seconds: float = 5.0,
    scratch: Path | None = None,
    num_frames: Sequence[tuple[int, int]] = (),
    afresh: bool = True,
) -> list[StepCost]:
    """Time steps of jobs, each in several new processes at once.

    What is measured is kept for an hour.

    Args:
        jobs: The jobs, measured one after another.
        num_processes: Processes that measure the same job at the same time.
        device: As for :func:`~kdsweep.trial.step_timing.measure_step_cost`; all share it.
        num_threads: CPU threads of each.
        seconds: Time for the steps of each job.
        scratch: Folder for checkpoints that are written to be timed and deleted again.
        num_frames: Training and validation frames of each data set, to know kept times by.
        afresh: Whether to measure even where times are kept.

    Returns:
        The mean over the processes, job by job.

    Raises:
        KdsweepError: A process failed.
    """
    options = {"device": device, "num_threads": num_threads, "seconds": seconds}
    disk = None if scratch is None else os.stat(scratch).st_dev
    how = {"num_processes": num_processes, "num_frames": num_frames, "disk": disk}
    kept = KeptTimes(jobs, how | options)
    if not afresh and (known := kept.read()):
        return known
    costs = []
    with (
        tempfile.TemporaryDirectory(prefix=".kdsweep-", dir=scratch) as folder,
        _processes(num_processes, num_threads) as processes,
    ):
        for process in processes:
            _hear(process)  # all have loaded what they need
        for job in jobs:
            order = {"job": job.model_dump(mode="json"), "scratch": folder, **options}
            for process in processes:
                _tell(process, order)
            costs.append(_mean([StepCost.from_json(_hear(process)) for process in processes]))
    kept.write(costs)
    return costs


@contextmanager
def _processes(number: int, num_threads: int) -> Iterator[list[subprocess.Popen[str]]]:
    environment = os.environ | {"OMP_NUM_THREADS": str(num_threads)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(number)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def _tell(process: subprocess.Popen[str], order: dict[str, Any]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise _broken(process) from None


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise _broken(process)
    heard: dict[str, Any] = json.loads(line)
    if "problem" in heard:
        raise _failure(heard["problem"])
    return heard


def _broken(process: subprocess.Popen[str]) -> KdsweepError:
    _, said = process.communicate()
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    return _failure(f"the process ended with exit code {process.returncode}: {last}")


def _failure(problem: str) -> KdsweepError:
    return KdsweepError(
        f"the steps of a job could not be measured: {problem}\n"
        "  try:     --no-measure plans without; a smaller train.batch_size needs less memory"
    )


def _mean(costs: Sequence[StepCost]) -> StepCost:
    first = costs[0].to_json()
    means = {
        name: statistics.fmean(getattr(cost, name) for cost in costs)
        for name, value in first.items()
        if isinstance(value, float)
    }
    return StepCost.from_json(first | means | {"num_processes": len(costs)})


def _serve() -> None:
    """Answer orders, as one of the processes."""
    from kdsweep.config import Job
    from kdsweep.trial.step_timing import measure_step_cost

    # Only the measurements go to the parent; libraries may print what they like.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        job = Job.model_validate_json(json.dumps(order.pop("job")))
        order["scratch"] = Path(order["scratch"])
        try:
            answer = measure_step_cost(job, **order).to_json()
        except KdsweepError as error:
            answer = {"problem": str(error)}
        except Exception as error:
            # What runs out of memory, for one, has a name that says more than its message.
            answer = {"problem": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
