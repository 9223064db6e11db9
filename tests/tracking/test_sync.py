"""Runs that were written to the disk are sent later, in order, and once."""

import re
import shutil

import pytest
from runs import JOB, KEY, use_home_without_account
from stub_server import StubServer

from kdsweep.cli import main
from kdsweep.errors import ExperimentError, KdsweepError
from kdsweep.ledger import Experiment, Ledger, TrialFolder
from kdsweep.tracking.sync import open_runs, sync_runs
from kdsweep.tracking.wandb import WandbTracker

NAME = "20261122-141500-tiny"


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(tmp_path / NAME)
    experiment.trials.mkdir(parents=True)
    Ledger.open(experiment.ledger).close()
    return experiment


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of two trials that were tracked offline, the second one in two parts."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        use_home_without_account(patch, folder / "home")
        for epochs in ([1, 2], [3]):
            tracker = WandbTracker("offline", "roads", None, NAME, folder / "wandb")
            if epochs == [1, 2]:
                tracker.trial(0, "a→b", JOB, "search")
                tracker.epoch(0, 1, {"student/miou": 0.5})
                tracker.trial_end(0, "complete")
            tracker.trial(1, "a→b", JOB, "search")
            for epoch in epochs:
                tracker.epoch(1, epoch, {"student/miou": 0.1 * epoch})
            tracker.close()
    return folder / "wandb"


@pytest.fixture
def runs(written, experiment):
    """Those trials in an experiment of the test's own."""
    shutil.copytree(written, experiment.wandb, symlinks=True)
    return experiment.wandb


def trials(names):
    """Which trial each run is of; wandb appends ``-1`` to a second folder of the same second."""
    return [re.search(r"-(\d{4})(-1)?$", name)[1] for name in names]


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def test_runs_are_sent_in_their_order_and_only_once(runs, account, monkeypatch, experiment):
    said = []
    with StubServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        first = sync_runs(open_runs(experiment.path), lambda *a: said.append(a))
        assert trials(path.name for path in first.sent) == ["0000", "0001", "0001"]
        assert [path.name for path in first.sent] == sorted(path.name for path in first.sent)
        assert [(number, total) for _, number, total in said] == [(1, 3), (2, 3), (3, 3)]
        assert [row["_step"] for row in server.history(f"{NAME}-0001")] == [1, 2, 3]
        asked = len(server.operations)
        second = sync_runs(open_runs(experiment.path))
        assert (second.sent, second.num_before) == ((), 3)
        assert len(server.operations) == asked
    # Without anything to send, neither a server nor an account is missed.
    monkeypatch.delenv("WANDB_API_KEY")
    assert sync_runs(runs).num_before == 3
    files = [path for path in experiment.path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_the_command_says_what_it_sends(runs, account, monkeypatch, experiment, capsys):
    def kdsweep(*options):
        command = ["kdsweep", "wandb", "sync", str(experiment.path), *options]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out.splitlines(), err

    with StubServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        code, lines, errors = kdsweep()
        assert (code, errors) == (0, "")
        assert [line.split()[0] for line in lines[:3]] == ["1/3", "2/3", "3/3"]
        assert trials(lines[:3]) == ["0000", "0001", "0001"]
        assert lines[3:] == ["3 runs sent, 0 had been sent before"]
        assert kdsweep() == (0, ["0 runs sent, 3 had been sent before"], "")
        assert kdsweep("--quiet") == (0, [], "")
        next(runs.glob("*0000/*.synced")).unlink()
        assert kdsweep()[1][1:] == ["1 run sent, 2 had been sent before"]
        next(runs.glob("*0000/*.synced")).unlink()
    monkeypatch.delenv("WANDB_API_KEY")
    code, lines, errors = kdsweep()
    assert (code, lines) == (1, [])
    assert errors.startswith("error: 1 run to send, and no W&B account is set up here")


def test_what_was_sent_before_an_error_is_not_sent_again(runs, account, monkeypatch):
    with StubServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)

        def refuse_the_second(path, number, total):
            server.refuse = 403 if number == 2 else None

        with pytest.raises(KdsweepError, match="403") as caught:
            sync_runs(runs, refuse_the_second)
        assert "1 of 3 runs were sent" in str(caught.value)
        server.refuse = None
        assert len(sync_runs(runs).sent) == 2
        assert [row["_step"] for row in server.history(f"{NAME}-0000")] == [1]


def test_without_an_account_or_a_network_there_is_one_clear_error(runs, monkeypatch):
    with pytest.raises(KdsweepError, match="3 runs to send, and no W&B account") as caught:
        sync_runs(runs)
    assert "wandb login" in str(caught.value)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(KdsweepError, match=r"http://127.0.0.1:9 does not answer: .*refused"):
        sync_runs(runs)
    assert not list(runs.glob("*/*.synced"))


def test_a_run_that_takes_too_long_is_an_error(runs, account, monkeypatch):
    with StubServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)

        def slow_down(*_):
            server.delay = 30.0

        with pytest.raises(KdsweepError, match="not taken it within 3 s"):
            sync_runs(runs, slow_down, seconds=3.0)


def test_the_folder_may_be_that_of_a_training(tmp_path):
    training = TrialFolder(tmp_path / "single").create()
    training.job_yaml.write_text("name: x")
    assert open_runs(training.path) == training.wandb
    with pytest.raises(ExperimentError):
        open_runs(tmp_path / "nothing")


def test_a_running_sweep_is_left_alone(experiment):
    with Ledger.open(experiment.ledger), pytest.raises(KdsweepError, match="this sweep is running"):
        open_runs(experiment.path)
    assert open_runs(experiment.path) == experiment.wandb
