"""The cache is listed and cleared, and nothing is taken away that a process uses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import make_data
import pytest

from kdsweep.cli import main
from kdsweep.config.data import CamvidData
from kdsweep.data import cache as decode_cache
from kdsweep.data import open_data
from kdsweep.data.cache_admin import cache_entries, clear_cache

USE = """
import sys
from kdsweep.data import open_data
from kdsweep.config.data import CamvidData
open_data(CamvidData(source="camvid", path=sys.argv[1], image_size=(8, 12), cache=sys.argv[2]))
print("open", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def config(tmp_path: Path, cache: Path) -> CamvidData:
    root = make_data.camvid(tmp_path / "camvid")
    return CamvidData(source="camvid", path=str(root), image_size=(8, 12), cache=str(cache))


def forget() -> None:
    """As if this process had ended."""
    for folder in list(decode_cache._held):
        decode_cache._release(folder)


def test_what_another_process_has_open_stays(config: CamvidData, cache: Path) -> None:
    command = [sys.executable, "-c", USE, str(config.path), str(cache)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "open\n"
        entries = cache_entries(cache)
        assert {e.name.partition(",")[0] for e in entries} >= {"camvid train", "camvid val"}
        assert all(e.in_use and e.size > 0 and e.kind == "frames" for e in entries)
        assert clear_cache(cache) == []
        user.communicate("\n")
    assert not any(e.in_use for e in cache_entries(cache))
    removed = clear_cache(cache)
    assert {e.path for e in removed} == {e.path for e in entries}
    assert not any(e.path.exists() for e in removed)
    assert cache_entries(cache) == []
    # It is made again, also by a process that has used it before.
    assert len(open_data(config).train) == 4
    assert clear_cache(cache) == []
    forget()


def test_only_what_was_not_used_for_so_long_goes(config: CamvidData, cache: Path) -> None:
    open_data(config)
    forget()
    old, *young = cache_entries(cache)
    before = time.time() - 3 * 86_400
    for path in (old.path, decode_cache.use_file(old.path)):
        os.utime(path, (before, before))
    assert clear_cache(cache, older_than_days=4) == []
    assert [e.path for e in clear_cache(cache, older_than_days=2)] == [old.path]
    assert {e.path for e in cache_entries(cache)} == {e.path for e in young}


def test_nothing_that_a_link_leads_to_goes(config: CamvidData, cache: Path, tmp_path: Path) -> None:
    open_data(config)
    forget()
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, cache / "frames" / "mine", elsewhere / "deeper"):
        folder.mkdir()
        (folder / "precious").touch()
    entry = cache_entries(cache)[0].path
    (entry / "within").symlink_to(elsewhere)
    (entry.parent / ("0" * 20)).symlink_to(elsewhere)
    (cache / "roadscenes").mkdir(exist_ok=True)
    (cache / "roadscenes" / ("1" * 20)).symlink_to(elsewhere / "deeper")
    assert len(clear_cache(cache)) >= 4
    assert cache_entries(cache) == []
    assert [p.name for p in (cache / "frames").glob("*.draft-*")] == []
    found = {file.parent.name for file in tmp_path.rglob("precious")}
    assert found == {"elsewhere", "deeper", "mine"}


def test_an_entry_removed_before_it_was_held_is_built_again(
    config: CamvidData, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_data(config)
    forget()
    hold, removed = decode_cache._hold, []

    def hold_late(folder: Path) -> None:
        if not removed:
            removed.extend(clear_cache(cache))
        hold(folder)

    monkeypatch.setattr(decode_cache, "_hold", hold_late)
    assert len(open_data(config).train) == 4
    assert removed
    forget()


def test_the_command_lists_and_clears(
    config: CamvidData,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def kdsweep(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    open_data(config)
    _, out, _ = kdsweep("cache", str(cache))
    num = len(cache_entries(cache))
    assert out.count("in use") == num
    assert f"{cache}: {num} entries, " in out
    code, out, _ = kdsweep("cache", str(cache), "--clear")
    assert (code, f"0 entries, 0.0 MB removed; {num} left" in out) == (0, True)
    forget()
    assert "just now" in kdsweep("cache", str(cache))[1]
    assert kdsweep("cache", str(cache), "--clear", "--older-than", "1", "--json")[1] == ""
    code, _, err = kdsweep("cache", str(cache), "--older-than", "1")
    assert (code, "kdsweep cache --clear" in err) == (2, True)
    assert f"{num} entries" in kdsweep("cache", str(cache), "--clear")[1]
    assert "0 entries" in kdsweep("cache", str(cache))[1]
