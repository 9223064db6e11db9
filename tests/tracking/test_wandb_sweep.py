"""A whole sweep through Ray whose W&B server dies half-way."""

import json
import os
import subprocess
import sys

import pytest
from plain_events import read_plain
from runs import KEY, read_run, wait_for
from stub_server import StubServer
from tiny_job import SMALL

from kdsweep.ledger import Experiment

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def make_space(data, cache):
    return {
        "name": "tiny",
        "data": {
            "source": "folder",
            "path": str(data),
            "image_size": [32, 32],
            "split": {"val": 0.34, "block": 2},
            "cache": str(cache),
        },
        "teacher": {"encoder": "resnet18", "options": SMALL},
        "student": {"encoder": "mobilenet_v2", "options": SMALL},
        "distill": {"pixel_kl": {"weight": {"min": 0.1, "max": 10}}},
        "train": {"epochs": 3, "batch_size": 4, "lr": 1e-3},
        "sweep": {"trials": 2, "scheduler": "none", "max_concurrent": 1},
        "tracking": {"wandb": {"mode": "online", "project": "roads"}},
    }


def control_rows(server):
    """What the server has of the sweep's first run, its control."""
    return [
        row for run in list(server.streams) if run.endswith("-0000") for row in server.history(run)
    ]


def test_a_server_that_dies_in_mid_sweep_does_not_touch_the_sweep(tiny_data, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(json.dumps(make_space(tiny_data, tmp_path / "cache")))
    command = ["run", str(file), "--out", str(tmp_path / "experiments"), "--json"]
    environ = {"WANDB_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    lines = []
    with (
        StubServer() as server,
        subprocess.Popen(
            [sys.executable, "-c", "from kdsweep.cli import main; main()", *command],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environ | {"WANDB_BASE_URL": server.url},
        ) as process,
    ):
        for line in process.stdout:
            lines.append(json.loads(line))
            # The control is through and the first trial is under way.
            if [event["event"] for event in lines].count("epoch") == 4:
                # Files and rows travel apart: the server dies when it has all of the control's.
                wait_for(lambda: any("config.yaml" in name for name in server.files))
                wait_for(lambda: len(control_rows(server)) == 4)
                server.kill()
    assert process.returncode == 0
    experiment = Experiment.open(tmp_path / "experiments" / "latest")
    events = read_plain(experiment.ledger)
    assert [event["event"] for event in events].count("epoch") == 9
    assert [event["stop"] for event in events if event.get("stop")] == ["complete"] * 3
    said = [json.dumps(line, ensure_ascii=False) for line in lines]
    (warning,) = [text for text in said if "Weights & Biases" in text]
    assert f"kdsweep wandb sync {experiment.path}" in warning

    assert len(server.named("UpsertSweep")) == 1
    assert server.runs[f"{experiment.name}-0000"]["sweep"] == "sweep1"
    control = control_rows(server)
    assert [row["_step"] for row in control] == [1, 2, 3, 4]
    assert control[-1]["samples"]["count"] == 4
    runs = [read_run(path) for path in experiment.wandb.glob("offline-run-*")]
    found = {run["run"]["run_id"].removeprefix(f"{experiment.name}-"): run for run in runs}
    assert {"0002", "sweep"} <= found.keys()
    assert [row["_step"] for row in found["0002"]["history"]] == [1, 2, 3, 4]
    assert found["0002"]["run"]["sweep_id"] == "sweep1"
    last = found["0002"]["history"][-1]
    assert last["classes.ncols"] == 3
    assert last["samples.all_masks"][0].keys() == {"truth", "student", "teacher"}
    assert {"trials.nrows", "pairs.nrows", "gains.nrows", "terms.nrows"} <= (
        found["sweep"]["history"][0].keys()
    )
    (page,) = (artifact for artifact in found["sweep"]["artifacts"] if artifact["type"] == "report")
    assert [entry["path"] for entry in page["manifest"]["contents"]] == ["index.html"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
