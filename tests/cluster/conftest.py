"""Hosts for each test, and what is left of them removed."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hosts import NETWORK, TESTS, Host, remove_bridge, why_not

SPACE: dict[str, Any] = {
    "name": "hosts",
    "data": {"source": "roadscenes", "image_size": [32, 32]},
    "teacher": {"encoder": "resnet34", "options": {"seconds": 0.2}},
    "student": {"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
    "distill": {"pixel_kl": {"weight": {"min": 0.1, "max": 10.0}}},
    "train": {"epochs": 4},
    "sweep": {"trials": 4, "scheduler": "none", "controls": "none"},
    "tracking": {"wandb": {"mode": "off"}},
}


@pytest.fixture(scope="session")
def _bridge() -> Iterator[None]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    yield
    remove_bridge()


@pytest.fixture
def host(_bridge: None) -> Iterator[Callable[..., Host]]:
    """Makes hosts."""
    made: list[Host] = []

    def make(number: int, *private: Path, **env: str) -> Host:
        made.append(Host(number, private, env))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def experiments() -> Iterator[Path]:
    """A folder of experiments that is not below ``/tmp``, of which hosts may have their own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as root:
        folder = Path(root) / "experiments"
        folder.mkdir()
        yield folder


@pytest.fixture
def sweep(experiments: Path) -> Callable[..., Any]:
    """Starts a sweep of made-up trainings on a host; returns its process."""

    def start(driver: Host, head: Host, arguments: Sequence[str] = (), **sections: Any) -> Any:
        tree = {k: v | sections.get(k, {}) if isinstance(v, dict) else v for k, v in SPACE.items()}
        space = experiments.parent / "space.json"
        space.write_text(json.dumps(tree))
        script = TESTS / "sweep" / "sweep_process.py"
        address = f'address="{head.address}:6379"'
        return driver.start(
            *(sys.executable, str(script), "run", str(experiments), str(space), address),
            *arguments,
        )

    assert NETWORK
    return start
