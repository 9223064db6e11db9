"""The composition root of one job: from its spec to data, networks, objective and engine. No Ray.

``check_job`` and ``prepare`` say before anything starts what would go wrong; ``run_job`` trains a
job in a folder and can be ended and called again at any time.
"""

from kdsweep.trial.checking import check_job, check_jobs, prepare
from kdsweep.trial.cohort import Cohort, build_cohort
from kdsweep.trial.running import fingerprint, run_job

__all__ = ["Cohort", "build_cohort", "check_job", "check_jobs", "fingerprint", "prepare", "run_job"]
