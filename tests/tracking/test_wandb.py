import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
from runs import JOB, KEY, make_space, read_run, wait_for, warnings_of

from kdsweep.ledger import Experiment
from kdsweep.tracking import SweepSummary, open_tracker
from kdsweep.tracking.base import id_prefix
from kdsweep.tracking.wandb import MAX_ROWS, WandbTracker


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "20261122-141500-tiny"
    path.mkdir()
    return path


def open_offline(experiment):
    return open_tracker(make_space(project="roads"), Experiment(experiment))


def fake_wandb(monkeypatch, tmp_path, init, top=""):
    """Puts a module called wandb, with this body of ``init``, before the real one."""
    body = f"{top}\nclass Settings:\n    model_fields = {{}}\n"
    body += "def teardown(exit_code=None):\n    pass\n"
    body += "def init(**kwargs):\n" + textwrap.indent(init, "    ")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"), prepend=os.pathsep)


def tracker_of(experiment, mode="offline", **kwargs):
    return WandbTracker(mode, "roads", None, experiment.name, experiment / "wandb", **kwargs)


def use(tracker, num_epochs=3):
    tracker.trial(0, "a→b", JOB, "search")
    for epoch in range(1, num_epochs + 1):
        tracker.epoch(0, epoch, {"student/miou": 0.1 * epoch})
    tracker.trial_end(0, "complete")


def test_offline_runs_read_back(experiment, monkeypatch):
    for name in ("RUN_ID", "SWEEP_ID", "RUN_GROUP", "NAME", "TAGS"):
        # Of a run or sweep that the driver itself is part of, nothing may reach ours.
        monkeypatch.setenv(f"WANDB_{name}", "stranger")
    tracker = open_offline(experiment)
    tracker.trial(0, "control resnet18", {**JOB, "teacher": None}, "control")
    tracker.trial(7, "resnet34→resnet18", JOB, "search", {"data_fingerprint": "a3f9"})
    for epoch, value in enumerate([0.2, 0.5, 0.4], start=1):
        tracker.epoch(0, epoch, {"student/miou": value / 2, "student/loss": 1.0})
        tracker.epoch(7, epoch, {"student/miou": value, "teacher/miou": None, "student/loss": 2.0})
    tracker.trial_end(7, "complete", {"gain": 0.25})
    tracker.close()
    runs = sorted((experiment / "wandb").glob("offline-run-*"))
    assert [run.name[-4:] for run in runs] == ["0000", "0007"]
    control, search = map(read_run, runs)
    run = search["run"]
    assert run["run_id"] == "20261122-141500-tiny-0007"
    assert run["display_name"] == "0007 resnet34→resnet18"
    assert (run["run_group"], run["project"]) == ("20261122-141500-tiny", "roads")
    assert (run["job_type"], control["run"]["job_type"]) == ("search", "control")
    config = run["config"]["update"]
    assert {key: config[key] for key in JOB} == JOB
    assert config["data_fingerprint"] == "a3f9"
    assert [row["student/miou"] for row in search["history"]] == [0.2, 0.5, 0.4]
    assert [(row["_step"], row["epoch"]) for row in search["history"]] == [(1, 1), (2, 2), (3, 3)]
    assert "teacher/miou" not in search["history"][0]
    assert search["summary"]["best/student/miou"] == 0.5
    assert search["summary"]["best/epoch"] == 2
    assert (search["summary"]["state"], search["summary"]["gain"]) == ("complete", 0.25)
    assert search["exit"] == 0
    # Nobody said that the control ended.
    assert control["summary"]["state"] == "interrupted"
    assert control["exit"] == 255
    assert [row["student/miou"] for row in control["history"]] == [0.1, 0.25, 0.2]


def test_a_resumed_trial_continues_its_run(experiment):
    first = open_offline(experiment)
    first.trial(3, "a→b", JOB, "search")
    first.epoch(3, 1, {"student/miou": 0.1})
    first.close()
    time.sleep(1.1)  # wandb names folders by the second
    second = open_offline(experiment)
    second.trial(3, "a→b", JOB, "search")
    second.trial(3, "a→b", JOB, "search")  # a retry within the session
    second.epoch(3, 2, {"student/miou": 0.2})
    second.trial_end(3, "stopped")
    second.close()
    parts = [read_run(path) for path in sorted((experiment / "wandb").glob("offline-run-*"))]
    assert [part["run"]["run_id"] for part in parts] == [f"{experiment.name}-0003"] * 2
    assert [[row["_step"] for row in part["history"]] for part in parts] == [[1], [2]]
    assert [part["summary"]["state"] for part in parts] == ["interrupted", "stopped"]


def test_an_unreachable_server_falls_back_to_offline(experiment, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    tracker = tracker_of(experiment, "online", init_seconds=2.0)
    use(tracker)
    (warning,) = warnings_of(tracker.close)
    assert "send it with: kdsweep wandb sync" in warning
    (run,) = (experiment / "wandb").glob("offline-run-*")
    read = read_run(run)
    assert [row["_step"] for row in read["history"]] == [1, 2, 3]
    assert read["summary"]["state"] == "complete"
    files = [path for path in experiment.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_the_driver_pays_nearly_nothing_and_never_waits(experiment, monkeypatch, tmp_path):
    fake_wandb(monkeypatch, tmp_path, "import time; time.sleep(60)")
    tracker = tracker_of(experiment, close_seconds=0.5, queue_size=100)
    metrics = {f"student/m{i}": 0.1 for i in range(25)}

    def sweep():
        for number in range(100):
            tracker.trial(number, "a→b", JOB, "search")
            for epoch in range(50):
                tracker.epoch(number, epoch, metrics)

    begin = time.perf_counter()
    dropped = warnings_of(sweep)
    swept = time.perf_counter()
    not_done = warnings_of(tracker.close)
    closed = time.perf_counter()
    assert (swept - begin) / 5100 < 0.002  # 10 µs on an idle core
    assert closed - swept < 3
    assert len(dropped + not_done) == 1
    # Killed, and waited for.
    assert tracker._process.returncode == -signal.SIGKILL


def test_a_wandb_that_raises_is_one_warning(experiment, monkeypatch, tmp_path):
    fake_wandb(monkeypatch, tmp_path, "raise ValueError('no more runs\\nsecond line')")
    tracker = tracker_of(experiment)

    def sweep():
        use(tracker)
        tracker.trial(1, "a→b", JOB, "search")
        tracker.close()

    (warning,) = warnings_of(sweep)
    assert "ValueError: no more runs; the run of trial 0 is not complete" in warning
    assert "second line" not in warning


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ("raise ImportError('broken wheel')", "ImportError: broken wheel; nothing is tracked"),
        ("import os; os._exit(3)", "its process ended; nothing more is tracked"),
    ],
)
def test_a_wandb_that_does_not_start_is_one_warning(experiment, monkeypatch, tmp_path, top, said):
    fake_wandb(monkeypatch, tmp_path, "pass", top)
    tracker = tracker_of(experiment)

    def sweep():
        use(tracker)
        deadline = time.monotonic() + 20
        while tracker._problem is None and time.monotonic() < deadline:
            tracker.epoch(0, 9, {"student/miou": 0.1})
            time.sleep(0.02)
        use(tracker)
        tracker.close()
        tracker.close()
        use(tracker)

    (warning,) = warnings_of(sweep)
    assert said in warning


def test_what_is_left_out_of_a_long_table_is_said(experiment, monkeypatch, tmp_path):
    fake_wandb(monkeypatch, tmp_path, "raise ValueError('no')")
    tracker = tracker_of(experiment)
    rows = [{"number": number} for number in range(MAX_ROWS + 1)]

    def sweep():
        tracker.summary(SweepSummary(1, {}, {"trials": rows, "pairs": rows[:MAX_ROWS]}))
        tracker.close()

    (warning,) = warnings_of(sweep)
    assert "of the table trials only the first 10000 rows are sent" in warning


def test_warnings_as_errors_do_not_take_the_sweep_down(experiment, monkeypatch, tmp_path, capsys):
    fake_wandb(monkeypatch, tmp_path, "raise ValueError('no')")
    tracker = tracker_of(experiment)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(tracker)
        tracker.close()
    assert "Weights & Biases: ValueError: no" in capsys.readouterr().err


def test_nothing_is_started_before_the_first_trial(experiment):
    tracker = open_offline(experiment)
    assert tracker._thread is None
    tracker.close()
    assert not (experiment / "wandb").exists()


def test_wandb_is_never_imported_into_the_driver(experiment, monkeypatch, tmp_path):
    fake_wandb(monkeypatch, tmp_path, f"open({str(tmp_path / 'used')!r}, 'w')")
    code = f"""
        import sys
        from pathlib import Path
        from kdsweep.config import Space
        from kdsweep.ledger import Experiment
        from kdsweep.tracking import SweepSummary, open_tracker
        space = Space.from_resolved({make_space().resolved()!r})
        tracker = open_tracker(space, Experiment(Path({str(experiment)!r})))
        tracker.trial(0, "a→b", {{}}, "search")
        tracker.close()
        assert not {{"wandb", "torch", "ray", "pandas"}} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "used").exists()


def test_runs_are_closed_when_the_driver_is_killed(experiment):
    code = f"""
        import time
        from pathlib import Path
        from kdsweep.tracking.wandb import WandbTracker
        folder = Path({str(experiment / "wandb")!r})
        tracker = WandbTracker("offline", "roads", None, "tiny", folder)
        tracker.trial(0, "a→b", {{}}, "search")
        tracker.epoch(0, 1, {{"student/miou": 0.5}})
        time.sleep(60)
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    wait_for(lambda: list((experiment / "wandb").glob("offline-run-*")))
    driver.kill()
    driver.wait()
    (run,) = (experiment / "wandb").glob("offline-run-*")
    wait_for(lambda: read_run(run)["exit"] is not None)
    read = read_run(run)
    assert [row["student/miou"] for row in read["history"]] == [0.5]
    assert (read["summary"]["state"], read["exit"]) == ("interrupted", 255)


def test_ids_hold_only_what_wandb_allows():
    assert id_prefix("20261122-141500-backbones") == "20261122-141500-backbones"
    odd = id_prefix("2026 a/b:c")
    assert set(odd) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert odd != id_prefix("2026 a/b?c")
    assert len(id_prefix("x" * 300)) + len("-10000") <= 64


@pytest.mark.parametrize(("folder", "expected"), [("e/wandb", "e"), ("e/runs", "e/runs")])
def test_runs_lie_in_a_folder_called_wandb(tmp_path, folder, expected):
    tracker = WandbTracker("offline", "roads", None, "tiny", tmp_path / folder)
    assert Path(tracker._options["dir"]) == tmp_path / expected


def test_the_sweep_may_take_the_warning_itself(experiment, monkeypatch, tmp_path):
    fake_wandb(monkeypatch, tmp_path, "raise ValueError('no')")
    said = []
    tracker = tracker_of(experiment, warn=said.append)
    use(tracker)
    tracker.close()
    assert len(said) == 1
    assert said[0].startswith("Weights & Biases: ValueError: no; the run of trial 0")
