from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from kdsweep.config import Job, Space, load_job, load_space
from kdsweep.config.job import SCOPES, folder_name
from kdsweep.errors import ConfigError


def job_with(job: dict[str, Any], *changes: str) -> Job:
    return load_job(job, changes)


def problem(job: dict[str, Any], *changes: str) -> tuple[str, str]:
    """Path and problem of the one error that the changed job has."""
    with pytest.raises(ConfigError) as caught:
        load_job(job, changes)
    assert not caught.value.others
    return str(caught.value).splitlines()[0].split(": ", 1)[-1], caught.value.problem


def test_defaults(job: dict[str, Any]) -> None:
    found = load_job(job)
    assert found.name == "job"
    assert found.train.supervised.ce is not None
    assert found.train.supervised.dice is None
    assert found.student.arch == "unet"
    assert found.distill.terms() == {}
    assert found.label == "resnet34→resnet18"


def test_whole_numbers_are_taken_as_numbers(job: dict[str, Any]) -> None:
    found = job_with(job, "train.lr=1", "distill.pixel_kl.weight=2")
    assert isinstance(found.train.lr, float)
    assert found.train.lr == 1.0


def test_lists_become_tuples(job: dict[str, Any]) -> None:
    found = job_with(job, "distill.hint.taps=[encoder.3, decoder]")
    assert found.distill.hint is not None
    assert found.distill.hint.taps == ("encoder.3", "decoder")
    assert found.data.image_size == (64, 96)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train.epochs=true", "not a whole number"),
        ("train.epochs=2.0", "not a whole number"),
        ("train.epochs='2'", "not a whole number"),
        ("train.epochs=0", "too small"),
        ("train.lr=true", "not a number"),
        ("train.lr='1e-4 '", "not a number"),
        ("train.lr=.nan", "not a finite number"),
        ("train.lr=.inf", "not a finite number"),
        ("train.lr=0", "too small"),
        ("train.lr=null", "null is not allowed here"),
        ("train.momentum=1", "too large"),
        ("train.compile=1", "neither true nor false"),
        ("train.compile=yes", "neither true nor false"),
        ("train.compile=fast", "not one of the allowed names"),
        ("train.compile=null", "null is not allowed here"),
        ("train.optimizer=AdamW", "not one of the allowed names"),
        ("train.supervised=ce", "not a mapping"),
        ("student.arch=3", "not a text"),
        ("student.encoder_weights=coco", "not one of the allowed names"),
        ("student.options=[1]", "not a mapping"),
        ("data.image_size=64", "not a list"),
        ("data.image_size=[64]", "too few items"),
        ("data.image_size=[64, 64, 3]", "too many items"),
        ("data.image_size=[64, true]", "not a whole number"),
        ("data.source=kitti", "unknown source"),
        ("distill.hint.taps=encoder.4", "not a list"),
        ("distill.hint.taps=[]", "too few items"),
        ("distill.hint.weight=-1", "too small"),
        ("name=a/b", "not usable as a folder name"),
        ("name=.hidden", "not usable as a folder name"),
    ],
)
def test_nothing_is_converted_silently(job: dict[str, Any], change: str, expected: str) -> None:
    assert problem(job, change)[1] == expected


@pytest.mark.parametrize("section", ["data", "student", "train"])
def test_sections_that_must_be_there(job: dict[str, Any], section: str) -> None:
    del job[section]
    assert problem(job) == ("missing", "missing")


def test_a_distillation_loss_needs_a_teacher(job: dict[str, Any]) -> None:
    job["distill"] = {"pixel_kl": {}}
    assert load_job(job).distill.terms().keys() == {"pixel_kl"}
    assert problem(job, "teacher=null")[1] == "a distillation loss without a teacher"
    without = job_with(job, "teacher=null", "distill.pixel_kl.weight=0")
    assert without.label == "control resnet18"


@pytest.mark.parametrize(
    ("distill", "path", "expected"),
    [
        ({"mutual": {}, "teacher": "ema"}, "mutual", "does not learn from the student"),
        (
            {"mutual": {}, "teacher": "frozen", "head_start_epochs": 1},
            "mutual",
            "does not learn from the student",
        ),
        ({"pixel_kl": {}, "teacher": "frozen"}, "teacher", "never trained"),
        ({"pixel_kl": {}, "warmup_epochs": 2, "until_epoch": 2}, "until_epoch", "warm-up of 2"),
        (
            {"pixel_kl": {"until_epoch": 1}, "warmup_epochs": 2},
            "pixel_kl.until_epoch",
            "before its warm-up",
        ),
        ({"dist": {"beta": 0, "gamma": 0}}, "dist.gamma", "nothing to learn"),
        ({"dkd": {"alpha": 0, "beta": 0}}, "dkd.beta", "nothing to learn"),
    ],
)
def test_distillation_must_make_sense(
    job: dict[str, Any], distill: dict[str, Any], path: str, expected: str
) -> None:
    job["distill"] = distill
    with pytest.raises(ConfigError, match=expected) as caught:
        load_job(job)
    assert ".".join(map(str, caught.value.path)) == f"distill.{path}"


def test_images_are_related_in_batches_of_several(job: dict[str, Any]) -> None:
    job["distill"] = {"cross_image": {}}
    job["train"]["batch_size"] = 1
    with pytest.raises(ConfigError, match="batches of one image"):
        load_job(job)
    assert job_with(job, "train.batch_size=2").distill.terms().keys() == {"cross_image"}


def test_a_control_is_valid_and_differs_in_nothing_else(job: dict[str, Any]) -> None:
    job["distill"] = {"pixel_kl": {}}
    found = load_job(job)
    control = found.as_control()
    assert Job.model_validate(control.model_dump()) == control
    assert control.teacher is None
    assert not control.distill.terms()
    assert (control.student, control.train, control.data) == (
        found.student,
        found.train,
        found.data,
    )


@pytest.mark.parametrize(
    ("supervised", "expected"),
    [
        ("{}", "no loss against the labels"),
        ("{ce: null}", "no loss against the labels"),
        (
            "{dice: {}, class_weights: inverse_log}",
            "class weights have no effect on dice alone",
        ),
        ("{ce: {}, class_weights: [1]}", "too few items"),
        ("{ce: {}, class_weights: [1, 0]}", "too small"),
        ("{ce: {}, class_weights: uniform}", "not one of the allowed names"),
        ("{ce: {}, class_weights: 3}", "not allowed here"),
    ],
)
def test_supervised_losses_must_make_sense(
    job: dict[str, Any], supervised: str, expected: str
) -> None:
    assert problem(job, f"train.supervised={supervised}")[1] == expected


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("{val: 0.5, test: 0.5}", "val + test is 1, which leaves no frame to train on"),
        ("{val: 1.5}", "too large"),
        ("{train: [a, b], val: [b]}", "this part is in train already"),
        ("{train: [a, a], val: [b]}", "named twice"),
        ("{train: [a]}", "missing"),
        ("{train: [], val: [b]}", "too few items"),
        ("{train: [a], val: b}", "not a list"),
        ("{train: [a], val: [b], seed: 1}", "unknown key"),
        ("3", "not allowed here"),
    ],
)
def test_splits_must_make_sense(job: dict[str, Any], split: str, expected: str) -> None:
    job["data"] = {"source": "lyft", "image_size": [64, 96]}
    assert problem(job, f"data.split={split}")[1] == expected


def test_both_ways_to_split(job: dict[str, Any]) -> None:
    job["data"] = {"source": "lyft", "image_size": [64, 96]}
    for split in ("{train: [a], val: [b]}", "{val: 0.1, block: 20}"):
        found = job_with(job, f"data.split={split}")
        assert Job.model_validate(found.model_dump(mode="json")) == found


def test_gpus_are_a_share_of_one_or_whole() -> None:
    from kdsweep.config import ResourcesConfig

    assert ResourcesConfig(gpus_per_trial=0.25).gpus_per_trial == 0.25
    assert ResourcesConfig(gpus_per_trial=2).gpus_per_trial == 2
    with pytest.raises(ValidationError, match="not a whole number of them"):
        ResourcesConfig(gpus_per_trial=1.5)


def test_options_hold_plain_values_only(job: dict[str, Any]) -> None:
    job["student"]["options"] = {"decoder_channels": (64, 32), "nested": {"a": [None, True]}}
    found = load_job(job)
    assert found.student.options == {"decoder_channels": [64, 32], "nested": {"a": [None, True]}}
    job["student"]["options"] = {"a": [object()]}
    assert "which is no plain value" in problem(job)[1]
    job["student"]["options"] = {"a": float("inf")}
    assert problem(job)[1] == "options hold inf, which is no plain value"


def test_specs_are_frozen_closed_and_picklable(job: dict[str, Any]) -> None:
    found = load_job(job)
    with pytest.raises(ValidationError, match="frozen"):
        found.train.epochs = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(found)) == found


def test_every_section_of_a_job_is_in_one_scope() -> None:
    assert sorted(key for scope in SCOPES for key in scope) == sorted(Job.model_fields)


def test_no_key_of_the_schema_looks_like_a_range() -> None:
    from kdsweep.config.grammar import RANGE_KEYS
    from kdsweep.config.reference import all_sections

    keys = {key for section in all_sections().values() for key in section.model_fields}
    assert keys.isdisjoint(RANGE_KEYS)


def test_folder_names() -> None:
    assert folder_name("my space!") == "my-space"
    assert folder_name("…") == "job"


def test_errors_survive_pickling() -> None:
    bare = pickle.loads(pickle.dumps(ConfigError("no", path=("a", 1))))
    assert not bare.has_value
    assert str(bare) == "a[1]: no"


@pytest.mark.parametrize(
    ("channel_wise", "weight"),
    [
        ({}, 3.0),
        ({"taps": ["encoder.4"]}, 50.0),
        ({"taps": ["encoder.4", "logits"]}, 3.0),
        ({"taps": ["encoder.4"], "weight": 1.0}, 1.0),
    ],
)
def test_features_have_a_weight_of_their_own(
    job: dict[str, Any], channel_wise: dict[str, Any], weight: float
) -> None:
    job["distill"] = {"channel_wise": channel_wise}
    found = load_job(job).distill.channel_wise
    assert found is not None
    assert found.weight == weight
    # What a trial's file says comes out as it is.
    assert Job.model_validate_json(load_job(job).model_dump_json()) == load_job(job)
    (only,) = load_space(job).corners()
    assert only.distill.channel_wise == found


def test_features_that_are_drawn_have_their_weight_too(job: dict[str, Any]) -> None:
    job["distill"] = {"channel_wise": {"taps": {"values": [["logits"], ["encoder.4"]]}}}
    drawn = [corner.distill.channel_wise for corner in load_space(job).corners()]
    assert {(config.taps, config.weight) for config in drawn if config} == {
        (("logits",), 3.0),
        (("encoder.4",), 50.0),
    }
    again = Space.from_resolved(load_space(job).resolved())
    assert [corner.distill.channel_wise for corner in again.corners()] == drawn
