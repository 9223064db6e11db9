"""What reports say of a confirmation that ends when the gain is settled."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from experiments_on_disk import results_of
from rich.console import Console

from kdsweep.ledger.anytime import settle
from kdsweep.reporting import Results, render, to_json
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.confirmation import claims_in
from kdsweep.reporting.figures.confirmed import confirmed_figures
from kdsweep.reporting.page.answer import cards
from kdsweep.reporting.page.rows import confirmation_rows
from kdsweep.reporting.papers import paper_tables
from kdsweep.reporting.statistics import settled_claim, skew_note
from kdsweep.reporting.typesetting import to_markdown

CLEAR = [0.02, 0.025, 0.018, 0.022, 0.021, 0.024]
UNCLEAR = [0.02, -0.02, 0.03, -0.01, 0.01, 0.02]
TINY = [0.0002, -0.0001, 0.0003, -0.0002, 0.0001]
LOPSIDED = [0.001, 0.002, 0.001, 0.003, 0.002, 0.001, 0.002, 0.09]
SKEW = float(np.mean((LOPSIDED - np.mean(LOPSIDED)) ** 3) / np.std(LOPSIDED) ** 3)


def confirmation(
    story: Any, gains: list[float], until_settled: bool = True, running: tuple[int, ...] = ()
) -> Results:
    """One job; seeds whose number is in ``running`` have not ended."""
    asked = {"until_settled": True} if until_settled else {}
    story.sweep(trials=20, num_controls=20, epochs=1, controls="paired", **asked).session(slots=9)
    for seed, gain in enumerate(gains):
        number = 2 * seed
        story.trial(number, control=number + 1, params={"job": "trial 0007", "train.seed": seed})
        story.trial(number + 1, teacher=None)
        for trial, value in ((number + 1, 0.40), (number, 0.40 + gain)):
            story.start(trial)
            if seed not in running:
                story.epoch(trial, 1, value, "complete")
    return results_of(story.events)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        (CLEAR, "a gain, settled after 5 seeds: +2.1 mIoU points, always-valid 95 % interval"),
        ([-g for g in CLEAR], "a loss, settled after 5 seeds: -2.1 mIoU points"),
        (TINY, "no difference that matters (0.5 mIoU points or more), settled after 5 seeds: +"),
        (UNCLEAR, "not settled after 6 seeds: +0.8 mIoU points"),
        (UNCLEAR[:3], "not settled after 3 seeds: it takes at least 5"),
    ],
)
def test_the_claim_is_what_is_settled(gains: list[float], said: str) -> None:
    look = settle(gains)
    assert look is not None
    assert settled_claim(look, len(gains)).startswith(said)


def test_the_claim_says_what_was_trained_for_it() -> None:
    clear, unclear = settle(CLEAR), settle(2 * UNCLEAR)
    assert clear is not None
    assert unclear is not None
    assert settled_claim(clear, 6).endswith("; 6 seeds trained, 4 fewer than a fixed 10")
    assert settled_claim(clear, 10).endswith("; 10 seeds trained, as many as a fixed 10")
    assert settled_claim(unclear, 12).endswith("; 12 seeds trained, 2 more than a fixed 10")
    assert "trained" not in settled_claim(unclear, 9)


def test_the_table_has_the_interval_beside_students(story: Any) -> None:
    results = confirmation(story, CLEAR)
    row = results.confirmation.iloc[0]
    look = settle(CLEAR)
    assert look is not None
    assert (row["always_low"], row["always_high"]) == pytest.approx((look.low, look.high))
    assert row["always_low"] < row["low"] < row["high"] < row["always_high"]
    assert (row["seeds"], row["verdict_seeds"], row["verdict"]) == (6, 5, "gain")
    assert row["claim"] == settled_claim(look, 6)
    (json_row,) = to_json(results)["confirmation"]
    assert json_row["verdict_seeds"] == 5
    assert json_row["evidence"] == pytest.approx(look.evidence)


def test_of_a_fixed_number_of_seeds_the_claim_is_students_as_ever(story: Any) -> None:
    row = confirmation(story, CLEAR, until_settled=False).confirmation.iloc[0]
    assert row["claim"].startswith("+2.2 mIoU points, 95 % interval")
    assert row["verdict"] == "gain"


@pytest.mark.parametrize("gains", [CLEAR[:1], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
def test_without_a_look_the_claim_says_why(gains: list[float], story: Any) -> None:
    results = confirmation(story, gains)
    (claim,) = claims_in(results.confirmation)
    assert claim.verdict is claim.verdict_seeds is claim.always_low is None
    assert "nothing can be said" in claim.claim
    assert "always valid" not in " ".join(notes(results))


def test_below_five_seeds_there_is_no_interval(story: Any) -> None:
    row = confirmation(story, CLEAR[:4]).confirmation.iloc[0]
    assert np.isnan(row["always_low"])
    assert row["verdict"] == "not settled"


def test_a_seed_that_trains_holds_up_those_behind_it(story: Any) -> None:
    row = confirmation(story, CLEAR, running=(3,)).confirmation.iloc[0]
    assert (row["seeds"], row["verdict_seeds"]) == (5, 3)


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_it(width: int, story: Any) -> None:
    out = io.StringIO()
    render(confirmation(story, CLEAR), Console(file=out, width=width))
    text = " ".join(out.getvalue().split())
    assert "a gain, settled after 5 seeds" in text
    assert "always valid" in text.split("trial 0007")[0]
    assert max(len(line) for line in out.getvalue().splitlines()) <= width


def test_page_and_figure_show_it(story: Any) -> None:
    results = confirmation(story, CLEAR)
    table = confirmation_rows(results, "mIoU")
    units = [unit for _, unit, _ in table.headers]
    assert units.count("always valid") == 2
    saved = units.index("of 10")
    assert table.rows[0][saved].text == "4"
    (claim,), (_, gain) = claims_in(results.confirmation), cards(results, "mIoU")
    assert gain.detail == f"95 %, always valid: {claim.always_low:+.3f} to {claim.always_high:+.3f}"
    (figure,) = confirmed_figures(results, "mIoU")
    assert [trace["name"] for trace in figure.traces] == ["validation", "validation, always valid"]


def test_strong_skew_is_named_with_the_sign_test(story: Any) -> None:
    said = " ".join(notes(confirmation(story, LOPSIDED)))
    assert f"trial 0007, validation: the differences are lopsided (skewness {SKEW:+.1f}" in said
    assert "has p 0.0078" in said  # all eight have one sign


@pytest.mark.parametrize("found", [LOPSIDED[:7], [0.02] * 9, [*CLEAR, 0.02, 0.023, 0.019]])
def test_no_skew_no_words(found: list[float]) -> None:
    assert skew_note(found) is None


def test_papers_quote_the_interval_that_was_looked_at(story: Any) -> None:
    results = confirmation(story, CLEAR)
    (paper,) = [p for p in paper_tables(results, 5) if p.name == "confirmation"]
    look = settle(CLEAR)
    assert look is not None
    assert "always-valid intervals" in paper.caption
    assert f"| {100 * look.low:.1f} to {100 * look.high:.1f} |" in to_markdown(paper)
