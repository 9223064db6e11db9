"""The figures of a report: for each a function that returns its numbers, and one that draws them.

Data functions return plain tables, which are tested and written as CSV; drawing makes plotly's JSON
of them and computes nothing more.
"""

from __future__ import annotations

from kdsweep.reporting.figures.classes import class_figures, class_ious, grouped
from kdsweep.reporting.figures.confirmed import confirmed_figures, confirmed_gains
from kdsweep.reporting.figures.confusion import confusion_cells, confusion_figures
from kdsweep.reporting.figures.cost import FRONTS, cost_figures, networks
from kdsweep.reporting.figures.effort import (
    effort_bins,
    effort_figures,
    effort_totals,
    trial_efforts,
)
from kdsweep.reporting.figures.figure import Figure
from kdsweep.reporting.figures.importance import (
    importance_figures,
    importances,
    parallel_figures,
    parallel_rows,
)
from kdsweep.reporting.figures.pairs import pair_cells, pair_figures
from kdsweep.reporting.figures.response import response_figures
from kdsweep.reporting.figures.settings import (
    comparable,
    drawn_parameters,
    response_bins,
    response_curve,
    response_points,
    response_steps,
)
from kdsweep.reporting.figures.shares import best_shares, share_figures, share_points
from kdsweep.reporting.figures.training import (
    cohort_course,
    curves,
    endings,
    envelope,
    training_figures,
)
from kdsweep.reporting.results import Results

__all__ = [
    "FRONTS",
    "Figure",
    "best_shares",
    "class_ious",
    "cohort_course",
    "comparable",
    "confirmed_gains",
    "confusion_cells",
    "curves",
    "draw_figures",
    "drawn_parameters",
    "effort_bins",
    "effort_totals",
    "endings",
    "envelope",
    "grouped",
    "importances",
    "networks",
    "pair_cells",
    "parallel_rows",
    "response_bins",
    "response_curve",
    "response_points",
    "response_steps",
    "share_points",
    "trial_efforts",
]


def draw_figures(results: Results, metric: str) -> dict[str, list[Figure]]:
    """Return all figures by the part of the report they belong to; a part may have none yet."""
    # A confirmation draws nothing but seeds, which no response or importance can speak of.
    searched = results.confirmation.empty
    return {
        "answer": confirmed_figures(results, metric),
        "pairs": pair_figures(results, metric),
        "losses": [
            *(importance_figures(results) if searched else []),
            *(response_figures(results, metric) if searched else []),
            *share_figures(results, metric),
            *(parallel_figures(results, metric) if searched else []),
        ],
        "cost": cost_figures(results, metric),
        "training": training_figures(results, metric),
        "classes": [*class_figures(results), *confusion_figures(results)],
        "effort": effort_figures(results),
    }
