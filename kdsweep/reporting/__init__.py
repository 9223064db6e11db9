"""What a sweep has found: tables from its ledger, on the terminal and in files. No torch, no Ray.

:func:`load` reads an experiment into pandas tables; the rest draws or writes what it returns.
"""

from kdsweep.reporting.compare import compare, render_comparison
from kdsweep.reporting.files import to_json, write_tables
from kdsweep.reporting.overview import render_list, render_status
from kdsweep.reporting.page import write_page
from kdsweep.reporting.results import Results, load, results_from_events
from kdsweep.reporting.status import read_all_statuses, read_status
from kdsweep.reporting.terminal import render, render_best

__all__ = [
    "Results",
    "compare",
    "load",
    "read_all_statuses",
    "read_status",
    "render",
    "render_best",
    "render_comparison",
    "render_list",
    "render_status",
    "results_from_events",
    "to_json",
    "write_page",
    "write_tables",
]
