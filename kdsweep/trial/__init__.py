"""The composition root of one job: from its config to data, networks, objective and engine. No Ray.

``check_job`` and ``prepare`` say before anything starts what would go wrong; ``run_job`` trains a
job in a folder (``run_jobs`` several that share a teacher) and can be ended and called again at any
time.
"""

from kdsweep.trial.checking import (
    check_job,
    check_jobs,
    network_bytes,
    prepare,
    prepare_one,
    static_costs,
    weights_notes,
)
from kdsweep.trial.cohort import Cohort, build_cohort
from kdsweep.trial.cohort_checkpoint import fingerprint
from kdsweep.trial.freed_memory import return_freed_memory
from kdsweep.trial.given_teachers import score_teachers
from kdsweep.trial.gpu_memory import check_memory
from kdsweep.trial.known_data import note_data
from kdsweep.trial.running import run_job, run_jobs
from kdsweep.trial.step_timing import measure, measure_step_cost
from kdsweep.trial.tracked import tracked

__all__ = [
    "Cohort",
    "build_cohort",
    "check_job",
    "check_jobs",
    "check_memory",
    "fingerprint",
    "measure",
    "measure_step_cost",
    "network_bytes",
    "note_data",
    "prepare",
    "prepare_one",
    "return_freed_memory",
    "run_job",
    "run_jobs",
    "score_teachers",
    "static_costs",
    "tracked",
    "weights_notes",
]
