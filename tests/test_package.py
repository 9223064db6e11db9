"""What a user gets with ``pip install``: built, installed and run away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OLD = ("__pycache__", "*.egg-info", ".*", "build", "dist", "20*", "latest", "single")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel, made from a copy: building leaves things behind."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*OLD))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, "source"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed command in an empty folder, in an environment that has only the wheel."""
    here = built / "here"
    here.mkdir()
    environment = built / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    changed = {"KDSWEEP_CACHE": str(built / "cache"), "PYTHONSAFEPATH": "1"}
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | changed
    wheels = built.glob("*.whl")
    subprocess.run([*pip, *wheels], cwd=here, env=variables, check=True, capture_output=True)
    # All else is borrowed, later on the path. An editable kdsweep is not: it hangs on a .pth file,
    # and those of borrowed folders are not read.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(
        "\n".join({*map(sysconfig.get_path, ("purelib", "platlib"))})
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [environment / "bin" / "kdsweep", *arguments]
        return subprocess.run(command, cwd=here, env=variables, capture_output=True, text=True)

    return run


def test_the_sdist_has_what_is_needed_to_build_test_and_read(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("docs", "search_spaces", "tests", "examples", "kdsweep"):
        files = {
            str(path.relative_to(built / "source"))
            for path in (built / "source" / folder).rglob("*")
            if path.is_file()
        }
        assert files
        assert not files - names
    assert {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "setup.py"} <= names


def test_the_installed_command_finds_its_spaces(
    built: Path, installed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    listed = installed("spaces", "--json")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == len(list((ROOT / "search_spaces").glob("*.yaml")))
    assert f"{built / 'environment'}/" in listed.stdout
    assert str(ROOT) not in listed.stdout
    done = installed("validate", "backbones")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("backbones: valid, 6 combinations")


@pytest.mark.ray
def test_the_installed_command_runs_a_sweep(
    built: Path, installed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    changes = (
        "data.image_size=[32, 64]",
        "data.scenes=8",
        "data.unlabelled_scenes=4",
        "data.val_scenes=4",
        "teacher.encoder=resnet18",
        "student.encoder=tu-lcnet_035",
        "distill.head_start_epochs=1",
        "train.epochs=1",
        "sweep.trials=1",
        "sweep.grace_period=1",
        "sweep.students_per_teacher=1",
        "tracking.wandb.mode=off",
    )
    done = installed("run", "backbones", *(word for text in changes for word in ("--set", text)))
    assert done.returncode == 0, done.stdout + done.stderr
    experiment = (built / "here" / "experiments" / "latest").resolve()
    assert (experiment / "report" / "index.html").is_file()
    # The same that a sweep of the file would leave.
    shipped = ROOT / "search_spaces" / "backbones.yaml"
    assert (experiment / "space.yaml").read_text() == shipped.read_text()
