"""Repeated seeds as tables and words, from ledgers that a simulated confirmation wrote."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from experiments_on_disk import results_of
from rich.console import Console

from kdsweep.reporting import Results, render, render_best
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.figures.confirmed import confirmed_figures
from kdsweep.reporting.papers import paper_tables
from kdsweep.reporting.typesetting import to_latex, to_markdown

GAINS = {"trial 0007": [0.01, 0.03, 0.02, 0.04], "trial 0002": [0.01, -0.02, 0.0, 0.005]}


def confirmation(story: Any, gains: dict[str, list[float]], test: bool = True) -> Results:
    """A finished confirmation: for each seed and job a student and the control that rides along."""
    num_seeds = max(map(len, gains.values()))
    num_pairs = num_seeds * len(gains)
    story.sweep(trials=num_pairs, num_controls=num_pairs, epochs=1).session()
    number = 0
    for seed in range(num_seeds):
        for job, differences in gains.items():
            params = {"job": job, "train.seed": seed + 1}
            train = {"epochs": 1, "seed": seed + 1}
            story.trial(number, control=number + 1, params=params, train=train)
            story.trial(number + 1, teacher=None, train=train)
            control = 0.40 + 0.01 * seed
            for offset, value in ((1, control), (0, control + differences[seed])):
                story.start(number + offset)
                score = value - 0.1 if test else None
                story.epoch(number + offset, 1, value, "complete", test=score)
            number += 2
    story.add("done")
    return results_of(story.events)


def test_gains_are_paired_seed_by_seed_on_both_splits(story: Any) -> None:
    table = confirmation(story, GAINS).confirmation.set_index(["job", "split"])
    assert list(table.index) == [(job, split) for job in GAINS for split in ("validation", "test")]
    row = table.loc[("trial 0007", "validation")]
    assert row["seeds"] == 4
    assert row["gain"] == pytest.approx(0.025)
    assert row["gain_sd"] == pytest.approx(np.std([0.01, 0.03, 0.02, 0.04], ddof=1))
    assert row["control_mean"] == pytest.approx(0.415)
    assert row["mean"] == pytest.approx(0.44)
    # t quantile of 3 degrees of freedom: 3.182
    half = 3.182446 * row["gain_sd"] / 2
    assert (row["low"], row["high"]) == pytest.approx((0.025 - half, 0.025 + half), rel=1e-5)
    assert row["claim"].startswith("+2.5 mIoU points, 95 % interval 0.4 to 4.6, 4 seeds")
    assert table.loc[("trial 0002", "validation"), "claim"].startswith("no gain shown")
    assert table.loc[("trial 0007", "test"), "gain"] == pytest.approx(0.025)
    assert table.loc[("trial 0007", "test"), "mean"] == pytest.approx(0.34)


def test_several_jobs_are_several_chances(story: Any, new_story: Any) -> None:
    said = "one of 2 jobs still shows a gain on a split in up to 5 of 100 confirmations"
    assert said in " ".join(notes(confirmation(story, GAINS)))
    alone = {"trial 0007": GAINS["trial 0007"]}
    assert "Where no teacher helps" not in " ".join(notes(confirmation(new_story(), alone)))


def test_without_a_test_split_there_is_validation_only(story: Any) -> None:
    table = confirmation(story, GAINS, test=False).confirmation
    assert set(table["split"]) == {"validation"}


def test_other_sweeps_have_no_confirmation(mixed: Any) -> None:
    results = results_of(mixed.events)
    assert results.confirmation.empty
    assert list(results.confirmation.columns)[:4] == ["job", "teacher", "student", "split"]


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_says_what_may_be_claimed(width: int, story: Any) -> None:
    results = confirmation(story, GAINS)
    for draw in (render, render_best):
        out = io.StringIO()
        draw(results, Console(file=out, width=width))
        text = " ".join(out.getvalue().split())
        assert "trial 0007, validation: +2.5 mIoU points" in text
        assert "no gain shown" in text
        assert "one training with one seed" not in text
        assert max(len(line) for line in out.getvalue().splitlines()) <= width


def test_one_seed_is_not_tested_and_every_table_says_so(story: Any) -> None:
    results = confirmation(story, {"trial 0007": [0.02]}, test=False)
    (row,) = results.confirmation.itertuples()
    assert np.isnan(row.rank_p)
    assert row.rank_note == "nothing can be tested with one seed"
    out = io.StringIO()
    render(results, Console(file=out, width=200))
    assert "1.000" not in out.getvalue()
    assert "rank p (Wilcoxon's signed-rank test): nothing can be tested" in out.getvalue()
    (paper,) = [p for p in paper_tables(results, 5) if p.name == "confirmation"]
    for text in (to_markdown(paper), to_latex(paper)):
        assert "nothing can be tested with one seed" in text
        assert "42.0" in text
        assert "± –" not in text
        assert "$\\pm$ --" not in text
    (figure,) = confirmed_figures(results, "mIoU")
    assert figure.caption.endswith("Nothing can be tested with one seed.")


def test_with_several_seeds_nothing_is_said_of_one(story: Any) -> None:
    results = confirmation(story, GAINS)
    (paper,) = [p for p in paper_tables(results, 5) if p.name == "confirmation"]
    (figure,) = confirmed_figures(results, "mIoU")
    assert "one seed" not in paper.caption + figure.caption
    assert "±" in to_markdown(paper)


def test_a_rider_shares_the_time_of_its_slot(story: Any) -> None:
    story.sweep().session(gpus=1.0)
    story.trial(0, control=1).trial(1, teacher=None)
    story.events[-1]["rides_with"] = 0
    for number in (0, 1):
        story.start(number)
    for number in (1, 0):
        story.epoch(number, 1, 0.5, "complete", seconds=1800.0 if number else 0.0)
    results = results_of(story.add("done").events)
    assert results.trials["hours"].tolist() == [0.25, 0.25]
    assert results.summary["gpu_hours"] == pytest.approx(0.5)


def test_an_extended_sweep_plans_more_and_its_pause_is_no_time(story: Any) -> None:
    story.sweep(trials=1, num_controls=0).session().trial(0).run(0, [0.3, 0.4, 0.5]).add("done")
    before = results_of(story.events).summary
    story.add("extend", seconds=9000.0, trials=5, num_controls=0)
    after = results_of(story.events).summary
    assert (before["num_planned"], after["num_planned"]) == (1, 5)
    assert after["hours"] == before["hours"]


def test_the_gain_at_the_last_epoch_is_told_too(story: Any) -> None:
    """Best epochs gain 0.05, of which nothing is left at the last one."""
    story.sweep(trials=3, num_controls=3, epochs=2).session()
    for seed in range(3):
        params, train = {"job": "trial 0007", "train.seed": seed}, {"epochs": 2, "seed": seed}
        number = 2 * seed
        story.trial(number, control=number + 1, params=params, train=train)
        story.trial(number + 1, teacher=None, train=train)
        for offset, best, last in ((1, 0.40, 0.38 + 0.01 * seed), (0, 0.45, 0.37 + 0.01 * seed)):
            story.start(number + offset)
            story.epoch(number + offset, 1, best)
            story.epoch(number + offset, 2, last, "complete")
    story.add("done")
    results = results_of(story.events)
    (row,) = results.confirmation.to_dict("records")
    assert row["gain"] == pytest.approx(0.05)
    assert row["last_gain"] == pytest.approx(-0.01)
    (note,) = [n for n in notes(results) if "last epoch the gain" in n]
    assert note.endswith("trial 0007: -0.010.")  # equal differences give no interval
