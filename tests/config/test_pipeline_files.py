"""``data.augment`` as a file: where it is looked for, and that its content becomes the job's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdsweep.config import Space, dump_yaml, load_job, load_space, read_job
from kdsweep.errors import ConfigError

FLIP = {"__class_fullname__": "HorizontalFlip", "p": 0.5}


def pipeline(**arguments: Any) -> dict[str, Any]:
    return {"transform": {"__class_fullname__": "Compose", "transforms": [{**FLIP, **arguments}]}}


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """A space whose training frames a file beside it augments."""
    (tmp_path / "mine.json").write_text(json.dumps(pipeline()))
    file = tmp_path / "space.yaml"
    file.write_text(
        "data:\n  source: roadscenes\n  image_size: [64, 96]\n  augment: mine.json\n"
        "student: {encoder: resnet18}\ntrain: {epochs: 1, batch_size: 2}\n"
    )
    return file


def refused(*arguments: Any) -> str:
    with pytest.raises(ConfigError) as found:
        load_job(*arguments)
    return str(found.value)


def test_a_file_is_looked_for_beside_the_file_that_names_it(space_file: Path) -> None:
    assert load_job(space_file).data.augment == {"file": "mine.json", **pipeline()}


def test_on_the_command_line_it_is_relative_to_where_one_is(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.yml").write_text(dump_yaml(pipeline(p=0.1)))
    monkeypatch.chdir(tmp_path / "here")
    job = load_job(space_file, ["data.augment=other.yml"])
    assert job.data.augment == {"file": "other.yml", **pipeline(p=0.1)}


def test_a_job_keeps_what_the_file_held(space_file: Path, tmp_path: Path) -> None:
    job = load_job(space_file)
    resolved = json.loads(json.dumps(load_space(space_file).resolved()))
    (tmp_path / "mine.json").unlink()
    (tmp_path / "job.yaml").write_text(dump_yaml(job))
    assert load_job(tmp_path / "job.yaml") == job
    assert [one.data for one in Space.from_resolved(resolved).corners()] == [job.data]


def test_several_files_are_told_apart_by_their_names(space_file: Path, tmp_path: Path) -> None:
    (tmp_path / "wild.json").write_text(json.dumps(pipeline(p=1.0)))
    text = space_file.read_text().replace("mine.json", "{values: [none, mine.json, wild.json]}")
    space_file.write_text(text)
    space = load_space(space_file)
    assert space.labels == {"data.augment": ["none", "mine.json", "wild.json"]}
    found = [job.data.augment for job in space.corners()]
    assert found == [
        "none",
        {"file": "mine.json", **pipeline()},
        {"file": "wild.json", **pipeline(p=1.0)},
    ]


def test_a_file_that_is_not_there(space_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").rename(tmp_path / "mine.yaml")
    assert refused(space_file) == (
        f"{space_file}:4: data.augment: there is no such file, looked for as "
        f"{tmp_path / 'mine.json'}\n  value:   'mine.json'\n  try:     did you mean "
        f"{tmp_path / 'mine.yaml'}?"
    )


def test_a_file_that_is_empty_or_no_mapping(space_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("")
    assert f"{space_file}:4: data.augment: the file is empty" in refused(space_file)
    (tmp_path / "mine.json").write_text("[1]")
    told = refused(space_file)
    assert f"{tmp_path / 'mine.json'}:1: data.augment: the file holds no mapping" in told
    assert "allowed: a pipeline that albumentations.save wrote" in told


def test_a_file_that_cannot_be_read(space_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"transform":\n  {"p": !!python/object:os.system 1}}')
    told = refused(space_file)
    assert told.startswith(f"{tmp_path / 'mine.json'}:2: data.augment: the YAML tag")


def test_a_later_error_shows_its_line_in_the_pipeline(space_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(pipeline(), indent=1))
    error = ConfigError("wrong", path=("data", "augment", "transform", "transforms", 0, "p"))
    found = read_job(space_file).locate(error)
    assert (str(found.file), found.line) == (str(tmp_path / "mine.json"), 7)


@pytest.mark.parametrize("name", ["strog", "mine", 3, True])
def test_what_is_neither_a_name_nor_a_file(space_file: Path, name: object) -> None:
    told = refused(space_file, [f"data.augment={json.dumps(name)}"])
    assert (
        "allowed: one of none, light, standard, strong or a file (.yaml, .yml or .json) that "
        "albumentations saved"
    ) in told
    assert ("did you mean `strong`?" in told) == (name == "strog")


def test_a_pipeline_runs_on_the_cpu(space_file: Path) -> None:
    told = refused(space_file, ["data.augment_on=device"])
    assert "data.augment_on: a pipeline of your own runs on the CPU" in told
    assert load_job(space_file, ["data.augment_on=cpu"]).data.augment_on == "cpu"
