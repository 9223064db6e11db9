"""Provenance: enough to run a sweep again, and no secrets."""

import json
import os
import subprocess
import sys

import pytest

from kdsweep.ledger import provenance


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--set", "tracking.wandb.api_key=abc"], ["--set", "tracking.wandb.api_key=***"]),
        (["--token", "abc", "run"], ["--token", "***", "run"]),
        (["--password=abc def"], ["--password=***"]),
        (["WANDB_API_KEY=abc"], ["WANDB_API_KEY=***"]),
        (["--set", "train.epochs=3", "space.yaml"], ["--set", "train.epochs=3", "space.yaml"]),
        (["--data", "camvid=/data/x"], ["--data", "camvid=/data/x"]),
    ],
)
def test_secrets_in_the_command_line_are_masked(given, shown):
    assert provenance.mask_secrets(given) == shown


def test_the_environment_is_json_and_names_versions(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    contents = provenance.environment(["kdsweep", "run"], {"sampler": 3})
    text = json.dumps(contents)
    assert "very-secret" not in text
    assert contents["seeds"] == {"sampler": 3}
    assert {"kdsweep", "torch", "optuna"} <= set(contents["packages"])
    assert contents["num_cpus"] == os.cpu_count()


def test_git_state_tells_commit_and_dirty_flag(tmp_path):
    assert provenance.git_state(tmp_path) is None
    file = tmp_path / "a.txt"
    file.write_text("one")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = provenance.git_state(tmp_path)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    file.write_text("two")
    assert provenance.git_state(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_a_package_installed_below_somebodys_repository_has_no_commit(tmp_path):
    installed = tmp_path / ".venv" / "lib" / "kdsweep"
    installed.mkdir(parents=True)
    (installed / "a.py").touch()
    (tmp_path / "theirs.py").touch()
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "theirs.py"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert provenance.git_state(tmp_path) is not None
    assert provenance.git_state(installed) is None


def test_the_store_loads_nothing_heavy():
    code = (
        "import sys, kdsweep.ledger, kdsweep.ledger.provenance\n"
        "print([m for m in ('torch', 'ray', 'optuna', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
