"""What a frame costs a student, from the ledger to every place that shows it."""

import json
import math

import pandas as pd
import pytest
from experiments_on_disk import results_of, shown, write
from rich.console import Console

from kdsweep.reporting import figures, formats, load
from kdsweep.reporting.compare import compare, remarks, render_comparison
from kdsweep.reporting.page.answer import cards, sentences
from kdsweep.reporting.page.rows import network_rows, trial_rows
from kdsweep.reporting.papers import paper_tables
from kdsweep.reporting.terminal import render
from kdsweep.reporting.trial_files import measured_on
from kdsweep.reporting.verdict import verdict


def costs(macs, latency, **teacher):
    own = {"macs_g": macs, "latency_ms": latency, "latency_p95_ms": 1.2 * latency}
    named = {f"student/{key}": value for key, value in own.items()}
    return named | {"student/inference_mb": 30.76} | {f"teacher/{k}": v for k, v in teacher.items()}


@pytest.fixture
def measured(story):
    """A control, two networks with costs, and one of a version that did not measure."""
    story.sweep().session().trial(0, teacher=None)
    story.run(0, [0.3, 0.5], costs=costs(0.6, 14.0))
    story.trial(1, control=0)
    story.run(1, [0.4, 0.6], teacher=0.7, costs=costs(0.6, 10.0, params_m=21.8, latency_ms=32.0))
    story.trial(2, control=0)
    story.run(2, [0.4, 0.55], teacher=0.7, costs=costs(0.6, 30.0, params_m=21.8, latency_ms=36.0))
    story.trial(3, student="mobilenet_v2").start(3)
    story.epoch(3, 1, 0.45, "complete", costs=costs(0.2, 7.0) | {"student/params_m": 2.2})
    story.trial(4, student="old").start(4).epoch(4, 1, 0.2, "complete")
    return story


def cells(table, header):
    place = [name for name, *_ in table.headers].index(header)
    return [row[place].text for row in table.rows]


def test_trials_and_the_summary_hold_what_was_measured(measured):
    results = results_of(measured.events)
    trials = results.trials.set_index("number")
    assert trials["latency_ms"].tolist()[:4] == [14.0, 14.0, 14.0, 7.0]
    assert trials.loc[1, ["macs_g", "latency_p95_ms", "inference_mb"]].tolist() == [
        0.6,
        16.8,
        30.76,
    ]
    assert math.isnan(trials.loc[4, "latency_ms"])
    best = results.summary["best"]
    assert (best["latency_ms"], best["macs_g"], best["params_m"]) == (14.0, 0.6, 11.2)


def test_a_network_costs_the_same_in_every_role(measured):
    table = figures.networks(results_of(measured.events))
    table = table.set_index(["role", "name"])
    assert table.loc[("student", "resnet18"), "latency_ms"] == 14.0  # of 10, 14 and 30
    assert table.loc[("control", "resnet18"), "latency_ms"] == 14.0
    assert table.loc[("teacher", "resnet34"), "latency_ms"] == 34.0
    assert table.loc[("teacher", "resnet34"), "params_m"] == 21.8
    assert math.isnan(table.loc[("teacher", "resnet34"), "macs_g"])
    assert math.isnan(table.loc[("student", "old"), "latency_ms"])


def test_each_cost_has_a_front_of_its_own(story):
    """Small is slow here, so the fronts differ."""
    story.sweep().session()
    found = {"small": (1.0, 9.0, 0.4), "quick": (5.0, 2.0, 0.5), "bad": (9.0, 9.5, 0.3)}
    for number, (name, (size, latency, value)) in enumerate(found.items()):
        story.trial(number, student=name).start(number)
        given = costs(0.5, latency) | {"student/params_m": size}
        story.epoch(number, 1, value, "complete", costs=given)
    results = results_of(story.events)
    table = figures.networks(results).set_index("name")
    assert table["front"].to_dict() == {"small": True, "quick": True, "bad": False}
    assert table["front_latency"].to_dict() == {"small": False, "quick": True, "bad": False}
    assert table["front_macs"].to_dict() == {"small": False, "quick": True, "bad": False}
    drawn = {figure.name: figure for figure in figures.draw_figures(results, "mIoU")["cost"]}
    assert list(drawn) == ["accuracy-size", "accuracy-macs", "accuracy-latency"]
    front, students = drawn["accuracy-latency"].traces
    assert (front["x"], front["y"]) == ([2.0], [0.5])
    assert students["x"] == [2.0, 9.0, 9.5]
    assert students["text"] == ["quick", "", ""]
    assert students["hovertext"][0].endswith("2.00 ms")


def test_the_answer_names_size_and_latency(measured):
    results = results_of(measured.events)
    answer = sentences(results, "mIoU")
    assert "It has 11.2 M parameters, 51 % of its teacher's 21.8 M." in answer
    assert (
        "It takes 14.0 ms for a frame at the median, 16.8 ms at the 95th percentile (its teacher "
        "34.0 ms), 0.600 billion multiply-accumulates and 30.8 MB of memory at most."
    ) in answer
    assert ("latency", "14.0 ms") in [(card.name, card.value) for card in cards(results, "mIoU")]
    assert verdict(results).ship.endswith("11.2 M parameters, 14.0 ms a frame.")


def test_tables_show_costs_and_a_dash_where_nothing_was_measured(measured):
    results = results_of(measured.events)
    assert cells(trial_rows(results, "mIoU"), "latency") == ["14.0", "14.0", "14.0", "7.0", "–"]
    assert cells(network_rows(results, "mIoU"), "memory") == ["–", "30.8", "30.8", "30.8", "–"]
    text = shown(render, results, width=200)
    assert "latency" in text
    assert "0.600" in text
    tables = {table.name: table for table in paper_tables(results)}
    columns = {column.header: column.cells for column in tables["trials"].columns}
    assert columns["latency (ms)"] == ["14.0", "14.0", "14.0", "7.0", "–"]
    assert columns["MACs (G)"] == ["0.600", "0.600", "0.600", "0.200", "–"]
    assert columns["memory (MB)"] == ["30.8", "30.8", "30.8", "30.8", "–"]


def test_settings_stand_before_how_long_it_took(story):
    story.sweep().session()
    for number in range(2):
        story.trial(number, params={"distill.pixel_kl.weight": 1.0 + number}).run(number, [0.4])
    names = [name for name, *_ in trial_rows(results_of(story.events), "mIoU").headers]
    assert names.index("teacher") < names.index("weight") < names.index("best epoch")


def test_ledgers_without_costs_look_as_before(mixed):
    results = results_of(mixed.events)
    assert results.trials["latency_ms"].isna().all()
    assert "latency" not in shown(render, results, width=200)
    assert not any("takes" in sentence for sentence in sentences(results, "mIoU"))
    assert [f.name for f in figures.draw_figures(results, "mIoU")["cost"]] == ["accuracy-size"]
    assert "latency" not in [name for name, *_ in trial_rows(results, "mIoU").headers]


def test_on_what_it_was_measured_is_read_beside_the_trial(measured, tmp_path):
    experiment = write(tmp_path, measured)
    results = load(experiment.path)
    assert measured_on(results, 1) is None
    folder = experiment.trial(1).create()
    conditions = {"device": "A  chip", "num_threads": 1, "precision": "float32"}
    folder.inference.write_text(json.dumps({"student": conditions, "teacher": None}))
    assert measured_on(results, 1) == "A chip, 1 CPU thread, float32"
    for damaged in ("torn {", "[]", '{"student": 3}', '{"student": {}}'):
        folder.inference.write_text(damaged)
        assert measured_on(results, 1) is None


def test_experiments_are_compared_by_latency_too(measured, new_story, tmp_path):
    other = new_story().sweep().session()
    other.trial(0).run(0, [0.2, 0.3], costs=costs(0.6, 5.5))
    paths = [write(tmp_path, story, name).path for story, name in ((measured, "a"), (other, "b"))]
    found = compare(paths)
    assert [one.latency_ms for one in found] == [14.0, 5.5]
    assert any("like machines" in said for said in remarks(found))
    console = Console(width=160, record=True, quiet=False)
    with console.capture() as captured:
        render_comparison(found, console)
    assert "latency" in captured.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1652.0, "1652"), (99.96, "100"), (55.08, "55.1"), (9.996, "10.0"), (2.5, "2.50"),
     (0.6449, "0.645"), (None, "–"), (math.nan, "–"), (0.0, "0.000")],
)  # fmt: skip
def test_amounts_have_three_digits_or_so(value, text):
    assert formats.amount(value) == text


def test_a_column_of_amounts_has_one_format():
    assert formats.form_of(pd.Series([0.2, 130.0, math.nan])) == ".0f"
    assert formats.form_of([]) == ".3f"
