"""Sweeps with several metrics and with bounds, from the ledger to every place that shows them."""

import itertools
import json
import random
import time

import pandas as pd
import plotly.graph_objects
import pytest
from experiments_on_disk import results_of, shown, write

from kdsweep.config.metrics import metric_of
from kdsweep.config.objectives import dominates
from kdsweep.errors import ExperimentError
from kdsweep.ledger.events import SweepEvent, TrialEvent
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import (
    compare,
    figures,
    read_status,
    render,
    render_best,
    render_comparison,
    render_status,
    to_json,
    write_tables,
)
from kdsweep.reporting.caveats import notes, warnings_of
from kdsweep.reporting.page import render_page
from kdsweep.reporting.page.answer import cards, sentences
from kdsweep.reporting.page.rows import front_rows
from kdsweep.reporting.papers import paper_tables
from kdsweep.reporting.pareto import front_sentence
from kdsweep.reporting.status import BestSoFar
from kdsweep.reporting.typesetting import to_latex, to_markdown

TWO = ["student/miou", "student/latency_ms"]
THREE = [*TWO, "student/params_m"]
BOUNDS = {"student/params_m": 15.0, "student/latency_ms": 30.0}


def tell(story, found, stop="complete", **header):
    """A sweep of trials, each with its student, mIoU, latency and size."""
    story.sweep(num_controls=0, **header).session()
    for number, (student, value, latency, size) in enumerate(found):
        story.trial(number, student=student).start(number)
        costs = {"student/latency_ms": latency, "student/params_m": size}
        story.epoch(number, 1, value / 2, costs=costs)
        story.epoch(number, 2, value, stop, costs=costs)
    return story


@pytest.fixture
def searched(story):
    """Three compromises, one that is beaten, one that is as fast but for noise, two too costly."""
    found = [
        ("large", 0.62, 28.0, 14.0),
        ("middle", 0.55, 15.0, 6.5),
        ("beaten", 0.50, 16.0, 6.0),
        ("small", 0.48, 9.0, 3.5),
        ("alike", 0.47, 8.8, 3.5),  # 2 % faster: noise
    ]
    tell(story, found, metrics=TWO, constraints=BOUNDS, trials=7)
    story.trial(5, student="slow").start(5)
    story.epoch(5, 1, 0.7, "constraint", costs={"student/latency_ms": 40.0})
    story.trial(6, student="huge").start(6)
    story.epoch(
        6, 1, 0.8, "constraint", costs={"student/latency_ms": 5.0, "student/params_m": 19.0}
    )
    for number in (2, 2, 4):
        story.reject(number, "resnet34", {"student/params_m": 0.625, "student/latency_ms": -0.5})
    return story.reject(4, "resnet50", {"student/params_m": 1.0}).add("done")


def test_the_front_holds_what_nobody_beats_in_everything(searched):
    results = results_of(searched.events)
    front = results.front
    assert front["trial"].tolist() == [0, 1, 3]
    assert front["student/miou"].tolist() == [0.62, 0.55, 0.48]
    assert front["student/latency_ms"].tolist() == [28.0, 15.0, 9.0]
    assert front["best_epoch"].tolist() == [2, 2, 2]
    assert results.summary["metrics"] == TWO
    assert results.summary["constraints"] == BOUNDS
    assert [row["trial"] for row in to_json(results)["front"]] == [0, 1, 3]


@pytest.mark.parametrize("metrics", [TWO, THREE, ["student/miou", "student/params_m"]])
def test_the_front_is_that_of_the_objectives_rule(story, metrics):
    chance = random.Random(1)
    scores = [round(chance.uniform(0.4, 0.6), 2) for _ in range(60)]
    found = [  # what is better costs more
        (f"s{number}", score, 30 * score + chance.uniform(0, 3), 3 + round(40 * score) / 5)
        for number, score in enumerate(scores)
    ]
    results = results_of(tell(story, found, metrics=metrics).events)
    points = results.trials[["value", *(m.removeprefix("student/") for m in metrics[1:])]]
    values = [tuple(row) for row in points.itertuples(index=False)]
    rule = [metric_of(metric) for metric in metrics]
    front = results.front["trial"].tolist()
    assert 1 < len(front) < 60
    for number, own in enumerate(values):
        others = [values[other] for other in front if other != number]
        assert any(dominates(o, own, rule) for o in others) is (number not in front)
    if TWO[1] not in metrics:  # without noise nobody at all beats them
        assert not any(dominates(v, values[number], rule) for number in front for v in values)
    assert results.front["student/miou"].is_monotonic_decreasing


def test_a_row_of_small_differences_does_not_come_down_to_its_slowest(story):
    found = [(f"s{step}", 0.4 + 0.01 * step, 10 * 1.04**step, 5.0) for step in range(20)]
    results = results_of(tell(story, found, metrics=TWO).events)
    front = results.front["trial"].tolist()
    assert front[0] == 19  # the best, at 21 ms
    assert 1 in front or 0 in front  # one of the fastest, at 10 ms
    latencies = results.front["student/latency_ms"].tolist()
    steps = [slower / faster for slower, faster in itertools.pairwise(latencies)]
    assert all(1.05 < step < 1.09 for step in steps)  # each is faster by more than noise


def test_a_network_costs_what_is_known_last(story):
    story.sweep(metrics=TWO).session()
    story.trial(0, student="small").start(0).trial(1, student="small").start(1)
    story.epoch(0, 1, 0.5, "complete", costs={"student/latency_ms": 10.0})
    # The median of both trials, as the sweep writes it.
    story.epoch(1, 1, 0.4, "complete", costs={"student/latency_ms": 15.0})
    results = results_of(story.events)
    assert results.front["trial"].tolist() == [0]
    assert results.front["student/latency_ms"].tolist() == [15.0]
    assert "compromises" not in {card.name for card in cards(results, "mIoU")}  # there is no choice


def test_a_sweep_with_one_metric_has_no_front(mixed, tmp_path):
    results = results_of(mixed.events)
    assert results.front.empty
    assert results.summary["metrics"] == ["student/miou"]
    names = {path.name for path in write_tables(results, tmp_path)}
    assert {"front.csv", "front.parquet"} <= names
    assert not {"front.md", "front.tex"} & names
    assert "compromise" not in shown(render, results)
    assert "compromise" not in render_page(results)
    assert results.trials["breaks_bound"].tolist() == [False] * 5


def test_what_costs_too_much_is_never_the_best(searched):
    results = results_of(searched.events)
    assert results.summary["best"]["number"] == 0
    assert results.ranked()["number"].tolist() == [0, 1, 2, 3, 4]
    assert results.summary["num_too_costly"] == 2
    pairs = results.pairs.set_index("student")
    assert pd.isna(pairs.loc["slow", "best"])
    assert pd.isna(pairs.loc["slow", "best_trial"])
    assert pairs.loc["slow", ["num_trials", "num_too_costly", "num_stopped"]].tolist() == [1, 1, 0]
    assert pairs.loc["large", ["num_trials", "num_too_costly", "num_stopped"]].tolist() == [1, 0, 0]
    assert results.trials.set_index("number").loc[5, ["state", "breaks_bound"]].tolist() == [
        "stopped",
        True,
    ]
    text = shown(render, results, width=200)
    assert "slow" in text  # among the pairs, without a value
    assert "0.700" not in text
    assert "0.800" not in text


def test_bounds_are_told_in_words(searched):
    results = results_of(searched.events)
    costly = (
        "2 trials cost more than allowed (at most 15 M parameters and 30 ms): each ended with the "
        "epoch that showed it, and they are not in the comparison."
    )
    rejected = (
        "4 draws were never trained, as at most 15 M parameters are allowed: resnet34 "
        "(24.4 M parameters), resnet50 (30.0 M parameters)."
    )
    for said in (notes(results), notes(results, brief=True), warnings_of(results)):
        assert costly in said
        assert rejected in said
    assert not any("stopped early" in note for note in notes(results))


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_the_front(searched, width):
    results = results_of(searched.events)
    for draw in (render, render_best):
        text = shown(draw, results, width=width)
        assert "Students that no other beats in both mIoU and latency" in text
        assert "3 students are compromises: from mIoU 0.620 at 28.0 ms to 0.480 at 9.00" in text
        assert max(map(len, text.splitlines())) <= width


def test_the_front_in_a_sentence():
    one = {"student/miou": 0.6, "student/latency_ms": 41.0}
    assert front_sentence([one]) == "One student is ahead in everything: mIoU 0.600 at 41.0 ms."
    points = [dict(zip(THREE, values, strict=True)) for values in ((0.6, 41, 11.2), (0.5, 9, 12.0))]
    assert front_sentence(points) == (
        "2 students are compromises: mIoU 0.500 to 0.600, 9.00 to 41.0 ms, 11.2 to 12.0 M "
        "parameters."
    )


def test_the_page_answers_with_the_compromises(searched):
    results = results_of(searched.events)
    said = sentences(results, "mIoU")
    assert said[0].startswith("3 students are compromises: from mIoU 0.620 at 28.0 ms")
    assert "beats one of them in mIoU or latency is worse in the other" in said[1]
    assert said[2].startswith("Best by mIoU: resnet34→large, trial 0: mIoU 0.620")
    assert cards(results, "mIoU")[0].value == "3"
    table = front_rows(results)
    assert table.title == "Students that no other beats in both mIoU and latency"
    assert [row[0].text for row in table.rows] == ["0", "1", "3"]
    page = render_page(results)
    assert 'data-table="front"' in page
    assert page.index('data-table="front"') < page.index('data-table="networks"')


def test_the_searched_cost_comes_first_with_its_front_and_its_bound(searched):
    results = results_of(searched.events)
    drawn = figures.draw_figures(results, "mIoU")
    panels = {figure.name: figure for figure in drawn["cost"]}
    assert list(panels) == ["accuracy-latency", "accuracy-size"]
    traces = {trace["name"]: trace for trace in panels["accuracy-latency"].traces}
    assert traces["compromises"]["x"] == [9.0, 15.0, 28.0]
    assert traces["compromises"]["y"] == [0.48, 0.55, 0.62]
    (bound,) = panels["accuracy-latency"].layout["shapes"]
    assert (bound["x0"], bound["x1"], bound["name"]) == (30.0, 30.0, "at most 30 ms")
    assert sorted(traces["too costly"]["x"]) == [5.0, 40.0]
    assert "Pareto front" not in traces
    sizes = {trace["name"]: trace for trace in panels["accuracy-size"].traces}
    (bound,) = panels["accuracy-size"].layout["shapes"]
    assert bound["name"] == "at most 15 M parameters"
    assert "range" not in panels["accuracy-size"].layout["xaxis"]  # 19 M parameters are beyond it
    assert "Pareto front" in sizes
    table = figures.networks(results)
    assert not table.loc[table["role"] == "too costly", "front_latency"].any()
    for figure in (*drawn["cost"], *drawn["training"]):
        plotly.graph_objects.Figure(figure.to_plotly())  # raises at what it does not know


def test_a_bound_far_away_is_not_drawn(story):
    found = [("a", 0.5, 10.0, 3.0), ("b", 0.4, 8.0, 2.0)]
    tell(story, found, metrics=TWO, constraints={"student/latency_ms": 1000.0})
    panel = figures.draw_figures(results_of(story.events), "mIoU")["cost"][0]
    assert "shapes" not in panel.layout
    story.events[0]["constraints"] = {"student/latency_ms": 16.0}
    panel = figures.draw_figures(results_of(story.events), "mIoU")["cost"][0]
    assert panel.layout["shapes"][0]["x0"] == 16.0
    assert panel.layout["xaxis"]["range"][1] > 16.0


def test_ends_for_cost_are_told_from_those_of_halving(searched):
    results = results_of(searched.events)
    table = figures.endings(results)
    assert sorted(table.itertuples(index=False, name=None)) == [
        (1, "too costly", 2),
        (2, "complete", 5),
    ]
    curves = figures.curves(results)
    assert set(curves.loc[curves["role"] == "too costly", "trial"]) == {5, 6}
    learning = figures.draw_figures(results, "mIoU")["training"][0]
    mark = next(trace for trace in learning.traces if trace["name"] == "too costly")
    assert sorted(mark["y"]) == [0.7, 0.8]


def test_parallel_coordinates_have_the_costs_that_are_searched_by(story):
    found = [("a", 0.5, 10.0, 3.0), ("b", 0.4, 8.0, 2.0), ("c", 0.3, 7.0, 1.0)]
    tell(story, found, metrics=TWO)
    trials = [event for event in story.events if event["event"] == "trial"]
    for number, event in enumerate(trials):
        event["params"] = {"train.lr": 0.01 * (number + 1)}
    results = results_of(story.events)
    rows = figures.parallel_rows(results)
    assert list(rows) == ["trial", "value", "train.lr", "student/latency_ms"]
    (drawn,) = [
        figure
        for figure in figures.draw_figures(results, "mIoU")["losses"]
        if figure.name == "parallel"
    ]
    assert [axis["label"] for axis in drawn.traces[0]["dimensions"]] == [
        "lr",
        "latency (ms)",
        "mIoU",
    ]


def test_papers_have_the_front(searched, tmp_path):
    results = results_of(searched.events)
    (table,) = [table for table in paper_tables(results) if table.name == "front"]
    headers = [column.header for column in table.columns]
    assert headers[:5] == ["trial", "teacher", "student", "mIoU (%)", "latency (ms)"]
    assert "| **62.0** | 28.0 |" in to_markdown(table)
    assert "| 48.0 | **9.0** |" in to_markdown(table)
    assert "\\textbf{9.0}" in to_latex(table)
    write_tables(results, tmp_path)
    read = pd.read_csv(tmp_path / "front.csv")
    assert read["student/latency_ms"].tolist() == [28.0, 15.0, 9.0]
    assert (tmp_path / "front.tex").is_file()


# -- nothing within the bounds ---------------------------------------------------------------------


@pytest.fixture
def hopeless(story):
    """Every trial costs too much."""
    story.sweep(metrics=TWO, constraints={"student/latency_ms": 2.0}).session()
    for number in range(3):
        story.trial(number).start(number)
        story.epoch(number, 1, 0.4, "constraint", costs={"student/latency_ms": 8.0})
    return story


def test_where_everything_costs_too_much_there_is_no_best(hopeless, tmp_path):
    results = results_of(hopeless.events)
    assert results.summary["best"] is None
    assert results.front.empty
    said = "Every trial that has finished an epoch costs more than allowed (at most 2 ms)"
    assert sentences(results, "mIoU")[0].startswith(said)
    for draw in (render, render_best):
        text = " ".join(shown(draw, results).split())
        assert said in text
        assert "3 trials cost more than allowed" in text
    assert said in render_page(results)
    write_tables(results, tmp_path)
    assert said in " ".join(
        shown(render_status, read_status(write(tmp_path, hopeless).path)).split()
    )


# -- its status ----------------------------------------------------------------------------------


def test_a_glance_knows_the_front_and_the_bounds(tmp_path, searched):
    experiment = write(tmp_path, searched)
    seen = read_status(experiment.path)
    assert seen.best == BestSoFar(0, "resnet34→large", 0.62, "large", "resnet34", 2, 2)
    assert [point["number"] for point in seen.front] == [0, 1, 3]
    assert seen.front[2]["values"] == {"student/miou": 0.48, "student/latency_ms": 9.0}
    assert seen.num_too_costly == 2
    json.dumps(seen.to_json(), allow_nan=False)
    text = shown(render_status, seen, width=200)
    assert "3 students are compromises: from mIoU 0.620 at 28.0 ms to 0.480 at 9.00 ms." in text
    assert "2 trials cost more than allowed" in text
    assert "4 draws were never trained" in text


def test_the_front_of_a_big_sweep_is_found_quickly():
    chance = random.Random(0)
    sweep = Sweep([SweepEvent(metric=TWO[0], metrics=list(THREE))])
    for number in range(10_000):
        sweep.apply(TrialEvent(trial=number, kind="search", label="x", student="s"))
        known = sweep.trials[number]
        known.take_value(1, chance.random())
        costs = (10 + 10 * known.best + chance.expovariate(0.1), chance.uniform(3, 30))
        known.costs = dict(zip(THREE[1:], costs, strict=True))
    began = time.process_time()
    assert 20 < len(sweep.front()) < 1000
    assert time.process_time() - began < 10


# -- side by side ----------------------------------------------------------------------------------


def test_only_sweeps_with_the_same_metrics_are_compared(tmp_path, searched, new_story):
    one = write(tmp_path, searched, "several")
    other = write(tmp_path, tell(new_story(), [("a", 0.5, 9.0, 3.0)], trials=1), "single")
    with pytest.raises(ExperimentError, match="the metric differs") as raised:
        compare([one.path, other.path])
    assert "student/miou, student/latency_ms" in str(raised.value)
    free = tell(new_story(), [("a", 0.7, 9.0, 3.0)], trials=1, metrics=TWO)
    found = compare([one.path, write(tmp_path, free, "free").path])
    assert [entry.value for entry in found] == [0.7, 0.62]
    text = " ".join(shown(render_comparison, found).split())
    assert "Not the same constraints" in text
    assert "none" in text


def test_a_draw_without_its_students_name_goes_by_its_pairs(searched):
    for event in searched.events:
        if event["event"] == "rejected":
            del event["student"]
    rows = results_of(searched.events).summary["rejected"]
    assert [(row["student"], row["times"]) for row in rows] == [
        ("resnet34→resnet34", 3),
        ("resnet34→resnet50", 1),
    ]
