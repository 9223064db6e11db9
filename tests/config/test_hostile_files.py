"""Files that would cost hours or end in a traceback if they were taken at their word."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdsweep import api
from kdsweep.cli import app
from kdsweep.config import load_job, load_space
from kdsweep.config.document import parse_value
from kdsweep.config.yaml_bounds import MAX_ALIASES, MAX_DEPTH, MAX_VALUES
from kdsweep.errors import ConfigError

LEVELS = 30
LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]\n" for n in range(1, LEVELS)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join(10 * [f'*a{n - 1}'])}]}}\n" for n in range(1, LEVELS)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
DEEP = {
    "brackets": "data: " + 100_000 * "[",
    "braces": "data: " + 100_000 * "{a: ",
    "dashes": "data:\n  " + 100_000 * "- ",
    "questions": "? " * 100_000,
    "indented": "".join(f"{n * ' '}a:\n" for n in range(2000)),
    "chain": CHAIN,
}
WIDE = {"laughs": LAUGHS, "merges": MERGES}
HOSTILE = {**DEEP, **WIDE, "aliases": f"a: &a x\nb: [{'*a, ' * 5_001}]\n"}


def refused(read: Callable[[], Any]) -> ConfigError:
    """Return the error, which came without much work: seconds are the processor's."""
    before = time.process_time()
    with pytest.raises(ConfigError) as found:
        read()
    assert time.process_time() - before < 1.0
    return found.value


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once_with_their_place(name: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(HOSTILE[name])
    error = refused(lambda: load_space(file))
    assert (str(error.file), error.exit_code) == (str(file), 2)
    assert error.line
    assert str(error).startswith(f"{file}:{error.line}: ")
    assert str(MAX_VALUES) in str(error.allowed)
    assert error.hint
    most = MAX_DEPTH if name in DEEP else MAX_ALIASES if name == "aliases" else MAX_VALUES
    assert f"more than {most} " in error.problem


@pytest.mark.parametrize("name", ["laughs", "brackets"])
def test_jobs_texts_and_overrides_are_bounded_too(name: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(HOSTILE[name])
    assert refused(lambda: load_job(file)).line
    assert refused(lambda: parse_value(HOSTILE[name], "--set x")).line
    with pytest.raises(ConfigError, match="more than"):
        api.run(file, experiments=tmp_path / "experiments")
    assert not (tmp_path / "experiments").exists()


def test_a_text_in_place_of_a_file_is_one_error_and_no_traceback() -> None:
    with pytest.raises(ConfigError, match="File name too long"):
        api.run(DEEP["brackets"])


def test_the_command_says_it_in_one_message(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(LAUGHS)
    result = CliRunner().invoke(app, ["validate", "--skip-data", str(file)])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "space.yaml:5: written out, its aliases come to more than 100000 values" in said
    assert "Traceback" not in result.output


def test_a_pipeline_in_a_json_file_is_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"transform": ' + 100_000 * '{"transforms": [')
    (tmp_path / "space.yaml").write_text(
        "data: {source: roadscenes, image_size: [64, 96], augment: mine.json}\n"
        "student: {encoder: resnet18}\ntrain: {epochs: 1, batch_size: 2}\n"
    )
    error = refused(lambda: load_job(tmp_path / "space.yaml"))
    assert str(error.file) == str(tmp_path / "mine.json")
    assert f"more than {MAX_DEPTH} levels" in error.problem


def test_what_people_write_stays_allowed() -> None:
    assert parse_value(json.dumps(list(range(2000))), "x") == list(range(2000))
    deep: Any = "x"
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert parse_value(json.dumps(deep), "x") == deep
    shared = "".join(f"b{n}: {{<<: *a, c: [*a, *a]}}\n" for n in range(100))
    found = parse_value("a: &a {x: 1, y: [2, 3]}\n" + shared, "x")
    assert found["b99"] == {"x": 1, "y": [2, 3], "c": 2 * [{"x": 1, "y": [2, 3]}]}
    assert sys.getrecursionlimit() > 4 * MAX_DEPTH
