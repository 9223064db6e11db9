"""The terms that a user of kdsweep meets, each in a sentence: the one place that explains them.

``python -m kdsweep.reporting.glossary docs/terms.md`` writes the page of the documentation.
"""

from __future__ import annotations

import sys
from pathlib import Path

TERMS = {
    "trial": "One training of a student, with or without a teacher: a number, a curve, a folder.",
    "pair": "A teacher and a student that train at the same time.",
    "control": (
        "The same student with the same settings, trained without a teacher. Paired controls see "
        "the same batches and begin with the same weights as their trial."
    ),
    "gain": (
        "The best value of a student minus that of its control, within the same number of epochs. "
        "One training each says little: repeated trainings of one network differ, too."
    ),
    "headroom": "What the student reaches with the labels that the data leave out, minus its own.",
    "cohort": "A teacher and all students that train beside it; the teacher trains once for them.",
    "rung": (
        "An epoch after which weak trials are stopped (ASHA). About one in three continues, and "
        "the best trial of each student so far."
    ),
    "distillation weight": "The number that a distillation loss is multiplied with.",
    "gradient share": (
        "How much of the length of the student's gradient comes from a loss. Below 1 % the loss "
        "changes nothing; above 95 % the labels change nothing."
    ),
    "warm-up": "The first epochs, in which a learning rate or a distillation weight rises.",
    "front": (
        "With several metrics: the trials that no other trial beats in all of them (Pareto front)."
    ),
    "confirm": (
        "Train the best jobs again on fresh seeds, each beside its control, and say with an "
        "interval whether the gain is there."
    ),
    "ledger": "The file ledger.jsonl of an experiment: all that happened, one line each.",
}


def to_markdown() -> str:
    """Return the page of the documentation."""
    lines = ["# Terms", "", *(f"- **{term}**: {words}" for term, words in TERMS.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(to_markdown(), encoding="utf-8")
