from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from drawing import SPACE

from kdsweep.config import Job, load_job, load_space, read_job
from kdsweep.config.overrides import parse_path
from kdsweep.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return file


def test_paths() -> None:
    assert parse_path("a.b_c.d[0][12].e") == ("a", "b_c", "d", 0, 12, "e")
    for bad in ("", "a.", ".a", "a[b]", "a[-1]", "a b", "[0]"):
        with pytest.raises(ConfigError, match="not a path"):
            parse_path(bad)


def test_leaves_and_sub_trees(file: Path) -> None:
    space = load_space(
        file,
        [
            "train.epochs=7",
            "train.lr=1e-3",
            "student.encoder.values[1]=resnet34",
            "student.arch=fpn",
            "train.weight_decay={min: 1e-3, max: 1e-1, distribution: log_uniform_values}",
            "sweep.sampler=random",
            "tracking.wandb.mode=off",
            "distill={hint: {taps: [encoder.4]}}",
            "distill.hint.taps[0]=encoder.3",
            "name=other",
        ],
    )
    assert space.name == "other"
    assert space.tree["train"]["epochs"] == 7
    assert space.tree["train"]["lr"] == 1e-3
    assert space.tree["student"]["encoder"] == {"values": ["resnet18", "resnet34"]}
    assert space.tree["train"]["weight_decay"]["min"] == 1e-3
    assert space.sweep.sampler == "random"
    assert space.sweep.trials == 8
    assert space.tracking.wandb.mode == "off"
    assert space.tree["distill"]["pixel_kl"] is None
    assert space.tree["distill"]["hint"]["taps"] == ["encoder.3"]


def test_sections_are_made_where_needed(job: dict[str, Any]) -> None:
    job["teacher"] = None
    found = load_job(
        job,
        [
            "teacher.encoder=resnet50",
            "distill.attention.weight=10",
            "train.supervised.dice.weight=2",
        ],
    )
    assert found.teacher is not None
    assert found.teacher.encoder == "resnet50"
    assert found.distill.attention is not None
    assert found.distill.attention.taps == ("encoder.3", "encoder.4")
    assert found.train.supervised.ce is None
    assert found.train.supervised.dice is not None


def test_values_are_yaml(job: dict[str, Any]) -> None:
    found = load_job(
        job,
        [
            "train.lr=1e-4",
            "train.clip_norm=null",
            "train.compile=true",
            "data.image_size=[32, 64]",
            "student.options={decoder_channels: [8, 8], text: a=b}",
            'student.arch="unet"',
        ],
    )
    assert found.train.lr == 1e-4
    assert found.train.clip_norm is None
    assert found.train.compile is True
    assert found.data.image_size == (32, 64)
    assert found.student.options == {"decoder_channels": [8, 8], "text": "a=b"}


def test_the_last_of_several_wins(job: dict[str, Any]) -> None:
    assert load_job(job, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


def test_overrides_into_choices(file: Path) -> None:
    head, tail = SPACE.split("distill:\n")
    file.write_text(head + "distill: {values: [{}, {hint: {}}]}\n" + tail[tail.index("train:") :])
    space = load_space(file, ["distill.values[1].pixel_kl.temperature=3"])
    changed = space.tree["distill"]["values"][1]
    assert changed["pixel_kl"]["temperature"] == 3
    assert changed["pixel_kl"]["weight"] == 1.0
    assert changed["hint"]["taps"] == ["encoder.4"]
    with pytest.raises(ConfigError) as caught:
        load_space(file, ["distill.pixel_kl.temperature=3"])
    assert caught.value.problem == "`distill` is a range here"
    assert "distill.values[0].pixel_kl" in str(caught.value.hint)


def test_an_override_that_puts_an_error_right(file: Path) -> None:
    file.write_text(SPACE.replace("epochs: 4", "epochs: 0"))
    assert load_space(file, ["train.epochs=1"]).tree["train"]["epochs"] == 1


def test_an_override_of_a_part_is_blamed_for_the_whole(job: dict[str, Any]) -> None:
    job["train"]["supervised"] = {"ce": {}}
    with pytest.raises(ConfigError) as caught:
        load_job(job, ["train.supervised.ce=null"])
    assert str(caught.value).startswith(
        "--set train.supervised.ce=null: train.supervised: no loss against the labels"
    )


def test_data_keeps_what_all_sources_share(file: Path) -> None:
    file.write_text(
        SPACE.replace(
            "[64, 96]}",
            "[64, 96], augment: light, num_train: 9, scenes: 20, classes: {a: [b]}, path: /old, "
            "seed: 1}",
        )
    )
    space = load_space(file, data=["camvid=/data/camvid"])
    assert space.tree["data"] == {
        "source": "camvid",
        "path": "/data/camvid",
        "image_size": [64, 96],
        "classes": None,
        "accept": [],
        "image_bits": 8,
        "crop": None,
        "crop_scale": [0.5, 2.0],
        "augment": "light",
        "augment_on": "auto",
        "num_classes": None,
        "num_train": 9,
        "num_val": None,
        "unlabelled": None,
        "labelled": None,
        "num_labelled": None,
        "all_labels": False,
        "unlabelled_augment": "strong",
        "workers": None,
        "cache": None,
        "mask_suffix": None,
    }


def test_data_of_the_same_source_changes_the_path_alone(job: dict[str, Any]) -> None:
    job["data"] = {"source": "lyft", "image_size": [64, 96], "hood_void": False, "path": "/old"}
    found = load_job(job, data=["lyft=/new"])
    assert found.data.path == "/new"
    assert found.data.source == "lyft"
    assert found.data.hood_void is False


def test_data_drops_no_slips(job: dict[str, Any]) -> None:
    job["data"] = {"source": "lyft", "imagesize": [64, 96], "hood_void": False}
    with pytest.raises(ConfigError, match=r"unknown key|missing") as caught:
        load_job(job, data=["camvid=/new"])
    assert {str(e.path[-1]) for e in (caught.value, *caught.value.others)} == {
        "imagesize",
        "image_size",
    }


def test_data_comes_before_set(job: dict[str, Any]) -> None:
    found = load_job(job, ["data.augment=none"], ["lyft=/x"])
    assert (found.data.source, found.data.augment) == ("lyft", "none")


def test_folders_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any]
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    text = "data: {source: lyft, image_size: [64, 96], path: PATH, cache: ~/cache}\n"
    text += "student: {}\ntrain: {epochs: 1}\n"
    file = tmp_path / "sub" / "job.yaml"

    def path(written: str, *overrides: str, data: tuple[str, ...] = ()) -> str:
        file.write_text(text.replace("PATH", written))
        found = load_job("sub/job.yaml", overrides, data).data
        assert found.cache == "/home/someone/cache"
        assert found.path is not None
        return found.path

    assert path("/data") == "/data"
    assert path("data") == str(tmp_path / "sub" / "data")
    assert path("../data") == str(tmp_path / "data")
    assert path("~/data") == "/home/someone/data"
    assert path("x", "data.path=data") == str(tmp_path / "data")
    assert path("x", data=("lyft=data",)) == str(tmp_path / "data")
    assert path("x", data=("lyft=~/data",)) == "/home/someone/data"
    job["data"]["path"] = "data"
    assert load_job(job).data.path == os.path.abspath("data")
    job["data"]["path"] = {"values": ["a", "/b"]}
    assert load_space(job).tree["data"]["path"] == {"values": [os.path.abspath("a"), "/b"]}


def test_a_teachers_checkpoint_becomes_absolute(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "data: {source: lyft, image_size: [64, 96]}\nteacher: {}\nstudent: {}\n"
        "distill: {teacher: frozen, checkpoint: best, pixel_kl: {weight: 1}}\ntrain: {epochs: 1}\n"
    )
    assert load_job(file).distill.checkpoint == str(tmp_path / "best")


def test_files_of_weights_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "space.yaml"
    file.write_text(
        "data: {source: lyft, image_size: [64, 96], path: /x}\n"
        "teacher: {values: [{encoder_weights: a.pth}, {encoder_weights: imagenet}]}\n"
        "student: {encoder_weights: {values: [null, ../b.pt, 'package:c.bin', /d.safetensors]}}\n"
        "train: {epochs: 1}\n"
    )
    tree = load_space(file).tree
    teachers = [choice["encoder_weights"] for choice in tree["teacher"]["values"]]
    assert teachers == [str(tmp_path / "sub" / "a.pth"), "imagenet"]
    students = tree["student"]["encoder_weights"]["values"]
    assert students == [None, str(tmp_path / "b.pt"), "package:c.bin", "/d.safetensors"]
    named = load_job(job, ["student.encoder_weights=w.pth"])
    assert named.student.encoder_weights == str(tmp_path / "w.pth")


def test_a_job_file_locates_later_errors(tmp_path: Path, job: dict[str, Any]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "data: {source: camvid, image_size: [64, 96]}\nstudent: {}\ntrain:\n  epochs: 1\n"
    )
    loaded = read_job(file, ["train.batch_size=4"])
    assert isinstance(loaded.job, Job)
    assert loaded.locate(ConfigError("bad", path=("train", "epochs"))).line == 4
    assert loaded.locate(ConfigError("bad", path=("student", "encoder"))).line == 2
    override = loaded.locate(ConfigError("bad", path=("train", "batch_size")))
    assert (override.file, override.line) == ("--set train.batch_size=4", None)
    assert read_job(job).locate(ConfigError("bad", path=("train",))).file is None


def test_a_folder_of_unlabelled_pictures_becomes_absolute(tmp_path: Path) -> None:
    """Trials run elsewhere."""
    file = tmp_path / "job.yaml"
    file.write_text(
        "data: {source: roadscenes, image_size: [32, 32], unlabelled: pictures}\n"
        "student: {}\ntrain: {epochs: 1}\n"
    )
    assert load_job(file).data.unlabelled == str(tmp_path / "pictures")
