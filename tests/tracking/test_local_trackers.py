"""TensorBoard and MLflow: what their own readers find of runs, also of resumed and killed ones."""

import csv
import importlib.util
import io
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import JOB, wait_for, warnings_of

from kdsweep.config import load_space
from kdsweep.errors import ConfigError
from kdsweep.ledger import Experiment
from kdsweep.tracking import SweepSummary, TrialDetails, open_tracker
from kdsweep.tracking.mlflow import plain_key

# Of what the readers themselves use.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAME = "20261122-141500-tiny"
PARAMS = {"train.lr": 0.003, "student.encoder": "resnet18", "distill[1].hint.weight": 2}
CLASSES = ["road", "car"]
IOUS = {"student": [0.5, None], "teacher": [0.75, 0.25]}


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(tmp_path / NAME)
    experiment.trials.mkdir(parents=True)
    return experiment


def open_local(experiment, **tracking):
    tracking = tracking or {"tensorboard": {}, "mlflow": {}}
    space = {
        "data": {"source": "roadscenes", "image_size": [32, 32]},
        "student": {"encoder": "resnet18"},
        "train": {"epochs": 3},
        "tracking": {"wandb": {"mode": "off"}, **tracking},
    }
    tracker = open_tracker(load_space(space), experiment)
    for member in getattr(tracker, "members", [tracker]):
        member._close_seconds = 200.0  # MLflow takes seconds to start, more on a busy machine
    return tracker


def details_of(experiment, epochs):
    folder = experiment.trial(7)
    folder.frames.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (9, 8, 7)).save(folder.frame(5, "image"))
    for what in ("truth", "student"):
        labels = Image.fromarray(np.ones((8, 12), np.uint8))
        labels.putpalette([0, 0, 0, 200, 100, 50])
        labels.save(folder.frame(5, what))
    return TrialDetails(epochs, 2, CLASSES, IOUS, folder.frame_pictures())


def train(tracker, first, last, number=7):
    tracker.trial(number, "a→b", JOB, "search", PARAMS)
    for epoch in range(first, last + 1):
        tracker.epoch(number, epoch, {"student/miou": epoch / 10, "teacher/miou": None})


def events_of(folder):
    """What TensorBoard itself reads in a run's folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    read.Reload()
    return read


def text(read, tag):
    return [
        event.tensor_proto.string_val[0].decode() for event in read.Tensors(f"{tag}/text_summary")
    ]


def settings_of(read):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = read.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    return {key: value.number_value or value.string_value for key, value in found.items()}


def client_of(experiment, uri=None):
    from mlflow import MlflowClient

    return MlflowClient(uri or f"sqlite:///{experiment.tracker('mlflow') / 'mlflow.db'}")


def mlflow_runs(experiment, name=NAME):
    """MLflow's runs by the tag that tells them apart."""
    client = client_of(experiment)
    found = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    return client, {run.data.tags["kdsweep.run"]: run for run in found}


def artifact(run, path):
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def history(client, run, key):
    return [(m.step, round(m.value, 6)) for m in client.get_metric_history(run.info.run_id, key)]


def test_a_resumed_run_goes_on_and_is_read_back_whole(experiment):
    first = open_local(experiment)
    train(first, 1, 2)
    assert warnings_of(first.close) == []
    second = open_local(experiment)
    train(second, 3, 4)
    train(second, 5, 5)  # a retry within the session
    second.trial_end(7, "stopped", {"best/student/miou": 0.2}, details_of(experiment, 5))
    page = experiment.path / "index.html"
    page.write_text("<p>found</p>")
    tables = {"trials": [{"number": 0, "lr": 0.1}, {"number": 1, "lr": "a|b"}], "terms": []}
    second.summary(SweepSummary(2, {"state": "done"}, tables, page))
    assert warnings_of(second.close) == []

    (folder,) = experiment.tracker("tensorboard").glob("0007-*")
    assert folder.name == "0007-a-b"
    read = events_of(folder)
    curve = [(event.step, round(event.value, 6)) for event in read.Scalars("student/miou")]
    expected = [(epoch, epoch / 10) for epoch in range(1, 6)]
    assert curve == expected
    assert "teacher/miou" not in read.Tags()["scalars"]
    assert [event.step for event in read.Scalars("best/student/miou")] == [2]
    assert settings_of(read) == PARAMS
    assert text(read, "state") == ["interrupted", "stopped"]
    (classes,) = text(read, "classes")
    assert classes.splitlines()[2:] == ["| road | 0.5 | 0.75 |", "| car |  | 0.25 |"]
    assert "lr: 0.001" in text(read, "job")[0]
    (image,) = read.Images("samples/5")
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert pixels.shape == (8, 3 * 12 + 2 * 4, 3)
    assert pixels[0, 0].tolist() == [9, 8, 7]
    assert pixels[0, -1].tolist() == [200, 100, 50]
    (trials,) = text(events_of(experiment.tracker("tensorboard") / "sweep"), "trials")
    assert trials.splitlines()[-1] == r"| 1 | a\|b |"

    client, runs = mlflow_runs(experiment)
    assert runs.keys() == {f"{NAME}-0007", f"{NAME}-sweep"}
    run, sweep = runs[f"{NAME}-0007"], runs[f"{NAME}-sweep"]
    assert (run.info.run_name, run.info.status) == ("0007 a→b", "FINISHED")
    assert history(client, run, "student/miou") == expected
    assert history(client, run, "best/student/miou") == [(2, 0.2)]
    assert run.data.params == {plain_key(key): str(value) for key, value in PARAMS.items()}
    assert (run.data.tags["kdsweep.state"], run.data.tags["kdsweep.kind"]) == ("stopped", "search")
    rows = list(csv.DictReader(artifact(run, "classes.csv").read_text().splitlines()))
    assert rows[1] == {"class": "car", "student": "", "teacher": "0.25"}
    assert "lr: 0.001" in artifact(run, "job.yaml").read_text()
    with Image.open(artifact(run, "samples/00005.png")) as picture:
        assert picture.size == (44, 8)
    assert artifact(sweep, "tables/trials.csv").read_text() == "number,lr\n0,0.1\n1,a|b\n"
    assert artifact(sweep, "report/index.html").read_text() == "<p>found</p>"
    assert sweep.data.tags["kdsweep.state"] == "done"


def statuses(database):
    """The states of all runs; MLflow itself would try to make the tables that are being made."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("select status from runs").fetchall()
        except sqlite3.OperationalError:  # no tables yet, or being written
            return []


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_that_it_has_told(experiment):
    code = f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_local_trackers import open_local, train
        from kdsweep.ledger import Experiment
        tracker = open_local(Experiment(Path({str(experiment.path)!r})))
        train(tracker, 1, 2)
        time.sleep(0.2)
        print("told", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "told\n"
    driver.kill()
    driver.wait()
    driver.stdout.close()
    database = experiment.tracker("mlflow") / "mlflow.db"
    wait_for(lambda: statuses(database) == [("KILLED",)])
    client, runs = mlflow_runs(experiment)
    assert history(client, runs[f"{NAME}-0007"], "student/miou") == [(1, 0.1), (2, 0.2)]
    (folder,) = experiment.tracker("tensorboard").glob("0007-*")
    wait_for(lambda: "state/text_summary" in events_of(folder).Tags()["tensors"])
    tracker = open_local(experiment)
    train(tracker, 3, 3)
    tracker.trial_end(7, "complete")
    assert warnings_of(tracker.close) == []
    client, runs = mlflow_runs(experiment)
    (run,) = runs.values()
    assert run.info.status == "FINISHED"
    assert history(client, run, "student/miou") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [event.step for event in events_of(folder).Scalars("student/miou")] == [1, 2, 3]


def test_a_tracker_that_fails_is_one_warning_and_leaves_the_others_alone(experiment):
    tracker = open_local(experiment, tensorboard={}, mlflow={"uri": "sqlite:////proc/none/m.db"})

    def sweep():
        train(tracker, 1, 3)
        tracker.trial_end(7, "complete")
        tracker.close()

    (warning,) = warnings_of(sweep)
    assert warning.startswith("MLflow: ")
    assert "nothing is tracked (the sweep itself goes on)" in warning
    (folder,) = experiment.tracker("tensorboard").glob("0007-*")
    assert [event.step for event in events_of(folder).Scalars("student/miou")] == [1, 2, 3]


def test_a_tracker_that_is_behind_is_left_to_itself(experiment, monkeypatch, tmp_path):
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "tensorboardX.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(fake), prepend=os.pathsep)
    tracker = open_local(experiment, tensorboard={})
    tracker._close_seconds = 0.5
    train(tracker, 1, 1)
    begin = time.monotonic()
    (warning,) = warnings_of(tracker.close)
    assert time.monotonic() - begin < 10
    assert "TensorBoard: not done after 0 s, it goes on by itself" in warning
    assert tracker._process.poll() is None
    tracker._process.kill()
    tracker._thread.join()


def test_an_experiment_of_ones_own_in_a_database_of_ones_own(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    tracker = open_local(experiment, mlflow={"experiment": "roads"})
    train(tracker, 1, 1)
    assert warnings_of(tracker.close) == []
    client = client_of(experiment, f"sqlite:///{tmp_path / 'shared.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("roads").experiment_id])
    assert run.data.tags["kdsweep.sweep"] == NAME
    assert not (experiment.tracker("mlflow") / "mlflow.db").exists()


def test_a_missing_package_is_an_error_before_work_starts(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "mlflow" else find(n))
    space = {
        "data": {"source": "roadscenes", "image_size": [32, 32]},
        "student": {"encoder": "resnet18"},
        "train": {"epochs": 3},
    }
    load_space(space).tracking.check_packages()
    tracked = load_space({**space, "tracking": {"mlflow": {}}})
    with pytest.raises(ConfigError) as caught:
        tracked.tracking.check_packages()
    assert str(caught.value) == (
        "tracking.mlflow: MLflow needs mlflow, which is not installed\n"
        "  try:     pip install 'kdsweep[mlflow]', or take tracking.mlflow out"
    )


def test_plain_folders_are_refused_with_what_mlflow_takes(tmp_path):
    with pytest.raises(ConfigError, match="no longer keeps runs in plain folders") as caught:
        open_local(Experiment(tmp_path), mlflow={"uri": "file:mlruns/"})
    assert "try:     sqlite:///mlruns/mlflow.db" in str(caught.value)
