"""The command line. Bodies of commands import locally, so that ``--help`` is fast.

One file for each group of commands; a new command is a function in the file where users would look
for it. Exit codes: 0 done, 1 error, 2 bad input, 3 done but trials failed, 4 budget reached,
130 interrupted.
"""

# The order in which ``--help`` lists the groups.
from kdsweep.cli import init, sweeps, results, jobs, spaces, data, students, cache, machine, wandb  # isort: skip
from kdsweep.cli.app import app, main

__all__ = [
    "app",
    "cache",
    "data",
    "init",
    "jobs",
    "machine",
    "main",
    "results",
    "spaces",
    "students",
    "sweeps",
    "wandb",
]
