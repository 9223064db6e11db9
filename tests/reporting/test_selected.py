"""Reports of sweeps of which each trial's last epoch counts."""

from __future__ import annotations

from typing import Any

import pytest
from experiments_on_disk import results_of

from kdsweep.reporting import Results, to_json
from kdsweep.reporting.caveats import notes

VALUES, CONTROL = [0.3, 0.6, 0.5], [0.45, 0.2, 0.4]


def told(story: Any, select: str | None) -> Results:
    """A trial and its control, both of which were better before their last epoch."""
    story.sweep(**({} if select is None else {"select": select})).session()
    train = {} if select is None else {"select": select}
    story.trial(0, control=1, train=train).trial(1, teacher=None, train=train)
    story.run(1, CONTROL).run(0, VALUES)
    return results_of(story.add("done").events)


def test_tables_and_words_are_about_the_last_epoch(story: Any) -> None:
    results = told(story, "last")
    row = results.trials.iloc[0]
    assert (row["value"], row["best_epoch"]) == (0.5, 3)
    assert row["gain"] == pytest.approx(0.5 - 0.4)
    assert to_json(results)["summary"]["select"] == "last"
    said = " ".join(notes(results))
    assert "at its last epoch on the validation split" in said
    assert "both at their last within" in said
    assert "at its best in its last epoch" not in said


def test_by_default_they_are_about_the_best(story: Any) -> None:
    results = told(story, None)
    row = results.trials.iloc[0]
    assert (row["value"], row["best_epoch"]) == (0.6, 2)
    assert row["gain"] == pytest.approx(0.6 - 0.45)
    assert "select" not in to_json(results)["summary"]
    assert "at its best epoch on the validation split" in " ".join(notes(results))
