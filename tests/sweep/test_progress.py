"""What a sweep shows: lines, JSON and the live table, at the widths that terminals have."""

import io
import json
import re
import subprocess
import sys

import pytest
from rich.console import Console
from simulation import Simulation, make_space

from kdsweep.ledger import Experiment, SlotTime, read_ledger
from kdsweep.ledger.events import (
    EpochEvent,
    FailEvent,
    PauseEvent,
    RejectedEvent,
    StartEvent,
    to_json,
)
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.pulse import Beat
from kdsweep.sweep.display import event_line, render, time_left
from kdsweep.sweep.heartbeat import Pace
from kdsweep.sweep.outcome import Outcome, make_outcome, outcome_lines
from kdsweep.sweep.progress import (
    JsonProgress,
    LiveProgress,
    PlainProgress,
    Progress,
    QuietProgress,
    make_progress,
)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    teacher = {"encoder": {"values": ["resnet34", "timm-efficientnet-b4"]}}
    teacher["options"] = {"values": [{}, {"behave": "oom", "times": 1}, {"behave": "nan"}]}
    simulation = Simulation(tmp_path_factory.mktemp("sweep"), make_space(teacher=teacher), slots=3)
    simulation.run(seed=2, gpus_per_trial=0.5)
    return read_ledger(simulation.experiment.ledger)


def drawn(sweep, width):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render(sweep, sweep.sessions[-1].end + 90, width))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_live_table_fits_and_names_what_runs_at_every_moment(events, width):
    sweep, seen = Sweep(), set()
    for event in events:
        sweep.apply(event)
        if not sweep.sessions:
            continue
        text = drawn(sweep, width)
        lines = text.splitlines()
        assert max(map(len, lines)) <= width
        num_ended = 16 - sweep.count(State.WAITING) - sweep.count(State.RUNNING)
        assert f"tiny  {num_ended}/16 ended" in text
        for trial in sweep.running():
            row = next(line for line in lines if line.startswith(f"{trial.number:04d} "))
            assert f"{trial.epoch}/9" in row
            if trial.last is not None:
                assert f"{trial.last:.3f}" in row
        seen |= {trial.number for trial in sweep.running()}
        if sweep.best() is not None:
            assert f"best mIoU {sweep.best().best:.3f}" in text
        assert "GPU-hours" in text
    assert seen == set(range(16))
    assert len(drawn(sweep, 200).splitlines()) < len(drawn(sweep, 60).splitlines())


@pytest.mark.parametrize(("width", "in_words"), [(80, False), (120, True), (200, True)])
def test_the_live_table_tells_how_far_an_epoch_is(events, width, in_words):
    sweep = Sweep()
    for event in events:
        sweep.apply(event)
        if len(sweep.running()) == 3 and all(trial.epoch == 1 for trial in sweep.running()):
            break
    first, second, third = (trial.cohort for trial in sweep.running())
    paces = {
        first: Pace(Beat(9, "training", 12, 40, 2, 96), 1.0, 85.31, 130.0),
        second: Pace(Beat(9, "validating", 3, 9, 2), 1.0, None, 4.0),
        third: Pace(Beat(2, "training", 1, 40, 2), 200.0),
    }
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render(sweep, sweep.sessions[-1].end + 90, width, paces))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if re.match(r"\d{4} ", line)]
    assert len(rows) == 3
    told = [re.split(r"\d min  |\d s  ", row.rstrip())[-1] for row in rows]
    if in_words:
        assert told == [
            "training 12/40 · 85.3 frames/s · 2 min left",
            "validating 3/9 · 4 s left",
            "silent 3 min",
        ]
    else:
        assert told == ["12/40", "val 3/9", "silent 3 min"]
    for row, trial in zip(rows, sweep.running(), strict=True):
        assert "  1/9  " in row
        assert f"{trial.last:.3f}  {trial.best:.3f}" in row


def test_time_left_falls_to_nothing(events):
    sweep, estimates = Sweep(), []
    for event in events:
        sweep.apply(event)
        if isinstance(event, EpochEvent):
            # Each epoch is said to have taken ten seconds.
            sweep._time = SlotTime()
            for trial in sweep.trials.values():
                sweep._time.seconds[trial.number] = 10.0 * len(trial.values)
            estimates.append(time_left(sweep, event.time))
    assert estimates[0] > 200
    assert estimates[-1] == 0
    assert estimates[len(estimates) // 2] < estimates[0]
    assert time_left(Sweep(events[:4]), 0) is None


def test_plain_lines_tell_every_start_epoch_end_and_failure(events):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    progress, sweep = PlainProgress(console), Sweep()
    for event in events:
        sweep.apply(event)
        progress.event(sweep, event)
    lines = console.file.getvalue().splitlines()
    kinds = StartEvent | EpochEvent | FailEvent
    assert len(lines) == sum(isinstance(event, kinds) for event in events)
    text = "\n".join(lines)
    assert "0000 control resnet18  epoch 9/9  mIoU" in text
    assert "complete (16 of 16 trials and controls ended)" in text
    assert "stopped at a rung" in text
    assert "failed (oom, tried again with batch_size 4): no memory left" in text
    assert "failed (nan, given up): loss is nan" in text
    assert "started after epoch 1, attempt 2" in text


def test_json_lines_are_the_ledgers_events_notes_and_the_outcome(events, tmp_path):
    file = io.StringIO()
    progress = JsonProgress(file)
    progress.note("dashboard: …")
    for event in events:
        progress.event(Sweep(), event)
    outcome = Outcome(tmp_path, 3, "done", num_failed=2, best_value=0.5)
    progress.close(outcome)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert lines[0]["event"] == "note"
    assert lines[1:-1] == [to_json(event) for event in events]
    assert lines[-1]["event"] == "outcome"
    assert lines[-1]["exit_code"] == 3
    assert lines[-1]["experiment"] == str(tmp_path)


def test_quiet_shows_failures_that_end_a_trial_and_how_to_go_on(events, tmp_path):
    console = Console(file=io.StringIO(), width=80)
    progress, sweep = QuietProgress(console), Sweep()
    progress.note("nobody wants to know")
    for event in events:
        sweep.apply(event)
        progress.event(sweep, event)
        progress.tick(sweep)
    progress.close(Outcome(tmp_path, 130, "sigint", resume_command="kdsweep resume x"))
    lines = console.file.getvalue().splitlines()
    ends = [e for e in events if isinstance(e, FailEvent) and not e.retry]
    assert len(lines) == len(ends) + 1
    assert lines[-1] == "kdsweep resume x"


def test_live_progress_leaves_the_summary_and_nothing_else(events, tmp_path):
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    progress, sweep = LiveProgress(console), Sweep()
    for event in events:
        sweep.apply(event)
        progress.event(sweep, event)
        if sweep.sessions:
            progress._next = 0.0
            progress.tick(sweep)
    progress.close(Outcome(tmp_path, 0, "done", num_complete=16))
    text = console.file.getvalue()
    assert "\x1b[?25h" in text, "the cursor is shown again"
    assert "\x1b[2Kdone: 16 complete" in text.splitlines()[-1], "in place of the table"


@pytest.mark.parametrize(
    ("mode", "is_terminal", "kind"),
    [
        ("auto", True, LiveProgress),
        ("auto", False, PlainProgress),
        ("plain", True, PlainProgress),
        ("live", False, LiveProgress),
        ("json", True, JsonProgress),
        ("quiet", True, QuietProgress),
    ],
)
def test_the_mode_decides_and_auto_looks_at_the_terminal(mode, is_terminal, kind):
    console = Console(file=io.StringIO(), force_terminal=is_terminal)
    assert type(make_progress(mode, console).shown) is kind


class Leaving(io.StringIO):
    """A pipe whose reader leaves after some characters."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, text):
        if self.tell() + len(text) > self.room:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


@pytest.mark.parametrize("mode", ["plain", "live", "quiet", "json"])
def test_a_lost_output_is_told_once_and_then_nothing_is_shown(
    mode, events, tmp_path, capsys, monkeypatch
):
    file = Leaving(room=150)
    monkeypatch.setattr("sys.stderr" if mode == "quiet" else "sys.stdout", file)
    progress, sweep = make_progress(mode), Sweep()
    progress.note("starting")
    for event in events:
        sweep.apply(event)
        progress.event(sweep, event)
        progress.tick(sweep)
    progress.close(Outcome(tmp_path, 0, "done", resume_command="kdsweep resume " + 200 * "x"))
    progress.abort()
    monkeypatch.undo()
    assert type(progress.shown) is Progress
    assert len(file.getvalue()) <= 150
    if mode != "quiet":
        assert file.getvalue()
        assert capsys.readouterr().err.splitlines() == [
            "warning: nothing can be shown any more (Broken pipe); the sweep goes on, and "
            "kdsweep status --watch shows it"
        ]


def test_the_real_output_of_a_process_may_go_away():
    code = (
        "import sys\n"
        "from kdsweep.sweep.progress import make_progress\n"
        "progress = make_progress('plain')\n"
        "sys.stdin.readline()\n"
        "for number in range(3): progress.note('x')\n"
        "print('not for anybody')\n"
        "sys.exit(4)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=-1, stdout=-1, stderr=-1, text=True
    )
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    errors = process.stderr.read()
    process.stderr.close()
    # Neither 120, of a flush that fails at the end, nor 1, with which rich ends a process.
    assert process.wait() == 4
    assert errors.count("\n") == 1
    assert "the sweep goes on" in errors


def test_the_outcome_says_what_was_done_and_how_to_go_on(tmp_path):
    outcome = Outcome(
        experiment=tmp_path,
        exit_code=4,
        reason="max_gpu_hours",
        num_complete=3,
        num_failed=1,
        num_left=9,
        num_controls=2,
        best_trial=7,
        best_label="resnet34→resnet18",
        best_value=0.5678,
        hours=1.5,
        gpu_hours=2.25,
        resume_command="kdsweep resume experiments/x",
        notice="made-up data",
    )
    assert outcome_lines(outcome) == [
        "paused: the budget of GPU-hours is used up: 3 complete, 1 failed, 9 left; 2 "
        "controls  (90 min, 2.25 GPU-hours)",
        "resume with: kdsweep resume experiments/x",
    ]
    assert "before anything was trained" in outcome_lines(Outcome(None, 130, "sigint"))[0]


def test_a_used_up_budget_needs_a_larger_one(events, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(tmp_path / "x")
    cut = next(i for i, event in enumerate(events) if isinstance(event, EpochEvent)) + 1
    for reason, flag in (("max_gpu_hours", " --max-gpu-hours N"), ("sigint", "")):
        pause = PauseEvent(time=events[cut].time, reason=reason)
        outcome = make_outcome(Sweep([*events[:cut], pause]), experiment)
        assert outcome.resume_command == f"kdsweep resume x{flag}"
        assert outcome.num_controls > 0


def test_trials_and_controls_are_counted_apart(events, tmp_path):
    sweep = Sweep(events)
    outcome = make_outcome(sweep, Experiment(tmp_path))
    search = [trial for trial in sweep.trials.values() if not trial.is_control]
    ended = (outcome.num_complete, outcome.num_stopped, outcome.num_failed)
    assert sum(ended) == len(search) == sweep.header.trials
    assert outcome.num_complete == sum(trial.state == "complete" for trial in search)
    assert (outcome.num_left, outcome.num_failed_controls) == (0, 0)
    assert outcome.num_controls == len(sweep.trials) - len(search)
    control = next(trial for trial in sweep.trials.values() if trial.is_control)
    control.state = State.FAILED
    outcome = make_outcome(sweep, Experiment(tmp_path))
    assert outcome.num_failed_controls == 1
    assert "controls (1 failed)" in outcome_lines(outcome)[0]
    begun = make_outcome(Sweep(events[:2]), Experiment(tmp_path))
    assert begun.num_left == sweep.header.trials


def test_events_without_words_have_no_line(events):
    assert event_line(Sweep(events), events[0]) is None


def test_what_costs_too_much_is_said(tmp_path):
    space = make_space(
        student={"encoder": {"values": ["resnet34", "resnet18", "mobilenet_v2"]}},
        sweep={"constraints": {"student/params_m": "<= 20", "student/latency_ms": "<= 20"}},
    )
    simulation = Simulation(tmp_path, space)
    driver = simulation.run()
    sweep, events = driver.sweep, read_ledger(simulation.experiment.ledger)
    lines = {
        kind: {event_line(sweep, event) for event in events if is_meant(event)}
        for kind, is_meant in {
            "rejected": lambda event: isinstance(event, RejectedEvent),
            "constraint": lambda event: getattr(event, "stop", None) == "constraint",
            "halving": lambda event: getattr(event, "stop", None) == "asha",
        }.items()
    }
    assert lines["rejected"]
    for line in lines["rejected"]:
        assert line.endswith("→resnet34  not trained: 24.0 M parameters, at most 20 allowed")
    assert lines["constraint"]
    assert all("  costs more than allowed (" in line for line in lines["constraint"])
    outcome = make_outcome(sweep, Experiment(tmp_path))
    assert outcome.num_too_costly == len(lines["constraint"])
    assert f", {outcome.num_too_costly} too costly" in outcome_lines(outcome)[0]
    assert outcome.num_complete + outcome.num_stopped + outcome.num_too_costly == 14
    assert all("  stopped at a rung (" in line for line in lines["halving"])


def test_escape_sequences_in_a_name_reach_no_terminal():
    console = Console(file=io.StringIO(), width=80)
    shown = PlainProgress(console)
    shown.note("weights: \x1b]0;title\x07\x1b[2Jmy\nfile")
    assert console.file.getvalue() == "weights: ·]0;title··[2Jmy file\n"
