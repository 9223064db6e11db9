"""The sum of a student's terms: ramps, the gate, and names."""

from __future__ import annotations

import pytest
import torch

from kdsweep.distill import Ramp, TapChannels, build_objective
from kdsweep.distill.gate import LeadGate
from kdsweep.errors import ConfigError


def test_weights_follow_their_ramps() -> None:
    channels = TapChannels({"logits": 4}, {"logits": 4})
    terms = {"pixel_kl": {"weight": 2.0, "temperature": 1.0}}
    objective = build_objective(terms, channels, ramps={"pixel_kl": Ramp(warmup_epochs=2)})
    assert [objective.factors(e)["pixel_kl"] for e in (0, 0.5, 1, 2, 5)] == [0, 0.5, 1, 2, 2]
    assert build_objective(terms, channels).factors(0.0) == {"pixel_kl": 2.0}


def test_ramps() -> None:
    assert [Ramp("cosine", 2.0).at(e) for e in (0, 1, 2, 9)] == [0.0, pytest.approx(0.5), 1, 1]
    assert [Ramp("constant", 2.0).at(e) for e in (0, 9)] == [1, 1]
    assert [Ramp("linear", 2.0, 3.0).at(e) for e in (1, 2.5, 3, 9)] == [0.5, 1, 0, 0]


def test_the_gate_opens_with_the_lead_of_the_teacher() -> None:
    gate = LeadGate()
    losses = [(1.0, 1.2), (1.0, 1.0), (1.0, 0.95), (1.0, 0.5)]
    fresh = [float(LeadGate()(torch.tensor(s), torch.tensor(t))) for s, t in losses]
    assert fresh == pytest.approx([0, 0, 0.5, 1], abs=1e-5)
    for _ in range(200):
        value = gate(torch.tensor(2.0), torch.tensor(1.9))
    assert float(value) == pytest.approx(0.5, abs=1e-3)
    before = float(gate(torch.tensor(2.0), torch.tensor(4.0)))  # one bad batch does not close it
    assert 0 < before < 0.5
    # Means of two steps, the last with a weight of 1/50: 0.98 · (1, 0.95) + (1, 1).
    gate_of_two = LeadGate()
    gate_of_two(torch.tensor(1.0), torch.tensor(0.95))
    value = gate_of_two(torch.tensor(1.0), torch.tensor(1.0))
    assert float(value) == pytest.approx(10 * 0.98 * 0.05 / 1.98, rel=5e-5)
    again = LeadGate()
    again.load_state_dict(gate.state_dict())
    assert torch.equal(
        again(torch.tensor(1.0), torch.tensor(0.9)), gate(*map(torch.tensor, (1.0, 0.9)))
    )


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown distillation loss") as caught:
        build_objective({"pixel_kll": {"weight": 1}}, TapChannels({}, {}))
    assert str(caught.value).split("allowed: ")[1].startswith("pixel_kl")
