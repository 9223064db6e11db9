"""What `kdsweep doctor` finds, and what it must not tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_run import Run

from kdsweep import __version__


def write_package(site: Path, name: str, version: str, *requires: str) -> None:
    """A package as pip leaves it, as far as its metadata go."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
    (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that goes before all others."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_machine_that_is_well(
    kdsweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("KDSWEEP_CACHE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    done = kdsweep("doctor", "--json", "--out", tmp_path / "experiments")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    facts = found["facts"]
    assert found["problems"] == []
    assert facts["versions"]["kdsweep"] == __version__
    assert {"python", "torch", "ray", "optuna", "timm"} <= set(facts["versions"])
    assert facts["machine"]["memory_bytes"] > facts["machine"]["memory_free_bytes"] > 0
    assert facts["gpus"]["ray"] == len(facts["gpus"]["torch"])
    assert facts["folders"]["cache"] == "~/.cache/kdsweep"
    assert facts["folders"]["experiments"] == "./experiments"
    assert facts["wandb"] == {"account": True, "mode": "online"}
    assert facts["variables"]["WANDB_MODE"] == "set"
    shown = kdsweep("doctor")
    assert shown.returncode == 0
    assert "nothing here would stop a sweep" in shown.stdout
    for told in (done.stdout, shown.stdout):
        assert str(home) not in told
        assert "alice" not in told
        assert "kkkk" not in told
    # It only looks.
    assert {path.name for path in tmp_path.rglob("*")} == {"home", "alice"}


def test_what_would_stop_a_sweep_is_named(kdsweep: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = kdsweep("doctor", "--json", "--out", tmp_path / "file")
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.startswith("./file: nothing can be written here: it is a file")
    assert "problem: file: nothing can be written" in kdsweep("doctor", "--out", "file").stdout


def test_gpus_that_torch_does_not_see_are_a_problem(
    kdsweep: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("kdsweep.sweep.ray.bridge.num_gpus_here", lambda: 2)
    done = kdsweep("doctor")
    assert done.returncode == 1
    assert "problem: GPUs: Ray would hand out 2, torch sees 0" in done.stdout


def test_packages_that_are_missing_old_or_in_each_others_way(kdsweep: Run, site: Path) -> None:
    write_package(site, "opencv-python", "4.9")
    write_package(site, "opencv-python-headless", "4.9")
    requires = ("notthere>=2", "numpy>=999", "pandas", "alsonot; extra == 'dev'")
    write_package(site, "kdsweep", "0.1.0", *requires)
    done = kdsweep("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["problems"] == ["notthere is missing\n  try:     pip install 'notthere>=2'"]
    numpy, opencv = found["warnings"]
    assert numpy.endswith("kdsweep asks for >=999")
    assert "opencv-python, opencv-python-headless" in opencv


def test_what_cannot_be_loaded_is_a_problem_and_the_rest_is_told(
    kdsweep: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr("kdsweep.sweep.ray.bridge.num_gpus_here", fail)
    found = json.loads(kdsweep("doctor", "--json").stdout)
    assert found["problems"] == [
        "GPUs: ImportError: libcudart.so.12: cannot open shared object file"
    ]
    assert found["facts"]["machine"]["cores"] >= 1
