"""Runs, sweeps and summaries on a server of our own on the loopback."""

import io
import json
import time

import numpy as np
import pytest
import yaml
from PIL import Image
from runs import JOB, KEY, make_space, read_run, wait_for, warnings_of
from stub_server import StubServer

from kdsweep.config import load_space
from kdsweep.ledger import Experiment
from kdsweep.tracking import SweepSummary, TrialDetails, open_tracker

NAME = "20261122-141500-tiny"


@pytest.fixture
def server(monkeypatch):
    with StubServer() as stub:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", stub.url)
        yield stub


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(tmp_path / NAME)
    experiment.trials.mkdir(parents=True)
    return experiment


def files_with_the_key(path):
    files = [file for file in path.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if KEY.encode() in file.read_bytes()]


def make_details(experiment, number, epochs):
    folder = experiment.trial(number)
    folder.frames.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in (0, 7):
        Image.fromarray(rng.integers(0, 255, (8, 12, 3), np.uint8)).save(
            folder.frame(index, "image")
        )
        for what in ("truth", "student", "teacher"):
            labels = rng.integers(0, 2, (8, 12)).astype(np.uint8)
            labels[0, 0] = 255
            Image.fromarray(labels).save(folder.frame(index, what))
    return TrialDetails(
        epochs=epochs,
        best_epoch=2,
        classes=["road", "car"],
        ious={"student": [0.5, None], "teacher": [0.75, 0.25]},
        frames=folder.frame_pictures(),
    )


def pixels(file):
    return np.asarray(Image.open(file))


def train(tracker, number, epochs=3, first=1, details=None):
    tracker.trial(number, "a→b", JOB, "search")
    for epoch in range(first, epochs + 1):
        tracker.epoch(number, epoch, {"student/miou": 0.1 * epoch})
    tracker.trial_end(number, "complete", {}, details)


def test_a_sweep_is_created_once_and_every_run_carries_its_id(server, experiment):
    space = make_space(mode="online", project="roads")
    said = []
    first = open_tracker(space, experiment, warn=said.append)
    train(first, 0)
    train(first, 1)
    first.trial(2, "a→b", JOB, "search")
    first.epoch(2, 1, {"student/miou": 0.1})
    first.close()
    second = open_tracker(space, experiment, warn=said.append)  # the sweep is resumed
    train(second, 2, first=2)
    train(second, 3)
    second.close()

    assert said == []
    (created,) = server.named("UpsertSweep")
    config = yaml.safe_load(created["config"])
    assert created["projectName"] == "roads"
    assert config["controller"] == {"type": "local"}
    assert config["metric"] == {"name": "student/miou", "goal": "maximize"}
    train_ = config["parameters"]["train"]["parameters"]
    assert train_["lr"] == {"min": 1e-4, "max": 0.1, "distribution": "uniform"}
    # W&B shows this sweep; it ends nothing and stops nothing.
    assert not {"run_cap", "early_terminate"} & config.keys()
    assert server.runs.keys() == {f"{NAME}-000{number}" for number in range(4)}
    for run in server.runs.values():
        assert (run["sweep"], run["groupName"], run["jobType"]) == ("sweep1", NAME, "search")
    for number in range(4):
        rows = server.history(f"{NAME}-{number:04d}")
        assert [row["_step"] for row in rows] == [1, 2, 3]
        assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert json.loads(experiment.wandb_sweep.read_text())["sweep"] == "sweep1"
    assert files_with_the_key(experiment.path) == []
    assert server.unknown == []


def test_classes_and_pictures_of_a_run(server, experiment):
    tracker = open_tracker(make_space(mode="online", project="roads"), experiment)
    train(tracker, 0, details=make_details(experiment, 0, epochs=3))
    assert warnings_of(tracker.close) == []
    last = server.history(f"{NAME}-0000")[-1]
    assert (last["_step"], last["epoch"]) == (4, 3)
    assert last["classes"]["_type"] == "table-file"
    name = f"{NAME}-0000/{last['classes']['path']}"
    assert json.loads(server.files[name]) == {
        "columns": ["class", "student", "teacher"],
        "data": [["road", 0.5, 0.75], ["car", None, 0.25]],
    }
    samples = last["samples"]
    assert samples["captions"] == ["frame 0, epoch 2", "frame 7, epoch 2"]
    for index, frame in enumerate((0, 7)):
        files = experiment.trial(0).frame_pictures()[frame]
        masks = samples["all_masks"][index]
        assert masks.keys() == {"truth", "student", "teacher"}
        for what, mask in masks.items():
            sent = server.files[f"{NAME}-0000/{mask['path']}"]
            assert np.array_equal(pixels(io.BytesIO(sent)), pixels(files[what]))
        sent = server.files[f"{NAME}-0000/{samples['filenames'][index]}"]
        assert np.array_equal(pixels(io.BytesIO(sent)), pixels(files["image"]))
    run = server.runs[f"{NAME}-0000"]
    labels = json.loads(run["config"])["_wandb"]["value"]["mask/class_labels"]
    assert labels["samples_wandb_delimeter_truth"]["value"] == {
        "0": "road",
        "1": "car",
        "255": "void",
    }


def test_the_summary_of_a_sweep(server, experiment):
    experiment.report.mkdir()
    page = experiment.report / "index.html"
    page.write_text("<p>found</p>")
    tracker = open_tracker(make_space(mode="online", project="roads"), experiment)
    train(tracker, 0)
    tables = {"trials": [{"number": 0, "lr": 0.1}, {"number": 1, "lr": "auto"}], "terms": []}
    facts = {"state": "done", "best": {"value": 0.3}}
    tracker.summary(SweepSummary(1, facts, tables, page))
    assert warnings_of(tracker.close) == []
    (row,) = server.history(f"{NAME}-sweep")
    assert row["_step"] == 1
    assert "terms" not in row  # no rows, no table
    assert json.loads(server.files[f"{NAME}-sweep/{row['trials']['path']}"]) == {
        "columns": ["number", "lr"],
        "data": [[0, 0.1], [1, "auto"]],
    }
    summary = server.summary(f"{NAME}-sweep")
    assert (summary["state"], summary["best"]) == ("done", {"value": 0.3})
    assert server.files["artifacts/index.html"] == b"<p>found</p>"
    run = server.runs[f"{NAME}-sweep"]
    assert (run["groupName"], run["jobType"]) == (NAME, "sweep")
    assert "sweep" not in run  # it is no point of the search space


def hasty(experiment):
    """A tracker with little patience."""
    tracker = open_tracker(make_space(mode="online", project="roads"), experiment)
    tracker._options["init_seconds"] = 4.0
    return tracker


def steps_of(folder):
    return [row["_step"] for row in read_run(folder)["history"]]


@pytest.mark.slow
def test_a_server_killed_in_mid_sweep_ends_and_loses_nothing(server, experiment):
    tracker = hasty(experiment)
    train(tracker, 0)
    tracker.trial(1, "a→b", JOB, "search")
    tracker.epoch(1, 1, {"student/miou": 0.1})
    wait_for(lambda: server.history(f"{NAME}-0001"))
    wait_for(lambda: f"{NAME}-0000/config.yaml" in server.files)
    server.kill()
    begin = time.perf_counter()
    tracker.epoch(1, 2, {"student/miou": 0.2})
    tracker.trial_end(1, "complete", {}, make_details(experiment, 1, epochs=2))
    train(tracker, 2)
    assert time.perf_counter() - begin < 1
    (warning,) = warnings_of(tracker.close)
    assert time.perf_counter() - begin < 21
    assert "what is not sent is kept on the disk" in warning
    first, second = sorted(experiment.wandb.glob("run-*"))
    assert list(first.glob("*.wandb.synced"))
    # wandb's process writes down what it could not send when it finds ours gone.
    wait_for(lambda: steps_of(second) == [1, 2])
    assert not list(second.glob("*.wandb.synced"))
    second, third = sorted(experiment.wandb.glob("offline-run-*"))
    (row,) = read_run(second)["history"]
    assert (row["_step"], row["epoch"], len(row["samples.filenames"])) == (3, 2, 2)
    assert read_run(second)["run"]["run_id"] == f"{NAME}-0001"
    assert steps_of(third) == [1, 2, 3]
    assert read_run(third)["run"]["sweep_id"] == "sweep1"
    assert files_with_the_key(experiment.path) == []


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["refuses", "fails", "has too many", "is slow"])
def test_a_server_that_is_of_no_use_is_one_warning(server, experiment, trouble):
    server.refuse = {"refuses": 403, "fails": 500, "has too many": 429}.get(trouble)
    server.delay = 20.0 if trouble == "is slow" else 0.0
    tracker = hasty(experiment)
    begin = time.perf_counter()
    train(tracker, 0)
    train(tracker, 1)
    assert time.perf_counter() - begin < 1
    (warning,) = warnings_of(tracker.close)
    assert f"kdsweep wandb sync {experiment.path}" in warning
    runs = sorted(experiment.wandb.glob("offline-run-*"))
    assert [steps_of(run) for run in runs] == [[1, 2, 3]] * 2
    assert files_with_the_key(experiment.path) == []


def test_a_server_that_creates_no_sweep_still_gets_the_runs(server, experiment):
    server.sweeps_refused = "no sweeps in this plan"
    tracker = hasty(experiment)
    train(tracker, 0)
    (warning,) = warnings_of(tracker.close)
    assert "no sweeps in this plan; runs are sent, but belong to no sweep" in warning
    assert [row["_step"] for row in server.history(f"{NAME}-0000")] == [1, 2, 3]
    assert json.loads(experiment.wandb_sweep.read_text())["sweep"] is None


def crash_while_creating(server, experiment):
    """A session that dies when its W&B sweep is there and its id has not arrived."""
    server.keep_waiting = 30.0
    tracker = open_tracker(make_space(mode="online", project="roads"), experiment)
    tracker.trial(0, "a→b", JOB, "search")
    wait_for(lambda: server.named("UpsertSweep"))
    tracker._process.kill()
    tracker._process.wait()
    assert len(warnings_of(tracker.close)) == 1
    server.keep_waiting = 0.0
    assert json.loads(experiment.wandb_sweep.read_text())["sweep"] is None


def test_a_sweep_whose_id_was_lost_is_found_by_its_name(server, experiment):
    for number in range(3):
        other = {"name": f"2025112{number}-141500-tiny", "method": "random"}
        server.sweeps[f"other{number}"] = yaml.safe_dump(other)
    server.sweeps["unnamed"] = "method: random"
    crash_while_creating(server, experiment)
    tracker = open_tracker(make_space(mode="online", project="roads"), experiment)
    train(tracker, 0)
    assert warnings_of(tracker.close) == []
    assert len(server.named("UpsertSweep")) == 1
    assert json.loads(experiment.wandb_sweep.read_text())["sweep"] == "sweep5"
    assert server.runs[f"{NAME}-0000"]["sweep"] == "sweep5"
    # Each page is asked for once, and no sweep for itself.
    assert [asked.get("cursor") for asked in server.named("GetSweeps")] == [None, *"1234"]
    assert server.unknown == []


def test_a_sweep_that_was_begun_and_is_not_there_is_created(server, experiment):
    experiment.wandb.mkdir()
    experiment.wandb_sweep.write_text('{"sweep": null}')
    tracker = open_tracker(make_space(mode="online", project="roads"), experiment)
    train(tracker, 0)
    assert warnings_of(tracker.close) == []
    assert yaml.safe_load(server.sweeps["sweep1"])["name"] == NAME
    assert server.runs[f"{NAME}-0000"]["sweep"] == "sweep1"


def test_without_an_answer_there_is_no_second_sweep(server, experiment):
    crash_while_creating(server, experiment)
    server.lists_refused = "lists are out"
    tracker = hasty(experiment)
    begin = time.perf_counter()
    train(tracker, 0)
    assert time.perf_counter() - begin < 1
    (warning,) = warnings_of(tracker.close)
    assert "cannot be looked up" in warning
    assert "lists are out; runs are sent, but belong to no sweep" in warning
    assert len(server.named("UpsertSweep")) == 1
    assert "sweep" not in server.runs[f"{NAME}-0000"]
    assert [row["_step"] for row in server.history(f"{NAME}-0000")] == [1, 2, 3]
    # The next session asks again.
    server.lists_refused = None
    tracker = hasty(experiment)
    train(tracker, 1)
    assert warnings_of(tracker.close) == []
    assert server.runs[f"{NAME}-0001"]["sweep"] == "sweep1"


def test_a_space_that_wandb_cannot_express_is_one_warning_and_no_sweep(server, experiment):
    tree = make_space(mode="online", project="roads").resolved()
    tree["train"]["lr"] = {"values": [0.1, {"min": 0.001, "max": 0.01}]}
    said = []
    tracker = open_tracker(load_space(without_labels(tree)), experiment, warn=said.append)
    train(tracker, 0)
    tracker.close()
    (warning,) = said
    assert "no ranges inside of choices or lists (here at train.lr.values[1])" in warning
    assert "tracking.wandb.sweep: false" in warning
    assert server.named("UpsertSweep") == []
    assert "sweep" not in server.runs[f"{NAME}-0000"]
    # Offline there is no sweep to miss.
    tree["tracking"]["wandb"]["mode"] = "offline"
    open_tracker(load_space(without_labels(tree)), experiment, warn=said.append)
    tree["tracking"]["wandb"] |= {"mode": "online", "sweep": False}
    open_tracker(load_space(without_labels(tree)), experiment, warn=said.append)
    assert len(said) == 1


def without_labels(tree):
    return {key: value for key, value in tree.items() if key != "labels"}
