"""Each event stands in its line as it always did, and later versions may say more."""

import json
from pathlib import Path

import msgspec
import pytest

from kdsweep.ledger.events import (
    EpochEvent,
    FailEvent,
    SessionEvent,
    Stop,
    SweepEvent,
    UnknownEvent,
    class_ious,
    decode,
    decode_numbers,
    decode_progress,
    to_json,
    trial_of,
)
from kdsweep.ledger.file import encode_line

LEDGERS = sorted((Path(__file__).parent / "fixtures" / "sweeps").glob("*/ledger.jsonl"))
LINES = [line for path in LEDGERS for line in path.read_bytes().splitlines(keepends=True)]


def test_lines_of_before_are_written_byte_for_byte_as_they_were():
    assert {json.loads(line)["event"] for line in LINES} == {
        *("sweep", "extend", "session", "trial", "rejected", "start", "epoch", "fail", "pause"),
        "done",
    }
    for line in LINES:
        assert encode_line(to_json(decode(line))) == line


def test_what_is_empty_has_no_key_where_it_never_had_one():
    assert "static_costs" not in to_json(SweepEvent())
    assert to_json(SweepEvent())["constraints"] == {}
    epoch = to_json(EpochEvent(trial=3, epoch=1))
    assert not {"costs", "measured"} & epoch.keys()
    assert "job" not in to_json(FailEvent(trial=3, failure="nan"))
    assert to_json(FailEvent(trial=3, failure="oom", job={"a": 1}))["class"] == "oom"
    assert "max_hours" not in to_json(SessionEvent(session=1))
    assert to_json(SessionEvent(session=1, max_hours=None))["max_hours"] is None


def test_the_views_of_an_epoch_agree():
    epochs = [line for line in LINES if json.loads(line)["event"] == "epoch"]
    for line in epochs:
        whole, numbers, progress = decode(line), decode_numbers(line), decode_progress(line)
        for view in (numbers, progress):
            for name in ("seq", "time", "trial", "attempt", "epoch", "value", "costs", "stop"):
                assert getattr(view, name) == getattr(whole, name)
            assert view.params_m == whole.params_m > 0
        assert numbers.metrics == whole.metrics
        assert class_ious(numbers.classes) == whole.classes == class_ious(whole.classes)


@pytest.mark.parametrize("read", [decode, decode_numbers, decode_progress])
def test_what_later_versions_add_is_passed_over(read):
    remark = read(b'{"event":"remark","seq":7,"time":1.5,"trial":"x","text":"?"}')
    assert remark == UnknownEvent(kind="remark", seq=7, time=1.5)
    assert trial_of(remark) is None
    epoch = read(b'{"event":"epoch","seq":1,"trial":2,"epoch":3,"stop":"bored","mood":{"a":[]}}')
    assert (epoch.trial, epoch.epoch, epoch.stop, trial_of(epoch)) == (2, 3, "bored", 2)


@pytest.mark.parametrize("read", [decode, decode_numbers, decode_progress])
def test_what_an_event_must_have_is_asked_for(read):
    with pytest.raises(msgspec.ValidationError, match="epoch"):
        read(b'{"event":"epoch","seq":1,"trial":2}')
    with pytest.raises(msgspec.DecodeError):
        read(b'{"event":"epoch","seq":1,')


def test_words_are_text_in_a_line():
    line = encode_line(to_json(EpochEvent(trial=1, epoch=2, stop=Stop.EARLY)))
    assert b'"stop":"asha"' in line
    assert decode(line).stop == Stop.EARLY
