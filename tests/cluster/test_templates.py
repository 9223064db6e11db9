"""The files that are handed to Slurm and Kubernetes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "cluster"

STANDS_IN = {
    "scontrol": 'if [ "$1" = show ]; then echo node-a; echo node-b; else echo "$0 $*" >> $LOG; fi',
    "srun": 'echo "srun $*" >> $LOG; sleep 3',
    "ray": "exit 0",
    "kdsweep": 'echo "kdsweep $*" >> $LOG; trap "exit 130" TERM; sleep ${LASTS:-0} & wait',
}


def slurm(tmp_path: Path, **env: str) -> subprocess.Popen[bytes]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in STANDS_IN.items():
        (commands / name).write_text(f"#!/bin/bash\n{script}\n")
        (commands / name).chmod(0o755)
    told = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_JOB_ID": "17",
        **env,
    }
    script = str(FOLDER / "slurm.sh")
    return subprocess.Popen(["bash", script, "space.yaml", str(tmp_path / "exp")], env=told)


def log(tmp_path: Path) -> list[str]:
    path = tmp_path / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_slurm_starts_ray_everywhere_and_runs_the_sweep(tmp_path: Path) -> None:
    process = slurm(tmp_path)
    assert process.wait(60) == 0
    lines = log(tmp_path)
    assert f"kdsweep run space.yaml --out {tmp_path}/exp --address node-a:6379" in lines
    others, first = sorted(line for line in lines if line.startswith("srun"))
    assert "--nodelist=node-a ray start --head" in first
    assert "--exclude=node-a" in others
    assert "--address=node-a:6379" in others
    assert not any("scontrol" in line for line in lines)


def test_slurm_lets_a_sweep_pause_and_asks_to_be_requeued(tmp_path: Path) -> None:
    process = slurm(tmp_path, LASTS="60")
    while not any(line.startswith("kdsweep") for line in log(tmp_path)):
        assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 130
    assert any(line.endswith("scontrol requeue 17") for line in log(tmp_path))


def test_slurm_resumes_after_a_requeue(tmp_path: Path) -> None:
    (tmp_path / "exp" / "latest").mkdir(parents=True)
    process = slurm(tmp_path, SLURM_RESTART_COUNT="1")
    assert process.wait(60) == 0
    assert f"kdsweep resume {tmp_path}/exp/latest --address node-a:6379" in log(tmp_path)


def test_the_job_for_kubernetes_runs_a_command_that_there_is() -> None:
    from typer.main import get_command

    from kdsweep.cli import app

    tree = read("rayjob.yaml")
    assert (tree["apiVersion"], tree["kind"]) == ("ray.io/v1", "RayJob")
    words = shlex.split(tree["spec"]["entrypoint"])
    commands: Any = get_command(app)  # typer brings a click of its own
    commands.commands[words[1]].make_context("run", words[2:])
    cluster = tree["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


def test_the_job_for_kubernetes_has_only_keys_that_kuberay_knows() -> None:
    schema = json.loads(Path(__file__).with_name("rayjob_schema.json").read_text())
    assert not list(Draft7Validator(schema).iter_errors(read("rayjob.yaml")))
    wrong = read("rayjob.yaml")
    wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["volume"] = []
    assert len(list(Draft7Validator(schema).iter_errors(wrong))) == 1


def read(name: str) -> Any:
    return YAML(typ="safe").load(FOLDER / name)


@pytest.mark.parametrize("name", ["slurm.sh"])
def test_syntax(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(FOLDER / name)]).returncode == 0
