from __future__ import annotations

import itertools
import warnings
from collections import Counter
from typing import Any

import optuna
import pytest
from drawing import FixedSuggest, RandomSuggest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsweep.config.grammar import is_range
from kdsweep.config.ranges import Choice, Interval, Range
from kdsweep.config.template import Compiler, Hole, make_labels
from kdsweep.errors import ConfigError


def compiled(value: dict[str, Any]) -> Range:
    compiler = Compiler()
    node = compiler.branch({"key": value}).children["key"]
    for error in compiler.errors:
        raise error
    assert isinstance(node, Hole)
    return node.range


def interval(**keys: Any) -> Interval:
    found = compiled(keys)
    assert isinstance(found, Interval)
    return found


def test_what_counts_as_a_range() -> None:
    assert is_range({"values": [1]})
    assert is_range({"min": 1})
    assert is_range({"values": [1], "typo": 2})
    assert is_range({"distribution": "normal"})
    assert not is_range({"q": 1})
    assert not is_range({"encoder": "resnet18"})
    assert not is_range([1, 2])


@pytest.mark.parametrize(
    ("keys", "whole", "log", "step"),
    [
        ({"min": 1, "max": 8}, True, False, 1),
        ({"min": 1.0, "max": 8}, False, False, None),
        ({"min": 1, "max": 8, "distribution": "uniform"}, False, False, None),
        ({"min": 1, "max": 8, "distribution": "int_uniform"}, True, False, 1),
        ({"min": 1, "max": 8, "distribution": "log_uniform_values"}, False, True, None),
        ({"min": 0, "max": 8, "q": 2, "distribution": "q_uniform"}, True, False, 2),
        ({"min": 0, "max": 8, "distribution": "q_uniform"}, True, False, 1),
        ({"min": 0, "max": 1, "q": 0.25, "distribution": "q_uniform"}, False, False, 0.25),
        ({"min": 1, "max": 64, "distribution": "q_log_uniform_values"}, True, True, 1),
    ],
)
def test_distributions(keys: dict[str, Any], whole: bool, log: bool, step: float | None) -> None:
    found = interval(**keys)
    assert (found.whole, found.log, found.step) == (whole, log, step)
    assert {type(end) for end in found.corners()} == {int if whole else float}


@pytest.mark.parametrize(
    "bad",
    [
        {"values": 3},
        {"values": [1, 2], "distribution": "uniform"},
        {"values": [1, 2], "distribution": "categorical_w_probabilities"},
        {"values": [1, 2], "probabilities": [1.0]},
        {"values": [1, 2], "probabilities": [1, 0]},
        {"values": [1, 2], "probabilities": ["a", "b"]},
        {"value": 1, "distribution": "uniform"},
        {"value": 1, "min": 2},
        {"min": 1, "max": "a"},
        {"min": True, "max": 2},
        {"min": 1, "max": float("inf")},
        {"max": 1},
        {"min": 0.5, "max": 2, "distribution": "int_uniform"},
        {"min": 1, "max": 2, "distribution": "categorical"},
        {"min": 1, "max": 2, "distribution": "unform"},
        {"min": 1, "max": 2, "distribution": "q_uniform", "q": 0},
        {"min": 1, "max": 2, "distribution": "q_uniform", "q": 5},
        {"probabilities": [1]},
        {"distribution": "uniform"},
    ],
)
def test_what_is_no_range_is_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(bad)
    assert caught.value.path[0] == "key"


def test_steps_are_multiples_of_q_as_in_wandb() -> None:
    assert list(interval(min=0.1, max=1, q=0.25, distribution="q_uniform").options()) == [
        0.25,
        0.5,
        0.75,
        1.0,
    ]
    assert list(interval(min=1, max=9, q=3, distribution="q_uniform").options()) == [3, 6, 9]
    tenths = interval(min=0, max=0.5, q=0.1, distribution="q_uniform")
    assert list(tenths.options()) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ("keys", "middle"),
    [
        ({"min": 1e-4, "max": 1e-2, "distribution": "log_uniform_values"}, 1e-3),
        ({"min": 0.1, "max": 10, "distribution": "log_uniform_values"}, 1.0),
        ({"min": 0.0, "max": 1.0}, 0.5),
        ({"min": 1, "max": 4}, 2),
        ({"min": 2, "max": 32, "q": 2, "distribution": "q_log_uniform_values"}, 8),
        ({"min": 0, "max": 1, "q": 0.25, "distribution": "q_uniform"}, 0.5),
    ],
)
def test_middle_of_an_interval(keys: dict[str, Any], middle: float) -> None:
    assert interval(**keys).middle() == middle


@pytest.mark.parametrize(
    ("keys", "middle"),
    [
        ({"values": [1, 2, 4]}, 2),
        ({"values": [4, 1, 2]}, 2),
        ({"values": [0, 1000]}, 0),
        ({"values": ["b", "a"]}, "b"),
        ({"values": [True, False]}, True),
        ({"values": [None, 1]}, None),
        ({"values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3]}, "b"),
        ({"values": [1, 2, 3], "probabilities": [1 / 3, 1 / 3, 1 / 3]}, 1),
    ],
)
def test_middle_of_a_choice(keys: dict[str, Any], middle: object) -> None:
    found = compiled(keys)
    assert found.show(found.middle()) == middle


def test_probabilities_hold_for_any_sampler() -> None:
    weighted = compiled({"values": ["a", "b", "c"], "probabilities": [0.7, 0.2, 0.1]})
    suggest = RandomSuggest(0)
    counts = Counter(weighted.show(weighted.draw(suggest)) for _ in range(5000))
    assert counts["a"] / 5000 == pytest.approx(0.7, abs=0.03)
    assert counts["c"] / 5000 == pytest.approx(0.1, abs=0.03)
    for quantile, option in [(0.0, 0), (0.69, 0), (0.71, 1), (0.91, 2), (1.0, 2)]:
        assert weighted.draw(FixedSuggest({"key.quantile": quantile})) == option


def test_labels_are_readable_and_distinct() -> None:
    assert make_labels([1, None, "a"]) == [1, None, "a"]
    assert make_labels([["encoder.3"], ["encoder.3", "encoder.4"], None]) == [
        "[encoder.3]",
        "[encoder.3, encoder.4]",
        None,
    ]
    assert make_labels([{"a": 1}, "{a: 1}"]) == ["#0 {a: 1}", "{a: 1}"]
    long = make_labels([{"key": "x" * 80 + end} for end in "ab"])
    assert len(set(long)) == 2
    assert all(len(str(label)) <= 64 for label in long)


def test_labels_stay_what_they_were() -> None:
    compiler = Compiler({"key": ["small", "large"]})
    node = compiler.branch({"key": {"values": [[1], [2]]}}).children["key"]
    assert isinstance(node, Hole)
    assert isinstance(node.range, Choice)
    assert node.range.labels == ("small", "large")
    assert compiler.labels == {"key": ["small", "large"]}


NUMBERS = st.floats(1e-6, 1e6) | st.integers(1, 10**6)


@st.composite
def intervals(draw: st.DrawFn) -> dict[str, Any]:
    low, high = sorted((draw(NUMBERS), draw(NUMBERS)))
    keys: dict[str, Any] = {"min": low, "max": high}
    kind = draw(
        st.sampled_from(
            [None, "uniform", "log_uniform_values", "q_uniform", "q_log_uniform_values"]
        )
    )
    if kind:
        keys["distribution"] = kind
    if kind and kind.startswith("q_"):
        steps = draw(st.integers(2, 50))
        keys["q"] = draw(st.sampled_from([float(f"{(high - low) / steps:.3g}"), 0.1, 1, 3]))
    return keys


def test_steps_that_decimals_cannot_keep() -> None:
    with pytest.raises(ConfigError) as caught:
        interval(min=1.0, max=1.5, q=0.14468321602907963, distribution="q_uniform")
    assert caught.value.hint == "round it, for example to 0.144683"


@settings(max_examples=300, deadline=None)
@given(keys=intervals(), seed=st.integers(0, 10**6))
def test_optuna_draws_within_the_ends_and_without_a_warning(
    keys: dict[str, Any], seed: int
) -> None:
    try:
        found = interval(**keys)
    except ConfigError:
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            option = found.draw(study.ask())
            assert keys["min"] <= option <= keys["max"]
            assert isinstance(option, int if found.whole else float)
            name, param = found.param(option)
            assert found.draw(optuna.trial.FixedTrial({name: param})) == option
            assert found.low <= option <= found.high
    assert keys["min"] <= found.middle() <= keys["max"]


def test_options_are_what_is_drawn() -> None:
    for keys in (
        {"min": 1, "max": 4},
        {"min": 0.1, "max": 0.7, "q": 0.2, "distribution": "q_uniform"},
        {"min": 1, "max": 9, "q": 2, "distribution": "q_log_uniform_values"},
    ):
        found = interval(**keys)
        suggest = RandomSuggest(1)
        drawn = {found.draw(suggest) for _ in range(300)}
        assert sorted(drawn) == list(found.options())
        assert found.num_options() == len(drawn)
        assert all(a < b for a, b in itertools.pairwise(found.options()))
