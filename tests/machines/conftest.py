"""What tests of surroundings share."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def _can_make_namespaces():
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    done = subprocess.run(
        ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "true"], capture_output=True
    )
    return done.returncode == 0


@pytest.fixture(scope="session")
def root():
    """Skips where no namespaces can be made."""
    if not _can_make_namespaces():
        pytest.skip("namespaces can be made by root on Linux only")


@pytest.fixture
def place():
    """A folder that every user can write; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="kdsweep-place-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
