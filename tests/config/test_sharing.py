"""Which ranges a cohort draws once."""

import optuna
import pytest

from kdsweep.config import load_space
from kdsweep.errors import ConfigError

optuna.logging.set_verbosity(optuna.logging.ERROR)


def make_space(**sections):
    return load_space(
        {
            "name": "tiny",
            "data": {"source": "roadscenes", "image_size": [32, 32]},
            "teacher": {"encoder": "resnet34"},
            "student": {"encoder": "resnet18"},
            "train": {"epochs": 3, "lr": 0.001},
            **sections,
        }
    )


def names(space, *, shared):
    return [range_.name for range_, is_shared in space.ranges() if is_shared is shared]


def draw(space, number=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return space.draw(study.ask())


def test_a_student_has_its_network_its_losses_and_its_optimiser_to_itself():
    weight = {"min": 0.1, "max": 10}
    space = make_space(
        data={
            "source": "roadscenes",
            "image_size": [32, 32],
            "augment": {"values": ["none", "light"]},
        },
        teacher={"encoder": {"values": ["resnet34", "resnet50"]}},
        student={"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
        distill={
            "pixel_kl": {"weight": weight},
            "warmup_epochs": {"values": [0, 1]},
            "teacher": {"values": ["online", "ema"]},
            "head_start_epochs": {"values": [0, 2]},
        },
        train={
            "epochs": 3,
            "lr": {"min": 0.001, "max": 0.1},
            "student": {"lr": {"min": 0.001, "max": 0.1}},
            "teacher": {"lr": {"min": 0.001, "max": 0.1}},
            "seed": {"values": [0, 1]},
        },
    )
    assert names(space, shared=False) == [
        "student.encoder",
        "distill.pixel_kl.weight",
        "distill.warmup_epochs",
        "train.student.lr",
    ]
    assert sorted(names(space, shared=True)) == [
        "data.augment",
        "distill.head_start_epochs",
        "distill.teacher",
        "teacher.encoder",
        "train.lr",
        "train.seed",
        "train.teacher.lr",
    ]
    drawn = draw(space)
    assert drawn.shared == {name: drawn.params[name] for name in names(space, shared=True)}


def test_a_choice_is_shared_if_its_subtrees_differ_in_something_shared():
    losses = {"values": [{"pixel_kl": {"weight": {"values": [1, 2]}}}, {"hint": {"weight": 1}}]}
    assert names(make_space(distill=losses), shared=True) == []
    modes = {
        "values": [
            {"pixel_kl": {"weight": {"values": [1, 2, 3]}}},
            {"pixel_kl": {"weight": 1}, "teacher": "ema"},
        ]
    }
    space = make_space(distill=modes)
    assert names(space, shared=True) == ["distill"]
    assert names(space, shared=False) == ["distill[0].pixel_kl.weight"]
    counts = {
        drawn.job.distill.teacher: (space.num_siblings(drawn), list(space.siblings(drawn)))
        for drawn in (draw(space, number) for number in range(10))
    }
    online, ema = counts["online"], counts["ema"]
    assert ema[0] == len(ema[1]) == 1
    assert online[0] == 3
    assert [point["distill[0].pixel_kl.weight"] for point in online[1]] == [1, 2, 3]
    assert {point["distill"] for point in online[1]} == {space.labels["distill"][0]}


def test_a_range_below_a_shared_choice_is_looked_at_by_itself():
    space = make_space(
        distill={
            "values": [
                {"pixel_kl": {"weight": {"min": 0.5, "max": 2.5}}, "head_start_epochs": 1},
                {"pixel_kl": {"weight": 1}, "ema_decay": {"values": [0.9, 0.99]}, "teacher": "ema"},
            ]
        }
    )
    assert names(space, shared=True) == ["distill", "distill[1].ema_decay"]
    drawn = next(
        found
        for found in (draw(space, number) for number in range(20))
        if found.job.distill.teacher == "online"
    )
    assert space.num_siblings(drawn) is None
    assert list(drawn.shared) == ["distill"]


def test_several_students_that_could_not_differ_are_refused():
    sweep = {"students_per_teacher": 3}
    train = {"epochs": 3, "lr": {"min": 0.001, "max": 0.1}}
    with pytest.raises(ConfigError, match="no range by which they could differ") as refused:
        make_space(train=train, sweep=sweep)
    assert refused.value.path == ("sweep", "students_per_teacher")
    assert refused.value.value == 3
    make_space(train=train, sweep={"students_per_teacher": "auto"})
    make_space(student={"encoder": {"values": ["resnet18", "resnet34"]}}, sweep=sweep)


@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_a_number_of_students_is_positive_or_auto(value):
    with pytest.raises(ConfigError) as refused:
        make_space(sweep={"students_per_teacher": value})
    assert refused.value.path == ("sweep", "students_per_teacher")


def test_a_sweep_scores_all_its_trials_at_one_size():
    assert make_space(train={"epochs": 3, "validate_at": "native"}).jobs_to_check()[0]
    with pytest.raises(ConfigError, match="cannot be ranked") as refused:
        make_space(train={"epochs": 3, "validate_at": {"values": ["native", "resized"]}})
    assert refused.value.path == ("train", "validate_at")


def test_in_a_sweep_the_same_epoch_of_all_trials_counts():
    assert make_space(train={"epochs": 3, "select": "last"}).jobs_to_check()[0]
    with pytest.raises(ConfigError, match="cannot be ranked") as refused:
        make_space(train={"epochs": 3, "select": {"values": ["best", "last"]}})
    assert refused.value.path == ("train", "select")
