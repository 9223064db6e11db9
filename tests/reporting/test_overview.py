"""What stands where: list, status and watch, from ledgers of every fate."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
from experiments_on_disk import shown, write
from plain_events import typed_event, write_plain
from rich.cells import cell_len
from rich.console import Console

from kdsweep.errors import LedgerError
from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.events import DoneEvent, PauseEvent, SessionEvent, decode_progress
from kdsweep.reporting import read_all_statuses, read_status, render_list, render_status
from kdsweep.reporting.status import BestSoFar
from kdsweep.reporting.watch import _drawn, watch_json, watch_terminal, watched_statuses


def test_a_status_counts_what_the_report_counts(tmp_path, mixed):
    experiment = write(tmp_path, mixed)
    with Ledger.open(experiment.ledger):
        seen = read_status(experiment.path, now=mixed.now + 72)
    assert (seen.state, seen.driven, seen.reason) == ("running", True, None)
    assert {k: v for k, v in seen.states.items() if v} == {
        "complete": 1, "stopped": 1, "failed": 1, "running": 1
    }  # fmt: skip
    assert (seen.num_ended, seen.num_planned) == (3, 4)
    assert (seen.num_controls, seen.num_controls_ended, seen.num_failures) == (1, 1, 1)
    assert seen.best == BestSoFar(1, "resnet34→resnet18", 0.55, "resnet18", "resnet34", 3, 3)
    assert seen.silent_s == pytest.approx(72)
    # Nine spells of 36 s in the ledger, and the 72 s since, at half a GPU.
    assert seen.hours * 3600 == pytest.approx(9 * 36 + 72)
    assert seen.gpu_hours * 3600 == pytest.approx((9 * 36 + 72) / 2)
    (trial,) = seen.running
    assert (trial.number, trial.epoch, trial.epochs, trial.value) == (4, 1, 3, 0.36)
    assert (trial.best, trial.attempt, trial.silent_s) == (0.36, 1, pytest.approx(72))
    json.dumps(seen.to_json(), allow_nan=False)


def test_a_status_of_one_that_died_paused_or_ended(tmp_path, mixed):
    died = read_status(write(tmp_path, mixed, "died").path, now=mixed.now + 7200)
    assert (died.state, died.driven, died.running) == ("died", False, ())
    assert died.states["interrupted"] == 1
    assert died.hours * 3600 == pytest.approx(9 * 36)  # nothing ran since
    mixed.add("pause", reason="max_hours")
    paused = read_status(write(tmp_path, mixed, "paused").path)
    assert (paused.state, paused.reason) == ("paused", "max_hours")
    mixed.add("done")
    assert read_status(write(tmp_path, mixed, "done").path).state == "done"


def test_a_status_of_one_that_has_only_begun(tmp_path, story):
    empty = read_status(write(tmp_path, story).path)
    assert (empty.state, empty.best, empty.silent_s, empty.session) == ("empty", None, None, None)
    story.sweep()
    assert read_status(write(tmp_path, story).path).state == "not started"
    story.session().trial(0).start(0)
    experiment = write(tmp_path, story)
    with Ledger.open(experiment.ledger):
        seen = read_status(experiment.path, now=story.now + 5)
    assert [(t.epoch, t.value, t.best, t.silent_s) for t in seen.running] == [(0, None, None, 5)]


def test_the_time_between_an_extension_and_its_session_is_not_used(tmp_path, story):
    story.sweep().session(gpus=1).trial(0, teacher=None).run(0, [0.3, 0.4, 0.5]).add("done")
    used = read_status(write(tmp_path, story).path).hours
    story.add("extend", 3600, trials=6, num_controls=1)
    experiment = write(tmp_path, story)
    with Ledger.open(experiment.ledger):
        seen = read_status(experiment.path, now=story.now + 60)
    assert (seen.state, seen.hours, seen.num_planned) == ("running", used, 6)
    text = shown(render_status, seen)
    assert "its next session starts now" in text
    assert "process" not in text
    assert "Its process is gone" in shown(render_status, read_status(experiment.path))
    story.session(session=2)
    experiment = write(tmp_path, story)
    with Ledger.open(experiment.ledger):
        seen = read_status(experiment.path, now=story.now + 60)
    assert seen.hours == pytest.approx(used + 60 / 3600)


def test_a_control_that_rides_along_uses_no_gpu_of_its_own(tmp_path, story):
    story.sweep().session(gpus=1).trial(0, control=1).trial(1, teacher=None)
    story.events[-1]["rides_with"] = 0
    story.start(0).start(1)
    experiment = write(tmp_path, story)
    with Ledger.open(experiment.ledger):
        seen = read_status(experiment.path, now=story.now + 3600)
    assert [trial.number for trial in seen.running] == [0, 1]
    assert seen.gpu_hours == pytest.approx(1)


def test_controls_that_are_not_drawn_yet_count_as_one_each(tmp_path, story):
    story.sweep(trials=4, controls="paired", num_controls=4, students_per_teacher=2).session()
    story.trial(0, control=1).trial(1, teacher=None)
    assert read_status(write(tmp_path / "a", story).path).num_controls == 4
    story.trial(2, control=1)
    assert read_status(write(tmp_path / "b", story).path).num_controls == 3


def test_the_metrics_of_epochs_are_not_read():
    metrics = {"a": 1.0, "student/params_m": 2.5}
    event = {"event": "epoch", "seq": 1, "trial": 2, "epoch": 3, "metrics": metrics,
             "classes": {"s": [1]}, "stop": None}  # fmt: skip
    read = decode_progress(json.dumps(event, separators=(",", ":")).encode())
    assert (read.seq, read.trial, read.epoch, read.params_m) == (1, 2, 3, 2.5)
    assert not hasattr(read, "classes")
    assert not hasattr(read.metrics, "a")


def test_budgets_come_from_the_space(tmp_path, mixed):
    experiment = write(tmp_path, mixed)
    experiment.spec_json.write_text('{"sweep": {"max_hours": 2, "max_gpu_hours": null}}')
    seen = read_status(experiment.path)
    assert (seen.max_hours, seen.max_gpu_hours) == (2, None)
    assert "used: 5.4 min of 2.0 h · 0.04 GPU-hours" in shown(render_status, seen)
    experiment.spec_json.write_text("[")
    assert read_status(experiment.path).max_hours is None


def test_budgets_of_the_last_session_come_first(tmp_path, story):
    story.sweep().session(max_hours=2.0, max_gpu_hours=None).add("pause", reason="max_hours")
    experiment = write(tmp_path, story)
    experiment.spec_json.write_text('{"sweep": {"max_hours": 1, "max_gpu_hours": 3}}')
    seen = read_status(experiment.path)
    assert (seen.max_hours, seen.max_gpu_hours) == (2, None)
    with Ledger.open(experiment.ledger) as ledger:
        ledger.append(SessionEvent(session=2, max_hours=None, max_gpu_hours=5.0))
    seen = read_status(experiment.path)
    assert (seen.max_hours, seen.max_gpu_hours) == (None, 5)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_status_shows_what_runs_and_how_to_go_on(tmp_path, mixed, width):
    experiment = write(tmp_path, mixed)
    with Ledger.open(experiment.ledger):
        text = shown(render_status, read_status(experiment.path, now=mixed.now + 90), width=width)
    assert re.search(r"^tiny  running$", text, re.MULTILINE)
    flat = " ".join(text.split())
    assert "trials: 3/4 ended (1 complete, 1 stopped, 1 failed, 1 running)" in flat
    assert "controls: 1/1 ended" in flat
    assert "best: mIoU 0.550, trial 1, resnet34→resnet18" in flat
    assert "last word: 90 s ago" in flat or "last word: 1.5 min ago" in flat
    assert re.search(r"4 +resnet50→resnet18 +1/3 +0.360", text)
    assert "runs it; Ctrl-C there pauses it." in flat
    assert all(cell_len(line) <= width for line in text.split("\n") if "runs it" not in line
               and str(experiment.path) not in line)  # fmt: skip
    died = shown(render_status, read_status(experiment.path), width=width)
    assert f"is gone. Resume with: kdsweep resume {experiment.path}" in died
    assert "Running" not in died


def test_status_names_the_flag_that_a_used_up_budget_takes(tmp_path, mixed):
    mixed.add("pause", reason="max_gpu_hours")
    experiment = write(tmp_path, mixed)
    text = shown(render_status, read_status(experiment.path))
    assert "tiny  paused (budget of GPU-hours used up)" in text
    assert f"Resume with: kdsweep resume {experiment.path} --max-gpu-hours N" in text


def test_a_driver_elsewhere_is_not_called_dead(tmp_path, story):
    story.sweep().session(host="node7", pid=4711)
    seen = read_status(write(tmp_path, story).path)
    assert (seen.state, seen.driven) == ("running", None)
    assert "Whether process 4711 on node7 still runs it cannot be told" in shown(
        render_status, seen, width=200
    )


@pytest.mark.parametrize("width", [80, 200])
def test_list_is_newest_first_and_names_what_is_damaged(tmp_path, mixed, width):
    write(tmp_path, mixed, "older")
    mixed.events[0]["metric"] = "student/pixel_accuracy"
    for event in mixed.events:
        event["time"] += 86_400
    newer = write(tmp_path, mixed, "newer")
    damaged = write(tmp_path, mixed, "broken")
    data = damaged.ledger.read_bytes()
    damaged.ledger.write_bytes(b"x" + data)
    (tmp_path / "single").mkdir()
    found = read_all_statuses(tmp_path)
    assert [seen.to_json()["state"] for seen in found] == ["damaged", "died", "died"]
    assert found[1].path == str(newer.path)
    with pytest.raises(LedgerError) as caught:
        read_status(damaged.path)
    assert found[0].to_json() == {
        "path": str(damaged.path), "state": "damaged", "error": str(caught.value)
    }  # fmt: skip
    text = shown(render_list, found, tmp_path, width=width)
    rows = [line.split() for line in text.split("\n")]
    assert any(row[:1] == [damaged.path.name] and "damaged" in row for row in rows)
    ours = next(row for row in rows if row[:1] == [newer.path.name])
    assert {"died", "3/4", "0.550"} <= set(ours)
    assert ("student/pixel_accuracy" in ours) == (width == 200)
    assert f"{damaged.ledger}:1: this line is damaged" in text


def test_list_goes_by_the_time_in_the_name_whatever_the_ledger_says(tmp_path, mixed, story):
    for stamp, events in (("20260102-000000", story), ("20260101-000000", mixed)):
        write(tmp_path, events).path.rename(tmp_path / f"{stamp}-tiny")
    write(tmp_path, mixed).path.rename(tmp_path / "copied")
    found = [Path(seen.path).name for seen in read_all_statuses(tmp_path)]
    assert found == ["20260102-000000-tiny", "20260101-000000-tiny", "copied"]


def test_a_ledger_with_other_keys_is_damaged_not_fatal(tmp_path):
    experiment = Experiment.create(tmp_path, "future")
    write_plain(experiment.ledger, [{"event": "trial", "number": 3}])
    (found,) = read_all_statuses(tmp_path)
    assert "missing required field `trial`" in found.to_json()["error"]


def test_an_empty_folder_says_how_to_begin(tmp_path):
    assert "no experiments. kdsweep run" in " ".join(
        shown(render_list, read_all_statuses(tmp_path), tmp_path, width=300).split()
    )


def test_hostile_names_stay_text(tmp_path, story):
    story.sweep(name="[bold]x\x1b[31m").session().trial(0, student="[red]s")
    story.run(0, [0.4])
    seen = read_status(write(tmp_path, story).path)
    text = shown(render_status, seen, width=120) + shown(render_list, [seen], tmp_path, width=120)
    assert "[bold]x·[31m" in text
    assert "resnet34→[red]s" in text
    assert "\x1b" not in text


def test_a_driver_that_has_not_begun_its_session_is_not_taken_for_the_dead_one(tmp_path, mixed):
    for event in mixed.events:
        if event["event"] == "session":
            event["pid"] = 4711
    experiment = write(tmp_path, mixed)
    with Ledger.open(experiment.ledger) as ledger:
        seen = read_status(experiment.path, now=mixed.now + 7200)
        assert (seen.state, seen.driven, seen.running) == ("starting", True, ())
        assert seen.session["pid"] == os.getpid()
        assert seen.states["interrupted"] == 1
        assert seen.hours * 3600 == pytest.approx(9 * 36)  # nothing ran since
        text = shown(render_status, seen, width=200)
        assert f"process {os.getpid()} on {socket.gethostname()} has taken it over" in text
        assert "4711" not in text
        watched = watched_statuses(experiment.path, lambda _: None)
        assert [next(watched).state for _ in range(2)] == ["starting"] * 2
        ledger.append(typed_event({**mixed.session().events[-1], "pid": os.getpid()}))
        assert read_status(experiment.path).state == "running"
    # One that was paused is held by whoever goes on with it, too.
    mixed.add("pause", reason="sigint")
    paused = write(tmp_path, mixed, "paused")
    with Ledger.open(paused.ledger):
        seen = read_status(paused.path)
    assert (seen.state, seen.session["pid"]) == ("paused", os.getpid())


def test_watching_ends_when_nothing_runs_any_more(tmp_path, mixed, capsys):
    experiment = write(tmp_path, mixed)
    ledger = Ledger.open(experiment.ledger)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            ledger.append(PauseEvent(reason="sigint"))
        if len(waits) == 3:
            ledger.close()

    states = [(seen.state, seen.driven) for seen in watched_statuses(experiment.path, sleep)]
    assert states == [("running", True)] * 2 + [("paused", True), ("paused", False)]
    assert all(seconds >= 2 for seconds in waits)

    watch_json(experiment.path, Console())
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["state"] == "paused"
    watch_terminal(experiment.path, Console(width=80))
    assert "tiny  paused (interrupted)" in capsys.readouterr().out


def test_a_long_ledger_is_looked_at_less_often(tmp_path, mixed):
    experiment = write(tmp_path, mixed)
    ticks = iter([0.0, 5.0, 5.0])
    waits = []
    with Ledger.open(experiment.ledger) as ledger:
        seen = watched_statuses(experiment.path, waits.append, lambda: next(ticks))
        next(seen)
        ledger.append(DoneEvent())
        next(seen)
    assert waits == [50.0]


def test_what_is_drawn_in_place_is_the_same_text(tmp_path, mixed):
    seen = read_status(write(tmp_path, mixed).path, now=mixed.now + 5)
    assert _drawn(seen, 80).plain.rstrip() == shown(render_status, seen).rstrip()
