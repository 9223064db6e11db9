"""The ledger keeps what it was given, whatever happens to the process or the file."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.errors import ExperimentError, LedgerError
from kdsweep.ledger import Ledger, is_locked, iter_ledger, lock_holder, read_ledger
from kdsweep.ledger.events import (
    DoneEvent,
    EpochEvent,
    SessionEvent,
    SweepEvent,
    TrialEvent,
    decode,
)
from kdsweep.ledger.file import encode_line, scan_ledger

LABEL = "resnet34→resnet18"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def fill(path, count=5):
    with Ledger.open(path) as ledger:
        for number in range(count):
            ledger.append(TrialEvent(trial=number, kind="search", label=LABEL, student="resnet18"))


def test_events_come_back_as_they_were_appended(path):
    with Ledger.open(path) as ledger:
        first = ledger.append(
            SweepEvent(data={"size": (96, 128), "value": 0.1 + 0.2, "ids": {7: 1}})
        )
        second = ledger.append(DoneEvent())
        live = read_ledger(path)
    assert read_ledger(path) == live == [first, second]
    assert [e.seq for e in live] == [0, 1]
    assert first.data == {"size": [96, 128], "value": 0.1 + 0.2, "ids": {"7": 1}}
    assert abs(first.time - time.time()) < 60


def test_a_reopened_ledger_goes_on_where_it_ended(path):
    fill(path, 3)
    with Ledger.open(path) as ledger:
        assert ledger.append(DoneEvent()).seq == 3
    assert [type(e) for e in read_ledger(path)] == [TrialEvent] * 3 + [DoneEvent]


def test_lines_are_plain_json_and_readable_text(path):
    fill(path, 2)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(len(json.loads(line)["crc"]) == 8 for line in lines)
    assert LABEL in lines[0]
    times = [json.loads(line)["time"] for line in lines]
    assert times == [round(time, 3) for time in times]


def test_a_new_ledger_is_as_open_to_others_as_the_umask_says(path):
    before = os.umask(0o022)
    try:
        Ledger.open(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("kept", [0, 1, 10, -2, -1])
def test_a_torn_last_line_is_cut_off(path, kept):
    fill(path)
    data = path.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    last = data[start:]
    path.write_bytes(data[:start] + last[:kept])
    assert len(read_ledger(path)) == 4
    with Ledger.open(path) as ledger:
        assert ledger.num_torn_bytes == len(last[:kept])
        assert ledger.append(DoneEvent()).seq == 4
    assert [e.seq for e in read_ledger(path)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("tail", [b"\x00" * 4096, b"\x00" * 100 + b"\n", b"{", b"\n", b"\n\n"])
def test_zeros_and_fragments_behind_the_last_line_are_cut_off(path, tail):
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with Ledger.open(path) as ledger:
        assert ledger.num_events == 5
        assert ledger.num_torn_bytes == len(tail)
    assert path.read_bytes() == whole


def test_every_flipped_bit_before_the_last_line_is_an_error(path):
    fill(path, 3)
    data = path.read_bytes()
    last = data[:-1].rfind(b"\n") + 1
    for position in range(last):
        damaged = bytearray(data)
        damaged[position] ^= 0x04
        path.write_bytes(damaged)
        with pytest.raises(LedgerError, match=r"ledger\.jsonl:[12]: this line is damaged"):
            read_ledger(path)


def test_a_flipped_bit_in_the_last_line_never_gives_a_wrong_event(path):
    fill(path, 3)
    data = path.read_bytes()
    for position in range(data[:-1].rfind(b"\n") + 1, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x04
        path.write_bytes(damaged)
        assert [e.trial for e in read_ledger(path)] == [0, 1]


def test_a_missing_or_doubled_line_is_an_error(path):
    lines = [encode_line({"event": "done", "seq": seq}) for seq in (0, 1, 2, 3)]
    for order in ((0, 2, 3), (0, 1, 1, 2)):
        path.write_bytes(b"".join(lines[i] for i in order))
        with pytest.raises(LedgerError):
            read_ledger(path)


def test_a_second_driver_is_kept_out_and_told_who_holds_it(path, monkeypatch):
    # As on a file system that is shared with the other machine.
    monkeypatch.setattr("kdsweep.ledger.file.lock_holder", lambda path: None)
    with Ledger.open(path) as ledger:
        ledger.append(SessionEvent(session=1, pid=4711, host="node7"))
        with pytest.raises(ExperimentError, match="process 4711 on node7"):
            Ledger.open(path)
        assert len(read_ledger(path)) == 1
    Ledger.open(path).close()


def test_a_killed_driver_lets_go_of_the_ledger_and_loses_no_appended_line(path):
    code = (
        "import sys, subprocess\n"
        "from pathlib import Path\n"
        "from kdsweep.ledger import Ledger\n"
        "from kdsweep.ledger.events import DoneEvent\n"
        f"ledger = Ledger.open(Path({str(path)!r}))\n"
        "child = subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "while True:\n"
        "    print(ledger.append(DoneEvent()).seq, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as driver:
        child = int(driver.stdout.readline())
        seen = [int(driver.stdout.readline()) for _ in range(20)]
        driver.kill()
        seen += [int(line) for line in driver.stdout.read().split("\n")[:-1]]
    try:
        with Ledger.open(path) as ledger:
            assert ledger.num_events > seen[-1]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_failed_write_leaves_no_half_line(path, monkeypatch):
    fill(path, 2)
    before = path.read_bytes()
    with Ledger.open(path) as ledger:
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:7], at) and _full())
        with pytest.raises(OSError, match="full"):
            ledger.append(DoneEvent())
        monkeypatch.undo()
        assert path.read_bytes() == before
        ledger.append(DoneEvent())
    assert scan_ledger(path).num_torn_bytes == 0
    assert len(read_ledger(path)) == 3


def test_a_line_is_on_the_disk_when_it_is_appended(path, monkeypatch):
    with Ledger.open(path) as ledger:
        done = []
        write = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda *call: done.append("write") or write(*call))
        monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("sync"))
        ledger.append(DoneEvent())
    assert done == ["write", "sync"]


def test_a_line_that_is_written_in_pieces_is_whole(path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:7], at))
    fill(path, 2)
    assert [event.trial for event in read_ledger(path)] == [0, 1]


def _full():
    raise OSError(28, "the disk is full")


def test_numbers_that_json_has_no_words_for_are_refused(path):
    with Ledger.open(path) as ledger:
        with pytest.raises(ValueError):
            ledger.append(EpochEvent(trial=0, epoch=1, value=float("nan")))
        assert ledger.num_events == 0
    assert path.read_bytes() == b""


def test_reading_what_is_not_there_says_so(path):
    with pytest.raises(ExperimentError, match="no ledger"):
        read_ledger(path)


def test_a_ledger_is_read_one_event_after_the_other(path):
    fill(path, 3)
    whole = path.read_bytes()
    path.write_bytes(b"damaged" + whole)
    with pytest.raises(LedgerError):
        next(iter_ledger(path))
    path.write_bytes(whole[:-1] + b"x" + whole[-1:] + b"more\n")
    events = iter_ledger(path)
    assert [next(events).trial, next(events).trial] == [0, 1]
    with pytest.raises(LedgerError, match="keep the first 2 lines"):
        next(events)


def test_a_reader_may_decode_less(path):
    fill(path, 3)
    seen = []

    def read_less(line):
        seen.append(line)
        return DoneEvent(seq=len(seen) - 1)

    assert [e.seq for e in iter_ledger(path, read_less)] == [0, 1, 2]
    assert [json.loads(line)["trial"] for line in seen] == [0, 1, 2]


def test_a_whole_line_of_other_keys_is_told_by_its_place(path):
    lines = [{"event": "done", "seq": 0}, {"event": "trial", "seq": 1, "number": 3}]
    path.write_bytes(b"".join(map(encode_line, lines)))
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:2: .*missing required field `trial`"):
        read_ledger(path)


def test_what_is_appended_while_a_ledger_is_read_is_no_damage(path):
    fill(path, 2)
    with Ledger.open(path) as ledger:
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"event":"epo')  # as a reader may see a line half written
        events = iter_ledger(path)
        assert [next(events).seq, next(events).seq] == [0, 1]
        ledger.append(DoneEvent())
        ledger.append(DoneEvent())
        assert list(events) == []
    assert [e.seq for e in read_ledger(path)] == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who holds a lock")
def test_the_process_that_writes_is_known(path):
    assert lock_holder(path) is None
    with Ledger.open(path):
        assert lock_holder(path) == os.getpid()
        with pytest.raises(ExperimentError, match=f"process {os.getpid()} on"):
            Ledger.open(path)
    assert lock_holder(path) is None


def test_asking_whether_a_driver_runs_does_not_stop_one(path):
    assert is_locked(path) is None
    with Ledger.open(path):
        assert is_locked(path) is True
        assert is_locked(path) is True
    assert is_locked(path) is False
    with open(path, "rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.03, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        Ledger.open(path).close()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
def test_what_is_read_is_what_pythons_json_reads(event):
    """Ledgers of earlier versions were read by it, and lines are still written by it."""
    line = encode_line({"event": "sweep", "seq": 0, "data": event})
    read, expected = decode(line).data, json.loads(line)["data"]
    assert read == expected
    # Equality takes 1, 1.0 and True for the same; their texts differ.
    assert repr(read) == repr(expected)
