"""Networks that ``torch.compile`` compiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import make_job
from torch import nn
from torch._dynamo.backends.registry import lookup_backend

from kdsweep.config import Job
from kdsweep.data import open_data
from kdsweep.errors import ConfigError
from kdsweep.ledger import TrialFolder
from kdsweep.models import SegmentationNetwork, build_network
from kdsweep.training.report import EpochReport
from kdsweep.trial import build_cohort, check_job, compiling, run_job
from kdsweep.trial.compiling import choose_compilation

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MUTUAL = {"mutual": {"weight": 1.0}}


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path) -> Callable[..., Job]:
    def make(compile: bool | str = True, distill: Any = None, **train: Any) -> Job:
        # Four frames at a time: two batches an epoch, and four validation frames in a batch of 8.
        train = {"epochs": 2, "batch_size": 4, "compile": compile, **train}
        terms = {"pixel_kl": {}, "hint": {"taps": ["encoder.2"]}} if distill is None else distill
        return make_job(tiny_data, tmp_path, train=train, distill=terms)

    return make


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Frames of each batch that something was compiled for; no kernels are generated."""
    real, backend, found = torch.compile, lookup_backend("aot_eager"), []

    def counting(graph: Any, inputs: Any) -> Any:
        found.extend(len(x) for x in inputs if getattr(x, "dtype", None) == torch.uint8)
        return backend(graph, inputs)

    def stand_in(function: Any, *, mode: str, dynamic: bool) -> Any:
        return real(function, backend=counting, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", stand_in)
    torch.compiler.reset()
    yield found
    torch.compiler.reset()


def train(job: Job, folder: Path) -> list[EpochReport]:
    return list(run_job(job, TrialFolder(folder).create(), device="cpu"))


def assert_close(ours: EpochReport, theirs: EpochReport) -> None:
    for key, value in theirs.metrics.items():
        if "loss" in key or "distill" in key or "grad_share" in key:
            assert ours.metrics[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize(
    ("mode", "device", "settings", "chosen"),
    [
        (False, CUDA, {}, (None, False)),
        (True, CUDA, {}, ("default", False)),
        ("default", CPU, {}, ("default", False)),
        ("reduce-overhead", CUDA, {}, ("reduce-overhead", True)),
        ("max-autotune", CUDA, {}, ("max-autotune", True)),
    ],
)
def test_what_a_job_asks_for(
    job: Callable[..., Job],
    caplog: pytest.LogCaptureFixture,
    mode: bool | str,
    device: torch.device,
    settings: Any,
    chosen: tuple[str | None, bool],
) -> None:
    found = choose_compilation([job(mode, **settings)], device)
    assert (found.mode, found.cuda_graphs) == chosen
    assert not caplog.records


@pytest.mark.parametrize(
    ("device", "settings", "reason"),
    [
        (CPU, {}, "on a CPU"),
        (CUDA, {"accumulate": 2}, "accumulate"),
        (CUDA, {"distill": MUTUAL}, "mutual"),
    ],
)
def test_cuda_graphs_are_left_out_where_they_cannot_be(
    job: Callable[..., Job],
    caplog: pytest.LogCaptureFixture,
    device: torch.device,
    settings: Any,
    reason: str,
) -> None:
    for mode, left in (
        ("reduce-overhead", "default"),
        ("max-autotune", "max-autotune-no-cudagraphs"),
    ):
        caplog.clear()
        found = choose_compilation([job(mode, **settings)], device)
        assert (found.mode, found.cuda_graphs) == (left, False)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert reason in record.message
        assert mode in record.message


def test_torch_knows_the_modes() -> None:
    modes = {"default", "reduce-overhead", "max-autotune", *compiling._WITHOUT_GRAPHS.values()}
    for mode in modes:
        options = torch._inductor.list_mode_options(mode)
        graphs = options.get("triton.cudagraphs", False)
        assert graphs == (mode in compiling._WITHOUT_GRAPHS)


def test_a_machine_without_a_compiler_refuses_the_job(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    check_job(job(compile=False))
    with pytest.raises(ConfigError, match="C\\+\\+ compiler") as caught:
        check_job(job("reduce-overhead"))
    assert caught.value.path == ("train", "compile")


@pytest.mark.slow
def test_compiled_networks_learn_the_same_and_are_compiled_once(
    job: Callable[..., Job], compiled: list[int], tmp_path: Path
) -> None:
    plain = train(job(compile=False), tmp_path / "plain")
    assert compiled == []
    ours = train(job(), tmp_path / "compiled")
    # Teacher and student, for batches of training and for the four validation frames.
    assert sorted(compiled) == [4, 4, 4, 4]
    for report, reference in zip(ours, plain, strict=True):
        assert_close(report, reference)
        assert report.metrics["student/miou"] == pytest.approx(
            reference.metrics["student/miou"], abs=0.02
        )
    # The next trial of the worker finds everything compiled.
    compiled.clear()
    again = train(job(lr=1e-2), tmp_path / "again")
    assert compiled == []
    assert again[0].metrics["student/loss"] != ours[0].metrics["student/loss"]


@pytest.mark.slow
def test_a_smaller_last_batch_is_compiled_once(
    job: Callable[..., Job], compiled: list[int], tmp_path: Path
) -> None:
    """Four validation frames in batches of three: three, then one."""
    cohort = build_cohort([job()], open_data(job().data))
    engine = cohort.engine
    loader = engine._validation
    engine._validation = [
        tuple(part[rows] for part in batch)
        for batch in loader
        for rows in (slice(0, 3), slice(3, None))
    ]
    epochs = engine.epochs()
    next(epochs)
    assert sorted(compiled) == [1, 1, 3, 3, 4, 4]
    compiled.clear()
    next(epochs)
    assert compiled == []
    cohort.close()


@pytest.mark.slow
def test_students_of_a_cohort_share_what_is_compiled(
    job: Callable[..., Job], compiled: list[int]
) -> None:
    first, second = (
        job(),
        job(distill={"pixel_kl": {"weight": 2.0}, "hint": {"taps": ["encoder.2"]}}),
    )
    cohort = build_cohort([first, second], open_data(first.data))
    reports = next(cohort.engine.epochs())
    assert sorted(compiled) == [4, 4, 4, 4]
    alone = next(build_cohort([second], open_data(first.data)).engine.epochs())[0]
    assert isinstance(alone, EpochReport)
    assert isinstance(reports[1], EpochReport)
    assert reports[1].metrics["student/loss"] == alone.metrics["student/loss"]


@pytest.mark.slow
def test_a_compiled_training_goes_on_where_it_ended(
    job: Callable[..., Job], compiled: list[int], tmp_path: Path
) -> None:
    whole = train(job(), tmp_path / "whole")
    folder = TrialFolder(tmp_path / "halves").create()
    begun = run_job(job(), folder, device="cpu")
    next(begun)
    begun.close()
    torch.compiler.reset()  # as in a new process
    repeated, last = run_job(job(), folder, device="cpu")
    assert repeated.metrics["student/loss"] == whole[0].metrics["student/loss"]
    assert_close(last, whole[1])


def test_all_is_dropped_before_torch_would_give_up(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    resets = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(compiling._num_compiled))
    monkeypatch.setattr(compiling, "_num_compiled", 0)
    network = build_network("unet", "resnet18", 2)
    for _ in range(100):
        compilation = choose_compilation([job()], CPU)
        for _ in range(3):
            compilation.apply(network)
        assert compiling._num_compiled * compiling._VARIANTS <= compiling._MOST_VARIANTS
        assert torch._dynamo.config.recompile_limit >= compiling._MOST_VARIANTS
    # Not for each cohort, or none would find anything compiled.
    assert 1 < len(resets) <= 15


def test_what_a_replayed_pass_would_overwrite_is_copied(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each network's pass writes over what all passes before it gave, as CUDA graphs may."""
    data = open_data(job().data)

    def losses(overwrites: bool) -> list[float]:
        compilation = compiling.Compilation(None, cuda_graphs=overwrites)
        monkeypatch.setattr("kdsweep.trial.cohort.choose_compilation", lambda *_: compilation)
        engine = build_cohort([job(False), job(False, distill={"pixel_kl": {}})], data).engine
        if overwrites:
            given: list[torch.Tensor] = []
            networks = [engine.teacher.network, *(s.network for s in engine.students)]

            def overwrite(*_: Any) -> None:
                with torch.no_grad():
                    for tensor in given:
                        tensor.data = torch.full_like(tensor, torch.nan)
                given.clear()

            def note(_: Any, __: Any, output: Any) -> None:
                given.extend([output.logits_BKHW, *output.taps.values()])

            for network in networks:
                network.register_forward_pre_hook(overwrite)
                network.register_forward_hook(note)
        return [r.metrics["student/loss"] for r in next(engine.epochs())]

    assert losses(overwrites=True) == losses(overwrites=False)


class Layers(nn.Module):
    """As little as has all that matters: strides, batch norm, taps."""

    out_channels = (3, 8)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.layers(x)]


class Last(nn.Module):
    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return features[-1]


def small_network() -> SegmentationNetwork:
    torch.manual_seed(0)
    model: Any = nn.Module()
    model.encoder, model.decoder = Layers(), Last()
    model.segmentation_head = nn.Sequential(nn.Conv2d(8, 3, 1))
    return SegmentationNetwork(model, 3, taps=["encoder.0"]).to(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_generated_kernels_give_the_same_values_and_gradients() -> None:
    torch.compiler.reset()
    plain, ours = small_network(), small_network()
    compiling.Compilation("default", cuda_graphs=False).apply(ours)
    torch._functorch.config.donated_buffer = False
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    for network in (plain, ours):
        found = network(images)
        found.taps["encoder.0"].square().mean().backward(retain_graph=True)
        found.logits_BKHW.square().mean().backward()
    for (name, theirs), (_, mine) in zip(
        plain.named_parameters(), ours.named_parameters(), strict=True
    ):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)
    for frames in (4, 1):
        with torch.no_grad():
            theirs, mine = (n.eval()(images[:frames]).logits_BKHW for n in (plain, ours))
        torch.testing.assert_close(mine, theirs)
    torch.compiler.reset()
