"""What is chosen for a number of hours, on made-up steps."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from step_costs import GIB, make_cost

from kdsweep.config import Space, load_space
from kdsweep.errors import ConfigError
from kdsweep.sweep.hours import HoursPlan, plan_hours
from kdsweep.sweep.preview import Preview
from kdsweep.sweep.preview_display import show_preview
from kdsweep.trial import machine as machines
from kdsweep.trial import parallel_timing
from kdsweep.trial.machine import Machine

# An epoch of ten batches: 36 s of the teacher, 18 s of a student, 9 s of a control.
SMALL = make_cost(
    num_batches=10, teacher_s=3.6, student_s=1.8, control_s=0.9, student_bytes=GIB, start_s=10.0
)
# Three times as slow.
LARGE = make_cost(
    num_batches=10, teacher_s=10.8, student_s=5.4, control_s=2.7, student_bytes=GIB, start_s=10.0
)


def make_space(*overrides: str, **sections: Any) -> Space:
    tree = {
        "name": "tiny",
        "data": {"source": "roadscenes", "scenes": 40, "image_size": [32, 64]},
        "teacher": {"encoder": {"values": ["resnet18", "resnet34"]}},
        "student": {"encoder": "resnet18"},
        "distill": {
            "pixel_kl": {
                "weight": {"min": 0.1, "max": 10, "distribution": "log_uniform_values"},
                "temperature": {"values": [1, 2]},
            }
        },
        **sections,
        "train": {"epochs": 27, "batch_size": 4, **sections.get("train", {})},
        "sweep": {"trials": 8, "students_per_teacher": 1, **sections.get("sweep", {})},
    }
    return load_space(tree, overrides)


@pytest.fixture(autouse=True)
def _made_up_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, "a processor", 100 * GIB, (), 0)
    monkeypatch.setattr(machines, "this_machine", lambda: machine)
    measured = [SMALL, LARGE]
    monkeypatch.setattr(
        parallel_timing, "measure_in_parallel", lambda jobs, *_, **__: measured[-len(jobs) :]
    )


def chosen(space: Space, hours: float) -> tuple[int, int, int]:
    """Trials, epochs and students per teacher."""
    plan, shown = plan_hours(space, hours)
    assert shown.space == plan.space
    assert 2 <= len(plan.lines) <= 3
    sweep = plan.space.sweep
    assert isinstance(sweep.students_per_teacher, int)
    return sweep.trials, plan.space.tree["train"]["epochs"], sweep.students_per_teacher


def mean_hours(shown: Preview) -> float:
    assert shown.expected is not None
    return sum(effort.hours for effort in shown.expected) / 2


def test_with_enough_hours_the_epochs_stay_and_more_hours_are_more_trials() -> None:
    numbers = {hours: chosen(make_space(), hours) for hours in (8, 12, 16)}
    assert {epochs for _, epochs, _ in numbers.values()} == {27}
    trials = [trials for trials, _, _ in numbers.values()]
    assert trials[0] >= 10
    assert trials == sorted(set(trials))
    # What the space says of trials does not matter.
    assert chosen(make_space(sweep={"trials": 500}), 8) == numbers[8]


def test_what_is_chosen_fits_by_the_forecast_and_wastes_little() -> None:
    for hours in (4, 8):
        plan, shown = plan_hours(make_space(), hours)
        assert 0.6 * hours < mean_hours(shown) <= hours
        assert plan.hours == hours
        assert plan.seconds["teacher_s"] == pytest.approx(108.0)


def test_with_few_hours_the_epochs_are_fewer_but_no_less_than_a_third() -> None:
    trials, epochs, _ = chosen(make_space(), 3)
    assert 9 <= epochs < 27
    assert trials >= 8
    with pytest.raises(ConfigError) as raised:
        plan_hours(make_space(), 0.5)
    assert "too few hours: 8 trials of 9 epochs with 1 control" in str(raised.value)
    least = re.search(r"at least --hours ([\d.]+)", str(raised.value))
    assert least is not None
    assert chosen(make_space(), float(least[1]) + 0.02)[1] == 9
    with pytest.raises(ConfigError, match="too few hours"):
        plan_hours(make_space(), float(least[1]) - 0.02)


@pytest.mark.parametrize("hours", [2.0, 2.5, 3.0, 4.0])
def test_a_cohort_of_the_largest_job_fits_too(
    hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the mean the head starts of five trials would fit with more epochs.
    slow = replace(LARGE, head_start_s=16.0)
    monkeypatch.setattr(
        parallel_timing, "measure_in_parallel", lambda jobs, *_, **__: [SMALL, slow][-len(jobs) :]
    )
    space = make_space(distill={"teacher": "frozen", "head_start_epochs": 27, "pixel_kl": {}})
    plan, _ = plan_hours(space, hours)
    epochs, steps = plan.space.tree["train"]["epochs"], plan.seconds
    assert steps["head_start_s"] >= 27 * 160
    needed_s = steps["start_s"] + steps["head_start_s"]
    needed_s += epochs * (steps["teacher_s"] + steps["student_s"])
    assert needed_s <= 3600 * hours


def test_epochs_last_longer_than_the_warm_up_and_a_first_rung_that_was_given() -> None:
    warm = make_space(train={"warmup_epochs": 12})
    with pytest.raises(ConfigError, match="trials of 13 epochs"):
        plan_hours(warm, 0.5)
    rung = make_space(sweep={"grace_period": 15})
    with pytest.raises(ConfigError, match="trials of 16 epochs"):
        plan_hours(rung, 0.5)
    plan, shown = plan_hours(rung, 8)
    assert plan.space.sweep.grace_period == 15
    assert shown.rungs == (15,)


def test_a_range_of_epochs_is_left_alone() -> None:
    space = make_space(train={"epochs": {"values": [9, 18]}})
    plan, shown = plan_hours(space, 8)
    assert shown.epochs == (9, 18)
    assert plan.lines[1] == "train.epochs is a range of the space, and stays one"
    with pytest.raises(ConfigError, match="trials of 18 epochs"):
        plan_hours(space, 0.5)


def test_students_per_teacher_are_as_auto_would_have_them_unless_the_space_says() -> None:
    assert chosen(make_space(sweep={"students_per_teacher": 2}), 8)[2] == 2
    auto = chosen(make_space(sweep={"students_per_teacher": "auto"}), 8)
    assert auto[2] == 5
    assert auto[0] > chosen(make_space(), 8)[0]
    tree = make_space().resolved()
    del tree["sweep"]["students_per_teacher"], tree["labels"]
    assert chosen(load_space(tree), 8) == auto


def test_what_the_command_line_sets_stands() -> None:
    assert chosen(make_space("sweep.trials=7"), 20)[:2] == (7, 27)
    trials, epochs, _ = chosen(make_space("sweep.trials=30"), 3.5)
    assert trials == 30
    assert epochs < 27
    assert chosen(make_space("train.epochs=12"), 20)[1] == 12
    with pytest.raises(ConfigError, match=r"90 trials of 9 epochs.*the ones set"):
        plan_hours(make_space("sweep.trials=90"), 2)
    with pytest.raises(ConfigError, match="trials of 27 epochs"):
        plan_hours(make_space("train.epochs=27"), 2)


def test_two_budgets_of_hours_contradict_each_other_only_where_both_are_set() -> None:
    with pytest.raises(ConfigError, match="two budgets of hours"):
        plan_hours(make_space("sweep.max_hours=4"), 8)
    plan, _ = plan_hours(make_space(sweep={"max_hours": 4.0, "max_gpu_hours": 9.0}), 8)
    assert (plan.space.sweep.max_hours, plan.space.sweep.max_gpu_hours) == (None, 9.0)


def test_a_grid_has_no_more_trials_than_points_and_says_what_does_not_fit() -> None:
    distill = {"pixel_kl": {"weight": {"values": list(range(1, 21))}, "temperature": 1}}
    space = make_space(distill=distill, sweep={"sampler": "grid"})
    part, _ = plan_hours(space, 5)
    assert 10 <= part.space.sweep.trials < 40
    assert "of the grid's 40 points no more fit" in part.lines[2]
    whole, _ = plan_hours(space, 20)
    assert whole.space.sweep.trials == 40
    assert "40 trials: all that the space has" in whole.lines[2]


def test_it_is_said_above_the_plan_and_in_its_json() -> None:
    plan, shown = plan_hours(make_space(), 8)
    out = io.StringIO()
    show_preview(shown, Console(file=out, width=200))
    assert all(line in out.getvalue() for line in plan.lines)
    assert plan.lines[0].startswith("8.0 h: ")
    assert "1 control, 2 at a time" in plan.lines[0]
    assert shown.to_json()["hours"] == 8
    assert shown.to_json()["why"] == list(plan.lines)


def test_the_space_that_is_kept_is_the_one_that_was_chosen() -> None:
    plan, _ = plan_hours(make_space(), 4)
    kept = Space.from_resolved(plan.space.resolved())
    assert kept.sweep == plan.space.sweep
    assert kept.tree == plan.space.tree
    assert isinstance(plan, HoursPlan)
