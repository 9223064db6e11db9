"""What is loaded when, and what every module needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "ray",
    "pandas",
    "wandb",
    "albumentations",
    "segmentation_models_pytorch",
    "optuna",
    "tensorboardX",
    "mlflow",
}


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import kdsweep",
        "import kdsweep.cli",
        "import kdsweep.config, kdsweep.ledger, kdsweep.errors, kdsweep.registry",
        "import kdsweep.tracking, kdsweep.sweep, kdsweep.training.report",
        "import kdsweep.deploy, kdsweep.deploy.predicting, kdsweep.deploy.export_display",
        "import kdsweep.sweep.preview, kdsweep.sweep.cohort_size, kdsweep.training.step_cost",
        "import runpy, contextlib, io\n"
        "sys.argv = ['kdsweep', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    from kdsweep.cli import main; main()",
    ],
)
def test_nothing_heavy_is_loaded_early(code: str) -> None:
    assert not HEAVY & loaded_by(code)


def test_the_trainer_does_not_need_ray() -> None:
    names = loaded_by("import kdsweep.trial")
    assert "torch" in names
    # timm would load wandb, which takes over the process's output.
    assert not {"ray", "optuna", "wandb", "albumentations"} & names


def test_the_report_does_not_need_torch_or_ray() -> None:
    assert not {"torch", "ray", "wandb"} & loaded_by("import kdsweep.reporting")
