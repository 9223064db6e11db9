"""`wandb agent` runs an exported space: the real agent, and a server of our own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs import KEY, read_run
from stub_server import ENTITY, StubServer
from tiny_job import SMALL

from kdsweep.config import dump_yaml, load_space
from kdsweep.ledger import TrialFolder

PYTHON = Path(sys.executable).parent


@pytest.fixture
def space_file(tiny_data, tmp_path):
    tree = {
        "name": "tiny",
        "data": {
            "source": "folder",
            "path": str(tiny_data),
            "image_size": [32, 32],
            "split": {"val": 0.34, "block": 2},
            "cache": str(tmp_path / "cache"),
        },
        "teacher": {"encoder": {"values": ["resnet18", "resnet34"]}, "options": SMALL},
        "student": {"encoder": "mobilenet_v2", "options": SMALL},
        "distill": {"pixel_kl": {"weight": {"min": 0.1, "max": 10}}},
        "train": {"epochs": 2, "batch_size": 4, "lr": 1e-05},
        "tracking": {"wandb": {"project": "roads", "entity": ENTITY}},
    }
    file = tmp_path / "space.yaml"
    file.write_text(dump_yaml(tree))
    return file


def kdsweep(*arguments, **environ):
    return subprocess.run(
        ["kdsweep", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{PYTHON}:{os.environ['PATH']}", **environ},
    )


def drawn(parameters, pick):
    """What a W&B server draws from the parameters of a sweep, in the form that agents get it."""
    return {
        name: drawn(parameter["parameters"], pick)
        if "parameters" in parameter
        else parameter["value"]
        if "value" in parameter
        else pick(parameter)
        for name, parameter in parameters.items()
    }


@pytest.mark.slow
def test_an_agent_trains_what_the_server_draws(space_file, no_account, tmp_path):
    exported = kdsweep("wandb", "export", space_file)
    assert exported.returncode == 0, exported.stderr
    config = yaml.safe_load(exported.stdout)
    assert (config["project"], config["entity"]) == ("roads", ENTITY)
    values = drawn(
        config["parameters"], lambda range_: range_["values"][1] if "values" in range_ else 0.5
    )
    run = {
        "id": "command1",
        "type": "run",
        "run_id": "abc123",
        "program": config["program"],
        "args": {name: {"value": value} for name, value in values.items()},
    }
    with StubServer() as server:
        server.sweeps["s1"] = exported.stdout
        server.commands = [[run]]
        agent = subprocess.run(
            [sys.executable, "-m", "wandb", "agent", "--count", "1", f"{ENTITY}/roads/s1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            cwd=no_account,
            env={
                **os.environ,
                "PATH": f"{PYTHON}:{os.environ['PATH']}",
                "WANDB_API_KEY": KEY,
                "WANDB_BASE_URL": server.url,
                "OMP_NUM_THREADS": "1",
            },
        )
        said = agent.stdout + agent.stderr
        assert server.runs.keys() == {"abc123"}, said
        sent = server.runs["abc123"]
        assert (sent["sweep"], sent["entity"], sent["project"]) == ("s1", ENTITY, "roads")
        rows = server.history("abc123")
        assert [row["_step"] for row in rows] == [1, 2, 3], said
        assert all("student/miou" in row for row in rows[:2])
        assert {"classes", "samples"} <= rows[2].keys()
        assert server.summary("abc123")["state"] == "complete"
        logged = json.loads(sent["config"])
        assert logged["teacher"]["value"]["encoder"] == "resnet34"
        assert logged["distill"]["value"]["pixel_kl"]["weight"] == 0.5
    (path,) = (no_account / "experiments" / "single").iterdir()
    assert path.name.endswith("-tiny-abc123")
    files = [file for file in no_account.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


@pytest.mark.slow
def test_a_job_trained_by_hand_is_a_run_too_and_goes_on_without_a_double_step(
    space_file, no_account, tmp_path
):
    job = tmp_path / "job.json"
    tree = yaml.safe_load(space_file.read_text())
    del tree["tracking"]
    tree["teacher"]["encoder"], tree["distill"]["pixel_kl"]["weight"] = "resnet18", 1.0
    job.write_text(json.dumps(tree))
    folder = TrialFolder(tmp_path / "trained")
    done = kdsweep("train", job, "--out", folder.path, "--wandb", "--quiet", WANDB_PROJECT="mine")
    assert done.returncode == 0, done.stderr
    (run,) = folder.wandb.glob("offline-run-*")
    read = read_run(run)
    assert (read["run"]["run_id"], read["run"]["project"]) == ("trained-0000", "mine")
    assert [row["_step"] for row in read["history"]] == [1, 2, 3]
    again = kdsweep("train", job, "--out", folder.path, "--wandb", "--quiet")
    assert again.returncode == 0, again.stderr
    _, second = sorted(folder.wandb.glob("offline-run-*"))
    assert "student/miou" not in str(read_run(second)["history"])


def test_what_wandb_cannot_express_is_not_exported(space_file):
    weight = "distill.pixel_kl.weight={values: [0, {min: 1.0, max: 2.0}]}"
    done = kdsweep("wandb", "export", space_file, "--set", weight)
    assert done.returncode == 2
    assert "W&B sweeps have no ranges inside of choices" in done.stderr
    assert done.stdout == ""


def test_the_export_names_what_agents_cannot_do(space_file):
    asked = ["sweep.controls=paired", "sweep.students_per_teacher=auto", "sweep.max_hours=3"]
    sets = [part for one in asked for part in ("--set", one)]
    done = kdsweep("wandb", "export", space_file, *sets)
    comments = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert comments == [
        "# Left out, because W&B's agents cannot do it (kdsweep run can):",
        "#   sweep.controls: paired",
        "#   sweep.students_per_teacher: auto",
        "#   sweep.max_hours: 3.0",
    ]
    assert done.stderr == ""
    plain = kdsweep("wandb", "export", space_file, "--set", "sweep.controls=none")
    assert "#" not in plain.stdout
    # Controls are trained unless a space says otherwise.
    assert "#   sweep.controls: shared\n" in kdsweep("wandb", "export", space_file).stdout


def test_a_space_without_ranges_inside_of_ranges_reads_back(space_file):
    space = load_space(space_file)
    config = yaml.safe_load(kdsweep("wandb", "export", space_file).stdout)
    assert drawn(config["parameters"], lambda range_: range_) | {"name": "tiny"} == {
        **space.tree,
        "distill": {
            **space.tree["distill"],
            "pixel_kl": {
                **space.tree["distill"]["pixel_kl"],
                "weight": {"min": 0.1, "max": 10, "distribution": "uniform"},
            },
        },
    }
