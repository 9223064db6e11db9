"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Set before anything imports them: no version check over the network, no usage reports.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("WANDB_MODE", "offline")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames whose class is written in their colour."""
    from tiny_job import write_data

    return write_data(tmp_path_factory.mktemp("tiny"))
