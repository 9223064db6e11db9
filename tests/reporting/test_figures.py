"""The numbers behind each figure, and that plotly accepts what is drawn of them."""

import json
import math
import random
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from experiments_on_disk import results_of, write
from scipy import stats

from kdsweep.config import load_space
from kdsweep.reporting import figures, load
from kdsweep.reporting.figures.figure import listed, safe, short
from kdsweep.reporting.figures.response import log_ticks, response_figures
from kdsweep.reporting.figures.settings import declared_scales, has_steps
from kdsweep.reporting.results import Results

HOSTILE = "<img src=x onerror=alert(1)>"


def make_sweep(story, num_trials: int = 40, num_epochs: int = 4):
    """A sweep in which the weight has its best value at 1 and the optimizer hardly matters."""
    chance = random.Random(0)
    story.sweep(epochs=num_epochs, trials=num_trials).session()
    story.trial(0, teacher=None).run(0, [0.30] * num_epochs)
    for number in range(1, num_trials + 1):
        weight = 10 ** chance.uniform(-2, 2)
        params = {
            "distill.pixel_kl.weight": weight,
            "distill.pixel_kl.temperature": chance.choice([1, 2, 4]),
            "train.optimizer": chance.choice(["adamw", "sgd"]),
            "student.encoder": "resnet18",
        }
        top = 0.6 - 0.1 * abs(math.log10(weight)) + chance.gauss(0, 0.005)
        story.trial(number, control=0, params=params)
        if number % 4:
            values = [top * (e + 1) / num_epochs for e in range(num_epochs)]
            story.run(number, values, teacher=0.65, terms={"pixel_kl": (1.0, 0.2, 1.0)})
        else:
            story.run(number, [top / num_epochs], "asha", terms={"pixel_kl": (1.0, 0.004, 1.0)})
    return story


@pytest.fixture
def sweep(story) -> Results:
    return results_of(make_sweep(story).events)


def rows(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns as plain tuples, ``None`` for what is missing."""
    table = frame[list(columns)].astype("object")
    return [
        tuple(None if pd.isna(v) else round(v, 6) if isinstance(v, float) else v for v in row)
        for row in table.itertuples(index=False)
    ]


def test_every_pair_has_a_cell(mixed):
    cells = figures.pair_cells(results_of(mixed.events))
    assert rows(cells, "teacher", "student", "num_trials", "best", "best_gain", "best_trial") == [
        ("resnet34", "resnet18", 1, 0.55, 0.05, 1),
        ("none", "resnet18", 1, 0.5, None, 0),
        ("resnet50", "resnet18", 2, 0.36, 0.06, 4),
        ("resnet34", "mobilenet_v2", 1, None, None, None),
        ("none", "mobilenet_v2", 0, None, None, None),
        ("resnet50", "mobilenet_v2", 0, None, None, None),
    ]


def test_gains_are_drawn_on_a_scale_with_no_gain_in_the_middle(mixed):
    drawn = figures.draw_figures(results_of(mixed.events), "mIoU")["pairs"]
    assert [figure.name for figure in drawn] == ["pairs", "pair-gains"]
    heat_map = drawn[1].traces[0]
    assert heat_map["zmax"] == pytest.approx(0.06)
    assert heat_map["zmin"] == -heat_map["zmax"]
    short = "<br>after 1 of 3 epochs"
    assert heat_map["text"] == [
        ["+0.050<br>n = 1", f"+0.060<br>n = 2{short}"], ["–<br>n = 1", ""]
    ]  # fmt: skip


def test_networks_and_their_front(story):
    story.sweep().session().trial(0, teacher=None).run(0, [0.3, 0.5])
    sizes = {"small": (1.0, 0.40), "middle": (5.0, 0.39), "large": (9.0, 0.60), "huge": (20.0, 0.6)}
    for number, (name, (size, value)) in enumerate(sizes.items(), start=1):
        story.trial(number, student=name).start(number)
        story.epoch(number, 1, value, "complete", teacher=0.7)
        story.events[-1]["metrics"] |= {"student/params_m": size, "teacher/params_m": 24.0}
    table = figures.networks(results_of(story.events))
    assert rows(table, "role", "name", "params_m", "best", "num_trials", "front") == [
        ("student", "small", 1.0, 0.40, 1, True),
        ("student", "middle", 5.0, 0.39, 1, False),
        ("student", "large", 9.0, 0.60, 1, True),
        ("student", "huge", 20.0, 0.60, 1, False),
        ("control", "resnet18", 11.2, 0.5, 1, False),
        ("teacher", "resnet34", 24.0, 0.7, 4, False),
    ]


def test_curves_name_the_best_and_thin_out_the_rest(story):
    story.sweep().session().trial(0, teacher=None).run(0, [0.3, 0.5])
    for number in range(1, 301):
        story.trial(number).run(number, [number / 1000, number / 500])
    table = figures.curves(results_of(story.events))
    chosen = table.drop_duplicates("trial")
    assert chosen["role"].value_counts().to_dict() == {"other": 120, "best": 5, "control": 1}
    assert chosen.loc[chosen["role"] == "best", "trial"].tolist() == [300, 299, 298, 297, 296]
    assert chosen.loc[chosen["role"] == "best", "place"].tolist() == [1, 2, 3, 4, 5]
    others = chosen.loc[chosen["role"] == "other", "trial"]
    assert (others.iloc[0], others.iloc[-1]) == (295, 1)


def test_envelope_counts_who_reached_an_epoch(story):
    story.sweep().session().trial(0, teacher=None).run(0, [0.9, 0.9])
    for number in range(1, 12):
        story.trial(number)
        story.run(number, [number / 10, 0.5] if number == 4 else [number / 10], "asha")
    table = figures.envelope(results_of(story.events))
    assert rows(table, "epoch", "num_trials", "low", "median", "high") == [
        (1, 11, 0.2, 0.6, 1.0),
        (2, 1, 0.5, 0.5, 0.5),
    ]


def test_endings(mixed):
    table = figures.endings(results_of(mixed.events))
    assert rows(table, "epoch", "state", "num_trials") == [
        (0, "failed", 1),
        (1, "stopped", 1),
        (3, "complete", 1),
    ]


def test_the_best_student_beside_teacher_and_control(mixed):
    course = figures.cohort_course(results_of(mixed.events))
    assert rows(course, "epoch", "student", "teacher", "control") == [
        (1, 0.35, 0.40, 0.30),
        (2, 0.55, 0.60, 0.50),
        (3, 0.52, 0.61, 0.45),
    ]


def test_classes_of_the_best_student(mixed):
    table = figures.class_ious(results_of(mixed.events))
    assert rows(table, "class", "student", "control", "teacher", "gain") == [
        ("road", 0.9, 0.9, 0.9, 0.0),
        ("car", 0.5, 0.4, 0.6, 0.1),
        ("pole", None, 0.2, 0.3, None),
    ]


def test_effort_and_what_stopping_saved(mixed):
    results = results_of(mixed.events)
    table = figures.trial_efforts(results)
    # An epoch takes 36 s of the story's clock; trial 2 was stopped after one of three.
    assert rows(table, "trial", "state", "epochs", "planned_epochs", "hours", "saved_hours") == [
        (0, "complete", 3, 3, 0.03, 0.0),
        (1, "complete", 3, 3, 0.03, 0.0),
        (2, "stopped", 1, 3, 0.01, 0.02),
        (3, "failed", 0, 3, 0.01, 0.0),
        (4, "running", 1, 3, 0.01, 0.0),
    ]
    totals = figures.effort_totals(results)
    assert totals["trial_hours"] == pytest.approx(0.09)
    assert totals["control_hours"] == pytest.approx(0.03)
    assert totals["failed_hours"] == pytest.approx(0.01)
    assert totals["saved_share"] == pytest.approx(0.02 / 0.11)
    # One trial at a time on two slots.
    assert totals["busy_share"] == pytest.approx(0.5)


def test_effort_bins_count_each_trial_once(sweep: Results):
    bins = figures.effort_bins(figures.trial_efforts(sweep), num_bins=7)
    assert bins["num_trials"].sum() == 41
    assert bins.groupby("state")["num_trials"].sum().to_dict() == {"complete": 31, "stopped": 10}


def test_parameters_of_the_distillation_come_first(sweep: Results):
    assert figures.drawn_parameters(sweep) == [
        "distill.pixel_kl.weight",
        "distill.pixel_kl.temperature",
        "train.optimizer",
    ]


def test_the_smoothed_response_finds_the_best_weight(sweep: Results):
    points = figures.response_points(sweep, "distill.pixel_kl.weight")
    full = figures.comparable(points)
    assert len(points) == 40
    assert (len(full), full["epochs"].unique().tolist()) == (30, [4])
    curve = figures.response_curve(full)
    assert 0.5 < curve.loc[curve["mean"].idxmax(), "setting"] < 2.0
    known = curve.dropna()
    assert ((known["low"] < known["mean"]) & (known["mean"] < known["high"])).all()


def test_the_smoothed_mean_is_the_weighted_mean():
    """Against the definition, written out for one place."""
    x, y = np.arange(1.0, 21.0), np.sin(np.arange(20.0))
    points = pd.DataFrame({"setting": x, "value": y, "epochs": 1})
    curve = figures.response_curve(points)
    spread = min(x.std(), (np.percentile(x, 75) - np.percentile(x, 25)) / 1.34)
    width = 1.06 * spread * 20**-0.2
    place = curve.iloc[30]
    weights = [math.exp(-0.5 * ((place["setting"] - a) / width) ** 2) for a in x]
    mean = sum(w * b for w, b in zip(weights, y, strict=True)) / sum(weights)
    variance = sum((w * (b - mean)) ** 2 for w, b in zip(weights, y, strict=True))
    assert place["mean"] == pytest.approx(mean)
    num = sum(weights) ** 2 / sum(w**2 for w in weights)
    error = math.sqrt(num / (num - 1) * variance) / sum(weights)
    assert place["high"] - mean == pytest.approx(stats.t.ppf(0.975, num - 1) * error)
    assert place["weight"] == pytest.approx(sum(weights))


def test_the_band_of_few_trials_covers_what_it_promises():
    """Where the setting changes nothing, 95 of 100 bands of 10 trials hold the true mean."""
    chance = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        given = {"setting": chance.uniform(0, 1, 10), "value": chance.normal(size=10), "epochs": 1}
        middle = figures.response_curve(pd.DataFrame(given), log=False).iloc[30]
        if pd.notna(middle["mean"]):
            covered.append(middle["low"] <= 0 <= middle["high"])
    assert len(covered) > 300
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize(
    ("lowest", "highest", "ticks"),
    [
        (5e-4, 4e-3, [5e-4, 1e-3, 2e-3, 3e-3]),
        (0.1, 6.7, [0.1, 0.2, 0.5, 1, 2, 5]),
        (1e-5, 0.1, [1e-5, 1e-4, 1e-3, 1e-2, 0.1]),
        (1.0, 1.6, [1, 1.2, 1.5]),
    ],
)
def test_logarithmic_axes_have_round_numbers_in_full(lowest, highest, ticks):
    assert log_ticks(lowest, highest) == ticks


def test_no_line_without_evidence():
    points = pd.DataFrame({"setting": [0.0, 1.0, 50.0], "value": [0.1, 0.2, 0.3], "epochs": 1})
    assert figures.response_curve(points)["mean"].isna().any()


def test_few_values_stand_side_by_side(story):
    story.sweep().session()
    for number, (value, score) in enumerate([(1, 0.1), (1, 0.2), (1, 0.6), (4, 0.5)]):
        story.trial(number, params={"distill.pixel_kl.temperature": value}).run(number, [score])
    points = figures.response_points(results_of(story.events), "distill.pixel_kl.temperature")
    steps = figures.response_steps(points)
    assert rows(steps, "setting", "num_trials", "low", "median", "high") == [
        (1, 3, 0.15, 0.2, 0.4),
        (4, 1, 0.5, 0.5, 0.5),
    ]


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        (["adamw", "sgd"], True),
        ([True, False], True),
        ([1, 2, 4], True),
        ([0.1, 0.1, 0.5, 0.5], True),
        ([0.1, 0.2, 0.5, 0.7], False),
        (list(range(9)), False),
    ],
)
def test_what_stands_side_by_side(values, steps):
    assert has_steps(pd.Series(values)) is steps


def test_bins_hold_every_point():
    chance = np.random.default_rng(0)
    points = pd.DataFrame(
        {"setting": 10 ** chance.uniform(-2, 2, 5000), "value": chance.uniform(0, 1, 5000)}
    ).assign(epochs=np.arange(5000) % 2)
    cells = figures.response_bins(points)
    assert cells["num_trials"].sum() == 5000
    assert len(cells) <= 60 * 40
    assert (cells["epochs"] * cells["num_trials"]).sum() == pytest.approx(2500)
    assert cells["setting"].between(0.01, 100).all()


def test_axes_follow_the_ranges_of_the_space(story, tmp_path):
    tree = {
        "name": "tiny",
        "data": {"source": "roadscenes", "image_size": [32, 32]},
        "teacher": {"encoder": "resnet18"},
        "student": {"encoder": "resnet18"},
        "distill": {
            "pixel_kl": {
                "weight": {"min": 0.5, "max": 5, "distribution": "log_uniform_values"},
                "temperature": {"min": 1, "max": 8.0},
            },
            "attention": {"weight": {"values": [0, {"min": 0.01, "max": 100.0}]}},
        },
        "train": {"epochs": 1, "weight_decay": {"min": 1e-4, "max": 0.1}},
    }
    chance = random.Random(0)
    story.sweep(epochs=1, trials=30).session()
    for number in range(30):
        params = {
            "distill.pixel_kl.weight": 0.5 * 10 ** chance.uniform(0, 1),
            "distill.pixel_kl.temperature": chance.uniform(1, 8),
            "train.weight_decay": chance.uniform(1e-4, 0.1),
            "train.lr": 10 ** chance.uniform(-4, -1),  # of no range: the numbers decide
        }
        story.trial(number, params=params).run(number, [chance.random()])
    experiment = write(tmp_path, story)
    results = load(experiment.path)

    def scales():
        drawn = response_figures(results, "mIoU")
        return {
            figure.name.removeprefix("response-"): figure.layout["xaxis"].get("type", "linear")
            for figure in drawn
        }

    same = {"distill.pixel_kl.temperature": "linear", "train.lr": "log"}
    assert declared_scales(results) == {}
    assert scales() == same | {
        "distill.pixel_kl.weight": "linear", "train.weight_decay": "log"
    }  # fmt: skip
    experiment.spec_json.write_text(json.dumps(load_space(tree).resolved()))
    assert declared_scales(results) == {
        "distill.pixel_kl.weight": True,
        "distill.pixel_kl.temperature": False,
        "distill.attention.weight[1]": False,
        "train.weight_decay": False,
    }
    assert scales() == same | {
        "distill.pixel_kl.weight": "log", "train.weight_decay": "linear"
    }  # fmt: skip
    (weight,) = [f for f in response_figures(results, "mIoU") if f.name.endswith("pixel_kl.weight")]
    assert set(weight.layout["xaxis"]["ticktext"]) <= {"0.5", "1", "2", "3", "5"}
    line = np.log(weight.traces[-1]["x"])
    assert np.ptp(np.diff(line)) < 1e-3, "evenly in the logarithm, as far as digits go"


def test_importance_names_the_setting_that_matters(sweep: Results):
    table = figures.importances(sweep)
    assert table["parameter"].iloc[0] == "distill.pixel_kl.weight"
    assert table["importance"].sum() == pytest.approx(1.0)
    assert table["importance"].iloc[0] > 0.6


def test_importance_needs_trials_and_differences(story):
    few = make_sweep(type(story)(), 9)
    assert figures.importances(results_of(few.events)).empty
    story.sweep().session()
    for number in range(20):
        params = {"train.lr": 0.1 * (number + 1)}
        story.trial(number, params=params).run(number, [0.5])
    assert figures.importances(results_of(story.events)).empty


def test_parallel_coordinates_keep_the_best(story):
    story.sweep().session()
    for number in range(1000):
        story.trial(number, params={"train.lr": 0.001 * (number + 1)})
        story.run(number, [number / 1000])
    table = figures.parallel_rows(results_of(story.events))
    assert len(table) == 400
    assert table["trial"].iloc[:200].tolist() == list(range(999, 799, -1))
    assert table["trial"].iloc[-1] == 0
    assert table["trial"].is_unique
    assert list(table) == ["trial", "value", "train.lr"]


def test_shares_of_terms(distilled):
    results = results_of(distilled.events)
    table = figures.share_points(results)
    assert rows(table, "term", "trial", "share", "value", "verdict") == [
        ("pixel_kl", 1, 0.25, 0.55, None),
        ("attention", 1, 0.004, 0.55, "negligible"),
        ("hint", 2, 0.001, 0.20, None),
    ]
    shares = figures.best_shares(results)
    assert rows(shares, "epoch", "pixel_kl", "attention", "supervised") == [
        (1, 0.10, 0.002, 0.898),
        (2, 0.30, 0.004, 0.696),
        (3, 0.20, 0.020, 0.780),
    ]


def confirm(story):
    """Two jobs on three seeds with an exact control each, scored on both splits."""
    story.sweep(trials=6, num_controls=6, epochs=1).session()
    number = 0
    for seed in range(3):
        for job, gain in (("trial 0007", [0.02, 0.03, 0.04]), ("trial 0002", [0.01, -0.02, 0.0])):
            story.trial(number, control=number + 1, params={"job": job, "train.seed": seed})
            story.trial(number + 1, teacher=None)
            for offset, value in ((1, 0.4), (0, 0.4 + gain[seed])):
                story.start(number + offset)
                story.epoch(number + offset, 1, value, "complete", test=value - 0.1)
            number += 2
    return story.add("done")


def test_confirmed_gains_and_their_intervals(story):
    results = results_of(confirm(story).events)
    table = figures.confirmed_gains(results)
    assert rows(table, "job", "split", "seeds", "gain") == [
        ("trial 0007", "validation", 3, 0.03),
        ("trial 0007", "test", 3, 0.03),
        ("trial 0002", "validation", 3, -0.003333),
        ("trial 0002", "test", 3, -0.003333),
    ]
    drawn = {figure.name: figure for figure in all_figures(results)}
    assert not any(name.startswith(("response", "parallel", "importance")) for name in drawn)
    validation = drawn["confirmed"].traces[0]
    # Half of Student's interval: 4.302653 is its quantile with two degrees of freedom.
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert validation["error_x"]["array"][0] == pytest.approx(half, rel=1e-4)
    assert validation["x"] == [0.03, -0.0033333]


def all_figures(results: Results) -> list[figures.Figure]:
    return [f for part in figures.draw_figures(results, "mIoU").values() for f in part]


@pytest.mark.parametrize("source", ["mixed", "distilled", "large", "confirmed"])
def test_plotly_accepts_every_figure(source: str, request: pytest.FixtureRequest, story):
    makers = {"large": lambda: make_sweep(story, 120), "confirmed": lambda: confirm(story)}
    events = makers[source]() if source in makers else request.getfixturevalue(source)
    results = results_of(events.events)
    drawn = all_figures(results)
    assert len({figure.name for figure in drawn}) == len(drawn) >= 5
    for figure in drawn:
        plotly.graph_objects.Figure(_without_colors(figure.to_plotly()))
        assert figure.title.endswith("?")
        assert figure.tables


def _without_colors(node: Any, key: str = "") -> Any:
    """The figure with real colours: plotly's Python classes know no CSS variables."""
    if isinstance(node, dict):
        return {name: _without_colors(value, name) for name, value in node.items()}
    if isinstance(node, list) and not (key == "color" and node and not isinstance(node[0], str)):
        return [_without_colors(value, key) for value in node]
    return "#123456" if isinstance(node, str) and node.startswith("var(--") else node


def test_names_are_never_markup(story):
    story.sweep(data={"classes": [HOSTILE, "b"]}).session()
    story.trial(0, student=HOSTILE, teacher=None)
    story.run(0, [0.2], classes={"student": [0.1, 0.2]})
    for number in range(1, 14):
        params = {f"distill.{HOSTILE}.weight": number * 1.0, "train.optimizer": f"<b>{number % 3}"}
        story.trial(number, student=HOSTILE, teacher=HOSTILE, control=0, params=params)
        story.run(
            number, [0.01 * number], classes={"student": [0.1, 0.2], "teacher": [0.2, 0.1]},
            teacher=0.5, terms={HOSTILE: (1.0, 0.1, 1.0)},
        )  # fmt: skip
    drawn = all_figures(results_of(story.events))
    assert len(drawn) >= 8
    for figure in drawn:
        for text in _texts(figure.to_plotly()):
            assert "<img" not in text
            assert "<b>" not in text
        assert all(c.isalnum() or c in "._-" for c in figure.name)


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) else []


@pytest.mark.parametrize("kind", ["nothing", "no trial", "waiting", "failed", "one"])
def test_figures_of_sweeps_with_little_in_them(kind: str, story):
    if kind != "nothing":
        story.sweep().session()
    if kind in ("waiting", "failed", "one"):
        story.trial(0)
    if kind == "failed":
        story.start(0).fail(0, "oom", "out of memory")
    if kind == "one":
        story.run(0, [0.4])
    names = {figure.name for figure in all_figures(results_of(story.events))}
    expected = {
        "failed": {"effort"},
        "one": {"pairs", "accuracy-size", "curves", "best-cohort", "endings", "effort"},
    }
    assert names == expected.get(kind, set())


def test_numbers_that_json_does_not_know_become_null():
    assert listed([1.23456789, math.nan, math.inf, None]) == [1.2346, None, None, None]
    assert safe("a<b>&\n\x1b[1m") == "a&lt;b&gt;&amp; ·[1m"
    assert short("x" * 40) == "x" * 13 + "…" + "x" * 13
