from __future__ import annotations

import pytest
import torch
from torch import nn

from kdsweep.training.optimizers import Schedule, build_optimizer


def test_warmup_then_poly() -> None:
    schedule = Schedule("poly", 0.1, epochs=10, warmup_epochs=2)
    assert schedule.at(1.0) == pytest.approx(0.05)
    assert schedule.at(2.0) == pytest.approx(0.1)
    assert schedule.at(6.0) == pytest.approx(0.1 * 0.5**0.9)
    assert schedule.at(10.0) == 0.0


def test_cosine_constant_and_cyclic() -> None:
    cosine = Schedule("cosine", 1.0, epochs=4)
    assert [cosine.at(e) for e in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
    assert Schedule("constant", 0.3, epochs=4).at(3.9) == 0.3
    cyclic = Schedule("cyclic", 0.1, epochs=4)
    assert cyclic.at(0.0) == cyclic.at(1.0) == pytest.approx(1e-3)
    assert cyclic.at(0.5) == cyclic.at(2.5) == pytest.approx(0.1)
    assert cyclic.at(0.25) == pytest.approx((1e-3 + 0.1) / 2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)],
)
def test_norms_and_biases_are_not_decayed(name: str, kind: type) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(name, [module], lr=0.1, weight_decay=0.5, momentum=0.8)
    assert isinstance(optimizer, kind)
    decayed, plain = optimizer.param_groups
    assert decayed["weight_decay"] == 0.5
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert plain["weight_decay"] == 0.0
    assert len(plain["params"]) == 3
