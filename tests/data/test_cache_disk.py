"""A disk that fills up while frames are decoded into the cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import make_data
import pytest

# Its progress is called after the first frames; by then the disk gets full.
BUILD = """
import sys
from kdsweep.config.data import LyftData
from kdsweep.config.splits import HoldoutConfig
from kdsweep.data import open_data
from kdsweep.errors import DataError

def fill(step, done, total):
    with open("disk/ballast", "ab", buffering=0) as file:
        try:
            while file.write(bytes(100_000)):
                pass
        except OSError:
            pass

split = HoldoutConfig(val=0.5, block=1)
config = LyftData(source="lyft", path="data", image_size=(512, 768), split=split,
                  cache="disk/cache")
try:
    open_data(config, progress=fill)
except DataError as error:
    print(error)
    sys.exit(2)
"""
SCRIPT = """
mount -t tmpfs -o size=100m disk disk || exit 9
"$PYTHON" build.py; code=$?; ls disk/cache/frames; exit $code
"""


def test_it_is_one_clear_error(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("disks can be mounted by root on Linux only")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    (tmp_path / "disk").mkdir()
    (tmp_path / "build.py").write_text(BUILD)
    make_data.lyft_part(tmp_path / "data" / "dataA", [f"02_00_{i}" for i in range(80)])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "the decode cache cannot be written: the disk is full" in done.stdout
    assert "draft" not in done.stdout
