"""What a sweep has found: tables from its ledger, on the terminal and in files. No torch, no Ray.

:func:`load` reads an experiment into pandas tables; the rest draws or writes what it returns.
"""

from kdsweep.reporting.files import to_json, write_tables
from kdsweep.reporting.results import Results, load, results_from_events
from kdsweep.reporting.terminal import render, render_best

__all__ = [
    "Results",
    "load",
    "render",
    "render_best",
    "results_from_events",
    "to_json",
    "write_tables",
]
