"""Settings that are tried before the sampler chooses freely."""

import copy

import pytest
from plain_events import typed
from simulation import SPACE, Simulation, essence, make_space

from kdsweep.config import Space, load_space
from kdsweep.errors import ConfigError
from kdsweep.ledger import Ledger
from kdsweep.ledger.events import TrialEvent
from kdsweep.sweep.run import extend

LR = "train.lr"
FIRST = [
    {LR: 0.01, "student.encoder": "mobilenet_v2"},
    {"distill.pixel_kl[1].weight": 3},
    {"distill.pixel_kl[0].temperature": 4.0, "teacher.encoder": "resnet50", LR: 0.002},
]
FINITE = {
    "distill": {"pixel_kl": {"weight": 1.0, "temperature": {"values": [1.0, 2.0]}}},
    "train": {"epochs": 3, "lr": {"values": [1.0e-3, 1.0e-2]}},
}


def drawn(driver):
    return [t for t in driver.sweep.trials.values() if not t.is_control]


def followed(simulation):
    """The numbers of the settings that the search trials follow."""
    return [e.first for e in typed(simulation.events()) if isinstance(e, TrialEvent)][2:]


def test_settings_come_first_and_what_they_leave_out_is_drawn(tmp_path):
    simulation = Simulation(tmp_path, make_space(sweep={"try_first": FIRST, "trials": 6}))
    first, second, third, *rest = drawn(simulation.run())
    assert first.params[LR] == 0.01
    assert first.params["student.encoder"] == "mobilenet_v2"
    assert "teacher.encoder" in first.params
    assert second.params["distill.pixel_kl[1].weight"] == 3.0
    assert third.params[LR] == 0.002
    assert third.params["distill.pixel_kl[0].temperature"] == 4.0
    assert len(rest) == 3
    assert followed(simulation) == [1, 2, 3, None, None, None]
    assert "first" not in simulation.events()[-1]


def test_a_weighted_choice_stands_where_its_label_is_asked_for(tmp_path):
    teacher = {"encoder": {"values": ["resnet34", "resnet50"], "probabilities": [0.9, 0.1]}}
    first = [{"teacher.encoder": "resnet50"}]
    space = make_space(teacher=teacher, sweep={"try_first": first, "trials": 2})
    assert drawn(Simulation(tmp_path, space).run())[0].job["teacher"]["encoder"] == "resnet50"


def test_a_value_of_an_inner_range_can_be_given_to_the_choice_around_it():
    lr = {"values": [0.5, {"min": 0.001, "max": 0.1}]}
    (params,) = make_space(train={"lr": lr}, sweep={"try_first": [{LR: 0.02}]}).first
    assert params["train.lr[1]"] == 0.02


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"train.lrr": 0.1}, ["no range of this space", "train.lr"]),
        ({LR: 0.5}, ["value:   0.5", "allowed: a number from 0.0001 to 0.1"]),
        ({LR: "fast"}, ["value:   'fast'"]),
        ({"student.encoder": "resnet19"}, ["allowed: resnet18, mobilenet_v2", "resnet18`?"]),
        (
            {"distill.pixel_kl[1].weight": 1.0, "distill.pixel_kl[0].temperature": 1.0},
            ["needs distill.pixel_kl to be", "two settings"],
        ),
    ],
)
def test_what_is_no_setting_is_refused(setting, words):
    with pytest.raises(ConfigError) as error:
        make_space(sweep={"try_first": [{LR: 0.01}, setting]})
    assert error.value.path[:3] == ("sweep", "try_first", 1)
    for word in words:
        assert word in str(error.value)


def test_all_wrong_settings_are_told_with_their_lines(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "data: {source: roadscenes, image_size: [32, 32]}\n"
        "teacher: {encoder: resnet34}\nstudent: {encoder: resnet18}\n"
        "distill: {pixel_kl: {}}\ntrain: {epochs: 2, lr: {min: 0.1, max: 0.2}}\n"
        "sweep:\n  try_first:\n    - train.lr: 0.5\n    - train.lr: 0.15\n    - lr: 0.1\n"
    )
    with pytest.raises(ConfigError) as error:
        load_space(path)
    assert [one.line for one in (error.value, *error.value.others)] == [8, 10]


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("train.lr=0.1", [{"student.encoder": "resnet18"}]),
        ("train.lr.max=0.005", [{"student.encoder": "resnet18"}]),
        ("student.encoder=mobilenet_v2", [{LR: 0.01}, {LR: 0.02}]),
        ("student={encoder: mobilenet_v2}", [{LR: 0.01}, {LR: 0.02}]),
        ("train.epochs=1", [{LR: 0.01, "student.encoder": "resnet18"}, {LR: 0.02}]),
    ],
)
def test_a_setting_goes_without_a_range_that_the_command_line_has_changed(override, left):
    tree = copy.deepcopy(SPACE)
    tree["sweep"] = {"try_first": [{LR: 0.01, "student.encoder": "resnet18"}, {LR: 0.02}]}
    space = load_space(tree, [override])
    assert list(space.sweep.try_first) == left
    assert Space.from_resolved(space.resolved()).first == space.first
    with pytest.raises(ConfigError):
        load_space({**tree, "train": {"lr": 0.1}})


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "cmaes", "nsga2"])
@pytest.mark.parametrize("students", [1, 3])
def test_a_killed_sweep_follows_each_setting_once(tmp_path, sampler, students):
    sections = FINITE if sampler == "grid" else {"train": {"epochs": 3}}
    first = [{"student.encoder": "mobilenet_v2"}, {LR: 0.01, "teacher.encoder": "resnet50"}]
    space = make_space(
        sweep={
            "try_first": [*first, {LR: 0.01}],
            **{"sampler": sampler, "trials": 9, "students_per_teacher": students},
        },
        **sections,
    )
    whole = Simulation(tmp_path / "whole", space)
    whole.run(students_per_teacher=students)
    expected = essence(whole.events())
    assert sorted(n for n in followed(whole) if n) == [1, 2, 3]
    killed = Simulation(tmp_path / "killed", space)
    for lines in range(1, len(whole.events()), 2):
        killed.run(max_events=lines, students_per_teacher=students)
    killed.run(students_per_teacher=students)
    assert essence(killed.events()) == expected


def test_a_grid_takes_the_first_point_with_a_setting(tmp_path):
    first = [{LR: 0.01}, {LR: 0.01}]
    space = make_space(sweep={"sampler": "grid", "trials": 3, "try_first": first}, **FINITE)
    points = list(space.grid())
    with_it = [point for point in points if point[LR] == 0.01]
    found = [trial.params for trial in drawn(Simulation(tmp_path, space).run())]
    assert found == [*with_it[:2], points[0]]


def test_a_setting_that_was_drawn_is_passed_over(tmp_path):
    whole = {"teacher.encoder": "resnet34", "student.encoder": "resnet18", LR: 0.01}
    whole |= {"distill.pixel_kl.temperature": 1.0}
    infinite = {"train": {"lr": {"min": 0.001, "max": 0.1}}}
    for index, changed in enumerate((FINITE, {**FINITE, **infinite})):
        space = make_space(sweep={"trials": 4, "try_first": [whole, whole, {LR: 0.01}]}, **changed)
        simulation = Simulation(tmp_path / str(index), space)
        found = [tuple(trial.params.items()) for trial in drawn(simulation.run())]
        assert len(set(found)) == 4
        assert followed(simulation) == [1, 3, None, None]


def test_a_setting_that_breaks_a_bound_is_rejected_once(tmp_path):
    sweep = {"constraints": {"student/params_m": "<= 8"}, "trials": 3, "controls": "none"}
    space = make_space(sweep={**sweep, "try_first": [{"student.encoder": "resnet18"}]})
    simulation = Simulation(tmp_path, space)
    driver = simulation.run()
    assert [event.first for event in driver.sweep.rejected].count(1) == 1
    assert all(trial.student == "mobilenet_v2" for trial in drawn(driver))


def test_settings_come_again_when_a_sweep_is_extended_past_them(tmp_path):
    space = make_space(sweep={"trials": 2, "try_first": FIRST})
    simulation = Simulation(tmp_path, space)
    simulation.run()
    assert followed(simulation) == [1, 2]
    with Ledger.open(simulation.experiment.ledger) as ledger:
        ledger.append(extend(space, ledger, 2))
    simulation.run()
    assert followed(simulation) == [1, 2, 3, None]
