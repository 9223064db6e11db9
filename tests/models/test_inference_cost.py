"""What a frame costs: numbers worked out by hand, and a network that is left as it was."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdsweep.models import SegmentationNetwork, build_network, inspect_network
from kdsweep.models.inference_cost import (
    MOST_RUNS,
    EarlierRuns,
    InferenceCost,
    measure_inference,
    static_cost,
)

SIZE = (16, 20)
PIXELS = 16 * 20


class Encoder(nn.Module):
    """A 3×3 convolution without bias, then a ReLU: two maps of 8 channels at one time."""

    out_channels = (3, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.conv(x).relu()]


class Decoder(nn.Module):
    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return features[-1]


def made_by_hand() -> SegmentationNetwork:
    model = nn.Module()
    model.encoder, model.decoder = Encoder(), Decoder()
    model.segmentation_head = nn.Sequential(nn.Conv2d(8, 2, 1))
    return SegmentationNetwork(model, 2)


def test_macs_and_memory_are_those_worked_out_by_hand() -> None:
    cost = measure_inference(made_by_hand(), SIZE)
    # Each output value of a convolution takes one product per input channel and kernel cell.
    assert cost.macs_g == pytest.approx(PIXELS * (8 * 3 * 9 + 2 * 8) / 1e9, rel=1e-3)
    weights = 4 * (8 * 3 * 9 + 2 * 8 + 2)
    normalization = 4 * (3 + 3)
    pixels, image, features = 3 * PIXELS, 4 * 3 * PIXELS, 4 * 8 * PIXELS
    # Fullest while the ReLU writes: pixels, image, and the features before and after it.
    expected = weights + normalization + pixels + image + 2 * features
    assert cost.inference_mb == pytest.approx(expected / 1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("arch", "encoder"), [("deeplabv3plus", "resnet18"), ("segformer", "mit_b0")]
)
def test_real_networks_can_be_measured(arch: str, encoder: str) -> None:
    network = build_network(arch, encoder, 3)
    cost = measure_inference(network, (64, 64))
    assert cost.macs_g > 0.01
    assert 0 < cost.latency_ms <= cost.latency_p95_ms
    assert cost.inference_mb > 4 * network.num_parameters() / 1e6


def test_the_network_and_all_random_streams_are_left_as_they_were() -> None:
    network = build_network("unet", "efficientnet-b0", 3)  # drops paths and has batch norm
    network.train()
    network.model.encoder.eval()
    modes = [module.training for module in network.modules()]
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    network(frames).logits_BKHW.sum().backward()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    random = torch.get_rng_state()
    measure_inference(network, (64, 64))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    after = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(gradients) == len(after) > 0
    assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_that_is_compiled_is_not_compiled_for_single_frames() -> None:
    """Else the training's own batches would be compiled anew, for sizes that vary."""
    network, compiled = made_by_hand(), []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        compiled.append(graph)
        return graph.forward

    network.compile(backend=backend)
    measure_inference(network, SIZE)
    assert compiled == []


def test_lower_precision_halves_the_activations() -> None:
    plain = measure_inference(made_by_hand(), SIZE)
    lower = measure_inference(
        made_by_hand(), SIZE, precision=lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    )
    assert lower.inference_mb < plain.inference_mb
    assert lower.macs_g == plain.macs_g


@pytest.mark.parametrize(("seconds", "runs"), [(0.0005, MOST_RUNS), (0.4, 3)])
def test_slow_networks_run_less_often(
    seconds: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the network's own: a busy machine changes nothing."""
    now = [0.0]
    monkeypatch.setattr(
        "kdsweep.models.inference_cost.time", SimpleNamespace(perf_counter=lambda: now[0])
    )
    network = made_by_hand()
    plain, calls = network.forward, []

    def forward(images: torch.Tensor) -> object:
        calls.append(images.shape)
        now[0] += seconds * (2 if len(calls) % 10 == 0 else 1)
        return plain(images)

    monkeypatch.setattr(network, "forward", forward)
    cost = measure_inference(network, SIZE)
    assert isinstance(cost, InferenceCost)
    assert set(calls) == {(1, *SIZE, 3)}
    assert cost.num_runs == runs
    assert cost.latency_ms == pytest.approx(1e3 * seconds)
    assert cost.num_threads == torch.get_num_threads()
    if runs == MOST_RUNS:
        assert cost.latency_p95_ms == pytest.approx(2e3 * seconds)  # each tenth run takes as long
        assert len(calls) <= MOST_RUNS + 8
    else:
        assert len(calls) <= 6


def test_a_network_that_is_known_takes_a_few_runs_that_count_with_the_earlier_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, step = [0.0], [0.02]
    monkeypatch.setattr(
        "kdsweep.models.inference_cost.time", SimpleNamespace(perf_counter=lambda: now[0])
    )
    earlier, calls = EarlierRuns(), []

    def measured() -> InferenceCost:
        network = made_by_hand()
        plain = network.forward

        def forward(images: torch.Tensor) -> object:
            calls.append(1)
            now[0] += step[0]
            return plain(images)

        monkeypatch.setattr(network, "forward", forward)
        return measure_inference(network, SIZE, earlier=earlier)

    first, num_first = measured(), len(calls)
    step[0] = 0.04
    second, num_second = measured(), len(calls) - num_first
    assert num_second < num_first / 3
    assert (second.macs_g, second.inference_mb) == (first.macs_g, first.inference_mb)
    assert first.num_runs < second.num_runs <= MOST_RUNS
    assert second.latency_ms == pytest.approx(20)
    assert second.latency_p95_ms == pytest.approx(40)
    for _ in range(9):  # what is long ago counts no more
        latest = measured()
    assert latest.latency_ms == pytest.approx(40)
    assert latest.num_runs == MOST_RUNS


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [("unet", "mobilenet_v2"), ("fpn", "resnet18"), ("segformer", "mit_b0")],
)
def test_what_the_architecture_decides_is_known_without_memory_or_weights(arch, encoder) -> None:
    size = (64, 96)
    network = build_network(arch, encoder, 5)
    measured = measure_inference(network, size)
    known = static_cost(inspect_network(arch, encoder, 5), size)
    assert known == {"params_m": network.num_parameters() / 1e6, "macs_g": measured.macs_g}
