"""What reports say where a control was trained on the labels that the data leave out."""

from __future__ import annotations

import io
from typing import Any

import pytest
from experiments_on_disk import results_of
from plain_events import typed_event
from rich.console import Console

from kdsweep.ledger.state import Sweep
from kdsweep.reporting import Results, render, to_json
from kdsweep.reporting.figures.cost import networks
from kdsweep.reporting.figures.training import curves
from kdsweep.reporting.page.answer import cards, sentences
from kdsweep.reporting.verdict import verdict


def told(story: Any, taught: float = 0.30, plain: float = 0.28, labels: float = 0.38) -> Any:
    """A control, one with all labels, and a trial beside both; the best of 2 epochs counts."""
    story.sweep(num_controls=2, trials=1, further_controls=["all_labels"]).session()
    story.trial(0, teacher=None).trial(1, teacher=None, all_labels=True)
    story.trial(2, control=0, further={"all_labels": 1})
    for number, value in ((0, plain), (1, labels), (2, taught)):
        story.run(number, [value - 0.1, value], teacher=0.4)
    return story


def drawn(results: Results) -> str:
    out = io.StringIO()
    render(results, Console(file=out, width=200))
    return " ".join(out.getvalue().split())


def test_headroom_stands_beside_the_gain(story: Any) -> None:
    results = results_of(told(story).events)
    (row,) = to_json(results)["gains"]
    assert (row["control"], row["labels_control"]) == (0, 1)
    assert row["headroom"] == pytest.approx(0.10)
    answer = verdict(results)
    assert answer is not None
    assert answer.headroom == pytest.approx(0.10)
    assert "without a teacher was 0.100 ahead of the control" in answer.teacher
    assert "headroom: what a student without a teacher gains" in drawn(results)


def test_who_had_all_labels_is_never_the_answer(story: Any) -> None:
    events = told(story).events
    results, sweep = results_of(events), Sweep([typed_event(event) for event in events])
    best = sweep.best()
    assert best is not None
    assert best.number == 2
    assert results.summary.best is not None
    assert results.summary.best.number == 2
    assert 1 not in results.ranked()["number"].tolist()
    assert 1 not in networks(results)["best_trial"].tolist()
    assert 1 not in curves(results)["trial"].tolist()
    assert "all labels" not in results.pairs["teacher"].tolist()
    assert results.pairs["num_trials"].sum() == 2
    assert sweep.trials[1].title == "resnet18 with all labels"
    assert results.trials.set_index("number")["teacher"][1] == "all labels"


@pytest.mark.parametrize(("labels", "is_said"), [(0.28, True), (0.27, True), (0.285, False)])
def test_a_report_says_where_there_is_nothing_to_gain(
    new_story: Any, labels: float, is_said: bool
) -> None:
    text = drawn(results_of(told(new_story(), labels=labels).events))
    assert ("gains nothing from the labels that are left out" in text) is is_said


def test_a_control_that_is_best_tells_its_networks_headroom(story: Any) -> None:
    answer = verdict(results_of(told(story, taught=0.25).events))
    assert answer is not None
    assert answer.headroom == pytest.approx(0.10)
    assert answer.ship.startswith("Best: resnet18 without a teacher, trial 0")


def test_without_such_controls_nothing_speaks_of_headroom(mixed: Any) -> None:
    results = results_of(mixed.events)
    assert "headroom" not in results.gains
    assert "headroom" not in drawn(results)
    assert "headroom" not in to_json(results)["summary"].get("verdict", {})


def test_a_control_that_rides_beside_a_teacher_has_none(story: Any) -> None:
    story.sweep(num_controls=1, trials=1, controls="paired").session()
    story.trial(0, control=1).trial(1, teacher=None, rides_with=0)
    costs = {"teacher/params_m": 24.0, "student/agreement": 0.9, "student/params_m": 6.0}
    for number, value in ((0, 0.30), (1, 0.40)):
        story.run(number, [value - 0.1, value], teacher=0.5, costs=costs)
    results = results_of(story.events)
    row = results.trials.set_index("number").loc[1]
    assert row[["teacher_miou", "agreement"]].isna().all()
    assert not any("its teacher" in sentence for sentence in sentences(results, "mIoU"))
    assert any(card.detail == "" for card in cards(results, "mIoU") if card.name == "teacher")
