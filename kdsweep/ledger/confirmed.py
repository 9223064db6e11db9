"""Which seeds of a confirmed job count, and in which order they are looked at."""

from __future__ import annotations

from kdsweep.config.job_list import JOB
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State, Trial


def pairs_in_order(sweep: Sweep, job: str, kind: str = "") -> list[tuple[Trial, Trial]]:
    """Return students and controls of a job's seeds, up to the first seed that has not ended.

    Several seeds may train at once and end out of order. Those behind one that still trains wait
    for it: what was drawn first is looked at first, however long it takes. Else a seed whose score
    has to do with its duration could be looked at sooner or later for that, and a sweep that was
    killed could look at others than one that was not. A seed of which student or control failed
    never gets a score, and is passed over.

    Args:
        sweep: The confirmation.
        job: The job's name.
        kind: Of the controls, where that is not the one without a teacher.
    """
    found = []
    drawn = (t for t in sweep.trials.values() if not t.is_control and not t.is_outdated)
    for trial in sorted((t for t in drawn if t.params.get(JOB) == job), key=lambda t: t.number):
        beside = trial.control_of(kind)
        control = None if beside is None else sweep.trials.get(beside)
        if control is None or not (trial.state.is_final and control.state.is_final):
            break
        if trial.state is control.state is State.COMPLETE:
            found.append((trial, control))
    return found
