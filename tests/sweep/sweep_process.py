"""Runs or resumes a sweep of the made-up trainings as a process of its own.

``python sweep_process.py run PARENT SPACE.json``, ``... confirm PARENT EXPERIMENT`` or ``... resume
EXPERIMENT``, with progress as JSON lines; further arguments are keyword arguments as ``name=json``.
"""

import json
import sys
from pathlib import Path

from kdsweep.config import load_space
from kdsweep.sweep import jobs_to_confirm, resume_sweep, run_sweep


def main():
    verb, place, *rest = sys.argv[1:]
    sweep = None
    options = {"progress": "json", "runner": "fake_training", "dashboard": False}
    if verb == "run":
        sweep = load_space(json.loads(Path(rest.pop(0)).read_text()))
    elif verb == "confirm":
        sweep = jobs_to_confirm(rest.pop(0), top=2, seeds=2)
    for argument in rest:
        name, value = argument.split("=", 1)
        options[name] = json.loads(value)
    if sweep is not None:
        outcome = run_sweep(sweep, experiments=Path(place), **options)
    else:
        outcome = resume_sweep(place, **options)
    sys.exit(outcome.exit_code)


if __name__ == "__main__":
    main()
