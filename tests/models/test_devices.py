from __future__ import annotations

import pytest
import torch

from kdsweep.errors import ConfigError
from kdsweep.models import choose_device


@pytest.mark.parametrize(
    ("num_gpus", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (2, "auto", "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_devices_by_name(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, name: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("num_gpus", "name", "said"),
    [(0, "cuda", "no GPU"), (2, "cuda:2", "no GPU"), (2, "bogus", "no such device"), (0, "", "no")],
)
def test_devices_that_are_not_there_are_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, name: str, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(ConfigError, match=said) as caught:
        choose_device(name)
    assert caught.value.path == ("device",)
