"""Atomic writes: the old contents or the new ones, never a mixture, never litter."""

import json

import pytest

from kdsweep.ledger import atomic


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"ü": [1, 2]})
    atomic.write_json(path, {"ü": [3]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ü": [3]}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o444 == 0o444 & ~atomic._umask()


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def fail(*_):
        raise OSError("no rename today")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError, match="no rename"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "deep" / "best"
    for text in ("one", "two"):
        with atomic.new_directory(target) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "weights").write_text(text)
            assert not target.exists() or (target / "sub" / "weights").read_text() == "one"
    assert (target / "sub" / "weights").read_text() == "two"
    assert [p.name for p in target.parent.iterdir()] == ["best"]


def test_a_failed_block_keeps_the_old_folder(tmp_path):
    target = tmp_path / "best"
    with atomic.new_directory(target) as folder:
        (folder / "weights").write_text("one")
    with (
        pytest.raises(FileNotFoundError),
        atomic.new_directory(target) as folder,
        (folder / "weights").open("w"),
    ):
        (folder / "missing").read_text()
    assert (target / "weights").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]
