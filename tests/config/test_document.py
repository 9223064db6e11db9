from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsweep.config import Job, dump_yaml, load_job
from kdsweep.config.document import parse_document, read_document
from kdsweep.config.yaml_reader import Mark
from kdsweep.errors import ConfigError


def read(text: str) -> dict:
    return parse_document(text, "file.yaml").tree


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "file.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.5e-3", 1.5e-3),
        ("-3", -3),
        ("0x10", 16),
        ("0o17", 15),
        ("1e-4x", "1e-4x"),
        ("'1e-4'", "1e-4"),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("null", None),
        ("~", None),
        ("~/data", "~/data"),
        ("2026-11-22", "2026-11-22"),
        ("", None),
        ("''", ""),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{a: {b: []}}", {"a": {"b": []}}),
    ],
)
def test_scalars_read_as_yaml_1_2_says(text: str, value: object) -> None:
    found = read(f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_and_infinity_are_read_as_such() -> None:
    tree = read("a: .nan\nb: -.inf\n")
    assert math.isnan(tree["a"])
    assert tree["b"] == -math.inf


def test_places_are_remembered() -> None:
    document = parse_document("a:\n  b: 1\n  c: [x,\n    y]\n", "file.yaml")
    assert document.mark(("a",)) == Mark("file.yaml", 1, 1)
    assert document.mark(("a", "b")) == Mark("file.yaml", 2, 3)
    assert document.mark(("a", "c", 1)) == Mark("file.yaml", 4, 5)
    assert document.mark(("a", "b", "not", "there")) == Mark("file.yaml", 2, 3)
    assert document.mark(("z",)) == Mark("file.yaml")


def test_a_key_without_a_value_is_told_from_null() -> None:
    document = parse_document("a:\nb: null\nc: {d: }\n", "file.yaml")
    assert document.tree == {"a": None, "b": None, "c": {"d": None}}
    assert document.blanks == {("a",), ("c", "d")}


def test_anchors_aliases_and_merges() -> None:
    document = parse_document("a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\n", "file.yaml")
    assert document.tree == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}}
    assert document.tree["b"] is not document.tree["a"]
    assert document.mark(("c", "p")) == Mark("file.yaml", 1, 8)
    assert document.mark(("c", "q")) == Mark("file.yaml", 5, 3)


def test_an_anchor_may_be_used_anew() -> None:
    assert read("a: &x 1\nb: &x 2\nc: *x\n") == {"a": 1, "b": 2, "c": 2}


def test_of_several_merged_mappings_the_first_wins() -> None:
    assert read("a: &a {p: 1}\nb: &b {p: 2, q: 2}\nc: {<<: [*a, *b]}\n")["c"] == {"p": 1, "q": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb:\n  c: 1\n  c: 2\n",
            "file.yaml:4: b.c: this key stands twice; it is in line 3 already\n"
            "  try:     take one of the two out",
        ),
        (
            "",
            "file.yaml: the file is empty\n"
            "  allowed: a mapping with keys such as data, student, train",
        ),
        (
            "# only a comment\n",
            "file.yaml: the file is empty\n"
            "  allowed: a mapping with keys such as data, student, train",
        ),
        (
            "- a\n- b\n",
            "file.yaml:1: the file holds no mapping\n"
            "  value:   [a, b]\n"
            "  allowed: a mapping with keys such as data, student, train",
        ),
        (
            "a:\n\t- b\n",
            "file.yaml:2: not valid YAML: found character '\\t' that cannot start any token\n"
            "  value:   '- b'\n"
            "  try:     indent with spaces, not with tabs",
        ),
        (
            "a: b: c\n",
            "file.yaml:1: not valid YAML: mapping values are not allowed here\n"
            "  value:   'a: b: c'\n"
            "  try:     a text with a colon needs quotes; keys of one mapping need the same "
            "indentation",
        ),
        (
            "a: [1,\n  2\nb: 3\n",
            "file.yaml:3: not valid YAML: expected ',' or ']', but got ':'\n"
            "  value:   'b: 3'\n"
            "  try:     close the bracket opened in line 1, or add the missing comma",
        ),
        (
            "a: 1\nb: 'x\nc: 2\n",
            "file.yaml:2: not valid YAML: found unexpected end of stream\n"
            '  value:   "b: \'x"\n'
            "  try:     close the quote",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "file.yaml:2: not valid YAML: a second document begins here\n"
            "  value:   '---'\n"
            "  try:     one file holds one document: take out the line ---",
        ),
        (
            "a: *b\n",
            "file.yaml:1: not valid YAML: found undefined alias 'b'\n"
            "  value:   'a: *b'\n"
            "  try:     a text that begins with * needs quotes",
        ),
        ("a: &x [*x]\n", "file.yaml:1: a[0]: an alias inside of what it stands for"),
        ("a:\n  3: 4\n", "file.yaml:2: a: a key must be a text, not 3"),
        ("? [a]\n: 4\n", "file.yaml:1: a key must be a text, not a mapping or list"),
        ("a: {<<: 3}\n", "file.yaml:1: a: `<<` merges mappings only"),
        (
            "a: !!binary aGVsbG8=\n",
            "file.yaml:1: a: the YAML tag !!binary is not allowed here\n"
            "  try:     take the tag out",
        ),
        (
            "a: !join [b, c]\n",
            "file.yaml:1: a: the YAML tag !join is not allowed here\n  try:     take the tag out",
        ),
    ],
)
def test_what_is_no_document_says_why_and_where(text: str, message: str) -> None:
    assert error(text) == message


def test_control_characters_are_an_error() -> None:
    assert error("a: \x00\n").startswith("file.yaml: not valid YAML: unacceptable character")


def test_a_missing_file_names_near_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("search_spaces").mkdir()
    Path("search_spaces/backbones.yaml").touch()
    Path("losses.yaml").touch()
    for wrong, right in [
        ("backbone.yaml", "search_spaces/backbones.yaml"),
        ("backbone", "search_spaces/backbones.yaml"),
        ("teacher_modes", "teacher_mode"),
        ("loses.yml", "losses.yaml"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_document(wrong)
        assert (
            str(caught.value) == f"{wrong}: there is no such file\n  try:     did you mean {right}?"
        )
    with pytest.raises(ConfigError, match="no such file") as caught:
        read_document("nothing/like/it.yaml")
    assert caught.value.hint == "check the path"


def test_folders_and_binary_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="a folder, not a file") as caught:
        read_document(tmp_path)
    assert caught.value.hint == "one of the files in it: a.yaml"


def test_mappings_from_python_are_copied_and_made_plain() -> None:
    source = {"data": {"path": Path("/x"), "image_size": (64, 96)}}
    document = read_document(source)
    assert document.tree == {"data": {"path": "/x", "image_size": [64, 96]}}
    document.tree["data"]["path"] = "/y"
    assert source["data"]["path"] == Path("/x")
    with pytest.raises(ConfigError, match="a key must be a text"):
        read_document({"train": {3: 4}})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
    | st.sampled_from(
        [
            "1e-4",
            "null",
            "yes",
            "0o7",
            "- a",
            "#",
            "a: b",
            "x\ny",
            "'",
            "~",
            "=",
            "<<",
            "?;",
            "?0",
            ": <",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "null", "1", "<<", "y"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(options=st.dictionaries(st.text("abc", min_size=1, max_size=3), PLAIN, max_size=3))
def test_a_dumped_job_reads_back_equal(options: dict) -> None:
    job = Job.model_validate(
        {
            "data": {"source": "lyft", "image_size": [64, 96], "path": "/a b: #c"},
            "student": {"options": options},
            "train": {"epochs": 3, "lr": 1e-05},
        }
    )
    text = dump_yaml(job)
    again = Job.model_validate(parse_document(text, "job.yaml").tree)
    assert again == job
    assert dump_yaml(again) == text


def test_a_dumped_job_is_pleasant_to_read(job: dict, tmp_path: Path) -> None:
    job["distill"] = {"attention": {}}
    text = dump_yaml(load_job(job))
    assert text.startswith("name: job\ndata:\n  source: camvid\n  path: null\n")
    assert "  image_size: [64, 96]\n" in text
    assert "    taps: [encoder.3, encoder.4]\n" in text
    assert "  options: {}\n" in text
    (tmp_path / "job.yaml").write_text(text)
    assert load_job(tmp_path / "job.yaml") == load_job(job)


@pytest.mark.parametrize("number", [1e-05, 1.5e-07, -1e20, 0.1, 3.0, float("inf"), -float("inf")])
def test_floats_are_floats_to_every_reader_of_yaml(number: float) -> None:
    import yaml  # PyYAML takes 1e-05 for a text

    text = dump_yaml({"lr": number})
    assert yaml.safe_load(text) == {"lr": number}
    assert parse_document(text, "x").tree == {"lr": number}
