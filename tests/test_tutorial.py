"""The tutorial, as a reader runs it: all its commands in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_its_commands_run_one_after_the_other(tmp_path):
    script = "\n".join(re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(), re.S))
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ex"],
        input=script,
        cwd=tmp_path,
        env={**os.environ, "PATH": commands},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert list((tmp_path / "masks").rglob("*.png"))
    for name in ("index.html", "summary.md", "summary.png"):
        assert list(tmp_path.glob(f"experiments/*-backbones/report/{name}")), name
