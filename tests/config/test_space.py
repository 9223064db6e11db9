from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from drawing import SPACE, FixedSuggest, RandomSuggest

from kdsweep.config import Space, control_key, load_job, load_space
from kdsweep.config.corners import MAX_PRODUCT
from kdsweep.errors import ConfigError

CONDITIONAL = """\
name: losses
data: {source: camvid, image_size: {values: [[64, 96], [96, 128]]}}
teacher: {encoder: resnet34}
student: {encoder: resnet18}
distill:
  values:
    - {}
    - pixel_kl: {weight: {min: 0.1, max: 10, distribution: log_uniform_values}}
    - attention: {weight: 1000, taps: {values: [[encoder.3], [encoder.3, encoder.4]]}}
train: {epochs: 2, lr: {values: [0.01, {min: 1e-4, max: 1e-3, distribution: log_uniform_values}]}}
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(tmp_path / "space.yaml")


@pytest.fixture
def conditional(tmp_path: Path) -> Space:
    (tmp_path / "losses.yaml").write_text(CONDITIONAL)
    return load_space(tmp_path / "losses.yaml")


def test_a_space_keeps_its_text_and_sections(space: Space) -> None:
    assert space.text == SPACE
    assert space.name == "backbones"
    assert space.sweep.trials == 8
    assert space.sweep.metric == "student/miou"
    assert space.resources.gpus_per_trial == 1
    assert space.tracking.wandb.mode == "auto"
    assert space.tree["train"]["epochs"] == 4
    assert space.tree["train"]["batch_size"] == 8
    assert space.tree["train"]["lr"] == {
        "min": 1e-4,
        "max": 1e-2,
        "distribution": "log_uniform_values",
    }


def test_draw_asks_an_optuna_trial(space: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        draw = space.draw(trial)
        assert draw.params == trial.params
        assert draw.values == draw.params
        assert draw.job.name == "backbones"
        assert draw.job.student.encoder == draw.params["student.encoder"]
        assert draw.job.distill.pixel_kl is not None
        assert draw.job.distill.pixel_kl.weight == draw.params["distill.pixel_kl.weight"]
        assert space.draw(optuna.trial.FixedTrial(draw.params)) == draw
        study.tell(trial, 0.0)


def test_names_of_parameters_are_paths(space: Space) -> None:
    assert list(space.draw(RandomSuggest(0)).params) == [
        "teacher.encoder",
        "student.encoder",
        "distill.pixel_kl.weight",
        "distill.pixel_kl.temperature",
        "train.lr",
    ]


def test_only_ranges_that_count_are_drawn(conditional: Space) -> None:
    names = set()
    for seed in range(40):
        draw = conditional.draw(RandomSuggest(seed))
        names.add(tuple(draw.params))
        chosen = str(draw.params["distill"])
        assert ("distill[1].pixel_kl.weight" in draw.params) == chosen.startswith("{pixel_kl")
        assert ("distill[2].attention.taps" in draw.params) == chosen.startswith("{attention")
        assert ("train.lr[1]" in draw.params) == (draw.job.train.lr != 0.01)
    assert len(names) == 6


def test_choices_between_sub_trees_have_readable_labels(conditional: Space) -> None:
    params = {
        "data.image_size": "[96, 128]",
        "distill": "{attention: {weight: 1000, taps: {values: [[encoder.3], [en…",
        "distill[2].attention.taps": "[encoder.3, encoder.4]",
        "train.lr": "{min: 0.0001, max: 0.001, distribution: log_uniform_values}",
        "train.lr[1]": 5e-4,
    }
    draw = conditional.draw(FixedSuggest(params))
    assert draw.params == params
    assert draw.job.data.image_size == (96, 128)
    assert draw.job.distill.attention is not None
    assert draw.job.distill.attention.taps == ("encoder.3", "encoder.4")
    assert draw.job.train.lr == 5e-4


def test_probabilities_give_a_quantile_and_a_readable_value() -> None:
    space = load_space(tiny(student={"values": ["a", "b"], "probabilities": [0.75, 0.25]}))
    draw = space.draw(FixedSuggest({"student.encoder.quantile": 0.9}))
    assert draw.job.student.encoder == "b"
    assert draw.values == {"student.encoder": "b"}
    assert draw.params == {"student.encoder.quantile": 0.875}
    assert list(space.grid()) == [
        {"student.encoder.quantile": 0.375},
        {"student.encoder.quantile": 0.875},
    ]


def tiny(student: Any = "resnet18", **sections: Any) -> dict[str, Any]:
    """A space with few ranges."""
    return {
        "data": {"source": "camvid", "image_size": [64, 96]},
        "student": {"encoder": student},
        "train": {"epochs": 2},
        **sections,
    }


def test_a_plain_job_is_a_space_of_one_point() -> None:
    space = load_space(tiny())
    assert space.name == "sweep"
    assert space.num_points() == 1
    assert list(space.grid()) == [{}]
    assert len(list(space.corners())) == 1
    assert len(space.jobs_to_check()) == 1
    draw = space.draw(FixedSuggest({}))
    assert draw.params == {}
    assert draw.job == load_job({**tiny(), "name": "sweep"})
    assert space.controls() == [draw.job]


def test_a_file_lends_its_name(tmp_path: Path) -> None:
    (tmp_path / "my space.yaml").write_text(SPACE.replace("name: backbones\n", ""))
    assert load_space(tmp_path / "my space.yaml").name == "my-space"


def test_points_and_grid() -> None:
    space = load_space(
        tiny(
            {"values": ["a", "b"]},
            train={
                "epochs": {"min": 1, "max": 2},
                "lr": {
                    "values": [0.1, {"min": 0.2, "max": 0.4, "q": 0.1, "distribution": "q_uniform"}]
                },
            },
        )
    )
    points = list(space.grid())
    assert space.num_points() == len(points) == 2 * 2 * (1 + 3)
    assert points[0] == {"student.encoder": "a", "train.epochs": 1, "train.lr": 0.1}
    assert points[1]["train.lr[1]"] == 0.2
    assert [p["student.encoder"] for p in points] == ["a"] * 8 + ["b"] * 8
    draws = [space.draw(optuna.trial.FixedTrial(point)) for point in points]
    assert [draw.params for draw in draws] == points
    assert len({draw.job.model_dump_json() for draw in draws}) == len(points)


def test_a_continuous_space_has_no_grid(space: Space) -> None:
    assert space.num_points() is None
    with pytest.raises(ConfigError, match="a grid needs a finite space"):
        next(space.grid())


def test_corners_show_every_choice_and_both_ends(space: Space) -> None:
    jobs = list(space.corners())
    seen = {
        (job.teacher.encoder, pixel_kl.weight, pixel_kl.temperature)
        for job in jobs
        if job.teacher is not None and (pixel_kl := job.distill.pixel_kl) is not None
    }
    assert seen == set(itertools.product(["resnet18", "resnet34"], [0.1, 10.0], [1.0, 2.0, 4.0]))
    assert {job.student.encoder for job in jobs} == {"resnet18", "mobilenet_v2"}
    assert {job.train.lr for job in jobs} == {1e-4, 1e-2}
    assert len(jobs) == len({job.model_dump_json() for job in jobs}) < 30


def test_corners_of_nested_choices(conditional: Space) -> None:
    jobs = list(conditional.corners())
    assert {job.train.lr for job in jobs} == {0.01, 1e-4, 1e-3}
    taps = {job.distill.attention.taps for job in jobs if job.distill.attention}
    assert taps == {("encoder.3",), ("encoder.3", "encoder.4")}


def test_jobs_to_check_are_few_and_pair_what_is_structural() -> None:
    source = tiny(
        {"values": ["a", "b", "c"]},
        teacher={"encoder": {"values": ["d", "e"]}},
        distill={
            "attention": {
                "weight": {"values": [0, 1000]},
                "taps": {"values": [["encoder.3"], ["encoder.4"]]},
            },
            "pixel_kl": {"weight": {"min": 0, "max": 1}, "stride": {"values": [1, 8]}},
        },
        train={"epochs": {"min": 1, "max": 9}, "lr": {"min": 0.1, "max": 0.2}},
    )
    space = load_space(source)
    jobs = space.jobs_to_check()
    assert len(jobs) <= 12
    shown = {
        (job.student.encoder, job.teacher.encoder, job.distill.terms()["attention"].taps)
        for job in jobs
        if job.teacher is not None and "attention" in job.distill.terms()
    }
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert len({tuple(row[i] for i in pair) for row in shown}) in (6, 4)
    assert max(job.train.epochs for job in jobs) == 9
    assert {job.distill.pixel_kl.stride for job in jobs if job.distill.pixel_kl} == {1, 8}
    assert any("attention" not in job.distill.terms() for job in jobs)


def test_controls_are_one_per_student_at_the_middle(space: Space) -> None:
    controls = space.controls()
    assert [job.label for job in controls] == ["control resnet18", "control mobilenet_v2"]
    for job in controls:
        assert job.teacher is None
        assert not job.distill.terms()
        assert job.train.lr == 1e-3
        assert job.train.epochs == 4
        assert job.name == "backbones"
    keys = [control_key(job) for job in controls]
    for seed in range(10):
        draw = space.draw(RandomSuggest(seed))
        assert controls[keys.index(control_key(draw.job))].student == draw.job.student


def test_students_that_come_out_alike_share_a_control() -> None:
    source = tiny()
    source["student"] = {
        "values": [
            {"encoder": "a"},
            {"encoder": {"values": ["a", "b"]}},
            {"encoder": "a", "encoder_weights": "imagenet"},
        ]
    }
    space = load_space(source)
    assert [(job.student.encoder, job.student.encoder_weights) for job in space.controls()] == [
        ("a", None),
        ("b", None),
        ("a", "imagenet"),
    ]


def test_controls_of_infinitely_many_students() -> None:
    source = tiny(sweep={"controls": "none"})
    source["student"]["options"] = {"x": {"min": 0.0, "max": 1.0}}
    space = load_space(source)
    with pytest.raises(ConfigError, match="infinitely many student architectures"):
        space.controls()


def test_resolved_comes_back_equal(space: Space, conditional: Space) -> None:
    for one in (space, conditional, load_space(tiny())):
        resolved = json.loads(json.dumps(one.resolved()))
        again = Space.from_resolved(resolved, text=one.text)
        assert again == one
        assert again.text == one.text
        assert again.resolved() == one.resolved()
        for seed in range(20):
            draw = one.draw(RandomSuggest(seed))
            assert again.draw(FixedSuggest(json.loads(json.dumps(draw.params)))) == draw
        assert pickle.loads(pickle.dumps(one)) == one


def test_resolved_pins_the_defaults_also_of_sub_trees() -> None:
    source = tiny()
    source["student"] = {"values": [{"encoder": "a"}, {"encoder": "b"}]}
    space = load_space(source)
    assert space.resolved()["student"]["values"][0] == {
        "arch": "unet",
        "encoder": "a",
        "encoder_weights": None,
        "encoder_pixels": None,
        "options": {},
    }
    assert space.resolved()["labels"] == {"student": ["{encoder: a}", "{encoder: b}"]}
    assert Space.from_resolved(space.resolved()).draw(RandomSuggest(0)).params["student"] in (
        "{encoder: a}",
        "{encoder: b}",
    )


def test_choices_that_come_to_the_same_are_an_error() -> None:
    source = tiny()
    source["student"] = {"values": [{}, {"encoder": "resnet18"}]}
    with pytest.raises(ConfigError) as caught:
        load_space(source)
    assert caught.value.problem == "with its defaults filled in, this choice equals another one"
    assert caught.value.path == ("student", "values", 1)


def test_a_resolved_space_that_is_no_longer_valid_is_an_error(space: Space) -> None:
    resolved = space.resolved()
    resolved["train"]["epochs"] = 0
    with pytest.raises(ConfigError, match="too small"):
        Space.from_resolved(resolved)


def test_later_errors_get_their_line(space: Space, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    for path, value, line in [
        (("student", "encoder"), "mobilenet_v2", 6),
        (("data", "image_size"), [64, 96], 3),
        (("distill", "pixel_kl", "weight"), 10.0, 9),
        (("train", "batch_size"), 8, 11),
        (("teacher", "arch"), "unet", 4),
    ]:
        error = space.locate(ConfigError("no good", path=path, value=value))
        assert (error.file, error.line) == (str(file), line)
    error = ConfigError("no good", path=("train",), file="other", line=1)
    assert space.locate(error).file == "other"
    assert (
        Space.from_resolved(space.resolved()).locate(ConfigError("x", path=("train",))).file is None
    )


def test_later_errors_find_the_choice_with_their_value(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "data: {source: camvid, image_size: [64, 96]}\n"
        "student:\n"
        "  values:\n"
        "    - encoder: resnet18\n"
        "    - encoder: resnet81\n"
        "    - arch: fpn\n"
        "      encoder: {values: [resnet18,\n"
        "                         resnet9]}\n"
        "train: {epochs: 1}\n"
    )
    space = load_space(file, overrides=["train.epochs=2"])

    def line(*path: str, value: str) -> int | None:
        return space.locate(ConfigError("unknown", path=path, value=value)).line

    assert line("student", "encoder", value="resnet18") == 4
    assert line("student", "encoder", value="resnet81") == 5
    assert line("student", "encoder", value="resnet9") == 8
    assert line("student", "arch", value="fpn") == 6
    located = space.locate(ConfigError("too long", path=("train", "epochs"), value=2))
    assert str(located).startswith("--set train.epochs=2: train.epochs: too long")


WIDE = {
    f"train.teacher.{key}": values
    for key, values in {
        "lr": [None, 0.1, 0.2, 0.3],
        "optimizer": [None, "adam", "sgd", "adamw"],
        "weight_decay": [None, 0.1, 0.2, 0.3],
        "momentum": [None, 0.1, 0.2, 0.3],
        "schedule": [None, "poly", "cosine", "constant"],
        "warmup_epochs": [None, 1, 2, 3],
    }.items()
}


BATCHES = {"values": [8, 1]}


@pytest.mark.parametrize("weight", [1, {"values": [0, 1]}, {"min": 0, "max": 1}])
def test_relations_between_images_need_two_in_a_batch(weight: Any) -> None:
    either = {"values": [None, {"weight": weight}]}
    space = tiny(
        teacher={}, distill={"cross_image": either}, train={"epochs": 1, "batch_size": BATCHES}
    )
    with pytest.raises(ConfigError, match="batches of one image") as caught:
        load_space(space)
    assert caught.value.path[:2] == ("distill", "cross_image")
    space["train"]["batch_size"] = {"min": 2, "max": 8}
    load_space(space)
    space["train"]["batch_size"] = BATCHES
    space["distill"] = {"cross_image": {"weight": 0}}
    load_space(space)


def test_relations_between_images_are_checked_among_too_many_corners() -> None:
    distill: dict[str, Any] = {
        name: {"values": [None, {"weight": {"values": [0, 1]}}]}
        for name in ("pixel_kl", "channel_wise", "hint", "attention", "pairwise", "cross_image")
    }
    train = {"epochs": 1, "batch_size": BATCHES}
    space = tiny(teacher={"encoder": {"values": ["a", "b"]}}, distill=distill, train=train)
    with pytest.raises(ConfigError, match="batches of one image"):
        load_space(space)
    distill["cross_image"] = None
    assert 3 * (load_space(space).num_points() or 0) > MAX_PRODUCT
    train["batch_size"] = 8
    distill["cross_image"] = {}
    load_space(space)


def wide(**supervised: Any) -> dict[str, Any]:
    """A space whose corners are too many to try all."""
    teacher = {key.rsplit(".", 1)[-1]: {"values": values} for key, values in WIDE.items()}
    return tiny(train={"epochs": 1, "teacher": teacher, "supervised": supervised})


def test_a_wide_space_is_checked_in_pairs() -> None:
    space = load_space(wide(ce={"values": [None, {}]}, dice={}))
    assert (space.num_points() or 0) > MAX_PRODUCT
    jobs = list(space.corners())
    assert len(jobs) < 2000
    pairs = {(job.train.teacher.lr, job.train.teacher.schedule) for job in jobs}
    assert len(pairs) == 16


@pytest.mark.parametrize(
    ("supervised", "problem"),
    [
        (
            {name: {"values": [{}, None]} for name in ("ce", "dice", "focal")},
            "no loss against the labels",
        ),
        (
            {
                "ce": {"values": [{}, None]},
                "focal": {"values": [{}, None]},
                "dice": {},
                "class_weights": {"values": [None, "inverse_log"]},
            },
            "class weights have no effect on dice alone",
        ),
    ],
)
def test_rules_over_several_fields_hold_in_wide_spaces_too(
    supervised: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_space(wide(**supervised))
    assert caught.value.problem == problem


def test_a_teacher_that_may_be_missing_does_not_go_with_losses() -> None:
    source = tiny(
        teacher={"values": [{"encoder": "a"}, None]},
        distill={"pixel_kl": {"weight": {"values": [0, 1]}}},
    )
    with pytest.raises(ConfigError) as caught:
        load_space(source)
    assert caught.value.problem == "a distillation loss without a teacher"
    source["distill"] = {}
    assert [job.teacher is None for job in load_space(source).corners()] == [False, True]


def test_the_source_of_the_data_may_be_a_range() -> None:
    source = tiny(data={"source": {"values": ["camvid", "lyft"]}, "image_size": [64, 96]})
    assert {job.data.source for job in load_space(source).corners()} == {"camvid", "lyft"}
    source["data"]["hood_void"] = True
    with pytest.raises(ConfigError) as caught:
        load_space(source)
    assert caught.value.hint == "only with source: lyft"


def test_values_of_a_range_may_be_items_of_a_list() -> None:
    source = tiny(
        teacher={}, distill={"hint": {"taps": ["encoder.3", {"values": ["encoder.4", "decoder"]}]}}
    )
    space = load_space(source)
    assert list(space.grid()) == [
        {"distill.hint.taps[1]": "encoder.4"},
        {"distill.hint.taps[1]": "decoder"},
    ]
    source["distill"]["hint"]["taps"][0] = "decoder"
    with pytest.raises(ConfigError, match="named twice"):
        load_space(source)


def test_a_constant_is_no_parameter() -> None:
    space = load_space(tiny({"value": "resnet50", "distribution": "constant"}))
    assert space.num_points() == 1
    assert space.draw(FixedSuggest({})).job.student.encoder == "resnet50"


def test_options_of_networks_may_be_ranges() -> None:
    source = tiny()
    source["student"]["options"] = {"decoder_channels": {"values": [[32, 16], [64, 32]]}}
    channels = [job.student.options["decoder_channels"] for job in load_space(source).controls()]
    assert channels == [[32, 16], [64, 32]]
