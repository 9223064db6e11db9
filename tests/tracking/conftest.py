from pathlib import Path

import pytest
from runs import use_home_without_account


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without an account, whatever the machine's user has; returns it."""
    return use_home_without_account(monkeypatch, tmp_path / "home")
