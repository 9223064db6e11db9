"""What the tests of the data room share."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache folder."""
    return tmp_path / "cache"


@pytest.fixture
def real_lyft() -> Path:
    """Real Lyft frames."""
    return _real("lyft")


@pytest.fixture
def real_camvid() -> Path:
    """Real CamVid photographs."""
    return _real("camvid")


def _real(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real {name} data is not in {folder}")
    return folder
