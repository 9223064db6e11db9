"""The command line, with sweeps whose trials are the made-up ones of ``fake_training``.

Everything else is as a user has it: the checks, Ray, its workers, the ledger, the report.
"""

import functools
import sys

import kdsweep.sweep
from kdsweep.cli import main

for verb in ("run_sweep", "resume_sweep"):
    real = getattr(kdsweep.sweep, verb)
    setattr(kdsweep.sweep, verb, functools.partial(real, runner="fake_training", dashboard=False))

if __name__ == "__main__":
    sys.exit(main())
