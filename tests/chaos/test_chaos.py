"""Drivers that are killed at chosen moments; ``chaos.py`` does the same for hours, by hand."""

from pathlib import Path

import pytest
from chaos import SCENARIOS, Attack

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("name", "seed"), [("controls", 1), ("cohorts", 2), ("storage", 3)])
def test_nothing_is_lost_by_kills(name: str, seed: int, tmp_path: Path) -> None:
    attack = Attack(SCENARIOS[name], tmp_path / name, kills=2, seed=seed)
    assert attack.run() == {}
    assert attack.moments
