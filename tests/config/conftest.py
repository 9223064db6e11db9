"""What the tests of jobs and spaces share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from drawing import JOB, SPACE

from kdsweep.config import load_space
from kdsweep.errors import ConfigError


@pytest.fixture
def job() -> dict[str, Any]:
    """A valid job, to be changed at will."""
    return copy.deepcopy(JOB)


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The error text for the small space with one piece of text replaced by another."""
    monkeypatch.chdir(tmp_path)

    def text(
        old: str = "",
        new: str = "",
        overrides: Sequence[str] = (),
        data: Sequence[str] = (),
        load: Callable[..., Any] = load_space,
    ) -> str:
        assert old in SPACE
        Path("space.yaml").write_text(SPACE.replace(old, new, 1) if old else SPACE)
        with pytest.raises(ConfigError) as caught:
            load("space.yaml", overrides, data)
        return str(caught.value)

    return text
