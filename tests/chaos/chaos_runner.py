"""Made-up trainings that leave on the disk what real ones leave, in the order in which they do.

Weights and checkpoints have some ballast, so that a kill can fall into their writing. Each epoch
leaves a line in ``trained.txt`` once its checkpoint is in place.
"""

import json
import os
import time
from functools import partial

from fake_training import (  # noqa: F401
    check_job,
    check_memory,
    costs_of,
    measure,
    network_bytes,
    prepare,
    score_teachers,
    static_costs,
    value_of,
)

from kdsweep.ledger.atomic import new_directory, write_text
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.training.report import EpochReport

BALLAST = 300_000


def _fill(folder, state):
    (folder / "tensors").write_bytes(os.urandom(BALLAST))
    (folder / "state.json").write_text(json.dumps(state))


def _newest(shared, own):
    """The newest epoch that all parts are there of, and the states of its students."""
    for path in shared.newest_first():
        try:
            return [json.loads((o.path / path.name / "state.json").read_text()) for o in own]
        except OSError:
            continue
    return None


def run_jobs(jobs, folders, *, cohort_dir=None, metric, leaving=tuple, **_):
    shared = CheckpointFolder((cohort_dir or folders[0]).cohort)
    own = [CheckpointFolder(folder.checkpoint) for folder in folders]
    for folder in folders:
        write_text(folder.job_yaml, "x: 1\n" * 200)
    here, best, first = dict(enumerate(jobs)), dict.fromkeys(range(len(jobs)), -1.0), 1
    states = _newest(shared, own)
    if states is not None:
        reports = {place: EpochReport.from_json(s["report"]) for place, s in enumerate(states)}
        best, first = {p: s["best"] for p, s in enumerate(states)}, reports[0].epoch + 1
        yield reports
        here = {place: job for place, job in here.items() if place not in leaving()}
    for epoch in range(first, jobs[0].train.epochs + 1):
        if not here:
            return
        time.sleep(0.15)
        outcomes = {}
        for place, job in here.items():
            value = value_of(job, epoch)
            scores = {metric: value, **costs_of(job)}
            outcomes[place] = EpochReport(epoch, scores, {"student": [0.5, None]}, 0.15)
            if value > best[place]:
                best[place] = value
                with new_directory(folders[place].best) as temporary:
                    _fill(temporary, {"epoch": epoch})
            state = {"report": outcomes[place].to_json(), "best": best[place]}
            own[place].save(epoch, partial(_fill, state=state))
        shared.save(epoch, partial(_fill, state={}))
        for place in here:
            with (folders[place].path / "trained.txt").open("a") as file:
                file.write(f"{epoch}\n")
        yield outcomes
        here = {place: job for place, job in here.items() if place not in leaving()}
