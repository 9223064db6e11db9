"""Drivers that are killed at chosen moments; ``chaos.py`` does the same for hours, by hand."""

from pathlib import Path

import pytest
from chaos import SCENARIOS, Attack
from soak import Soak

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("name", "seed"), [("controls", 1), ("cohorts", 2), ("storage", 3)])
def test_nothing_is_lost_by_kills(name: str, seed: int, tmp_path: Path) -> None:
    attack = Attack(SCENARIOS[name], tmp_path / name, kills=2, seed=seed)
    assert attack.run() == {}
    assert attack.moments


def test_the_soak_runs_and_finds_nothing(tmp_path: Path) -> None:
    soak = Soak(tmp_path / "soak", trials=10, every=20.0, seed=1)
    soak.run()
    assert soak.wrong() == {}
    assert len(soak.table(parts=2).splitlines()) == 3
