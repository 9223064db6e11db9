"""What one frame costs a network at inference, measured on the machine at hand.

Shape legend: H W image size.
"""

from __future__ import annotations

import platform
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kdsweep.models.network import SegmentationNetwork

MOST_RUNS = 50
_LEAST_RUNS = 3
_WARM_UP_RUNS = 5
_SECONDS = 0.8  # for warm-up and timed runs
_WARM_UP_SHARE = 0.3
_SHARE_AGAIN = 0.25  # of the seconds, where runs of a network that is built alike are known
_DIGITS = 4


@dataclass(frozen=True)
class InferenceCost:
    """What one frame costs.

    Attributes:
        macs_g: Billions of multiply-accumulate operations of convolutions, matrix products and
            attention; what is done value by value is not counted.
        latency_ms: Median time of a run.
        latency_p95_ms: Time that 95 % of the runs do not exceed.
        inference_mb: Weights, buffers and the most that activations take at one time, in megabytes
            (10⁶ bytes).
        num_runs: Timed runs.
        device: Where it ran.
        num_threads: CPU threads of PyTorch.
    """

    macs_g: float
    latency_ms: float
    latency_p95_ms: float
    inference_mb: float
    num_runs: int
    device: str
    num_threads: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass
class EarlierRuns:
    """What a process knows of networks that are built alike, under the same conditions.

    Attributes:
        macs_g: As in :class:`InferenceCost`.
        peak: Bytes of the network and the most that activations take.
        seconds: The latest timed runs.
    """

    macs_g: float = 0.0
    peak: int = 0
    seconds: list[float] = field(default_factory=list)


def measure_inference(
    network: SegmentationNetwork,
    image_size: tuple[int, int],
    *,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    earlier: EarlierRuns | None = None,
    share: float = 1.0,
) -> InferenceCost:
    """Measure a network on single frames, from uint8 pixels to logits, where it is.

    Latency is wall-clock time with the pixels on the device already. It is that of a machine which
    does whatever else it does: beside other trainings networks are slower than alone, and only
    numbers taken under the same load compare well. A network that training compiles is measured
    as it was written.

    It takes about a second, or six runs where these are slower. Where earlier runs are known, it
    takes a quarter of that, and the latest runs count together, old ones and new. The network's
    weights, running statistics, gradients and mode, and all random states, are left as they were.

    Args:
        network: The network.
        image_size: H and W.
        precision: Context of the forward pass.
        earlier: What is known; grows.
        share: Part of the usual time to take.
    """
    known = EarlierRuns() if earlier is None else earlier
    device = next(network.parameters()).device
    # Pixels that vary, from a stream of their own.
    generator = torch.Generator().manual_seed(0)
    pixels_1HWC = torch.randint(0, 256, (1, *image_size, 3), generator=generator).to(torch.uint8)
    pixels_1HWC = pixels_1HWC.to(device)

    def run() -> None:
        # Not called through the module: that would start a compilation for single frames.
        network.forward(pixels_1HWC)

    with _evaluating(network), torch.no_grad(), precision():
        is_first = not known.seconds
        if is_first:
            # Loads kernels too, which may take memory that a later run does not.
            known.macs_g = _count_macs(run)
            known.peak = _peak_bytes(run, network, pixels_1HWC)
        found = timed_runs(run, device, share * (1.0 if is_first else _SHARE_AGAIN))
    known.seconds = seconds = [*known.seconds, *found][-MOST_RUNS:]
    return InferenceCost(
        macs_g=known.macs_g,
        latency_ms=_rounded(1e3 * _quantile(seconds, 0.5)),
        latency_p95_ms=_rounded(1e3 * _quantile(seconds, 0.95)),
        inference_mb=_rounded(known.peak / 1e6),
        num_runs=len(seconds),
        device=device_name(device),
        num_threads=torch.get_num_threads(),
    )


def static_cost(network: SegmentationNetwork, image_size: tuple[int, int]) -> dict[str, float]:
    """Return what the architecture alone decides: ``params_m`` and ``macs_g`` as reports have them.

    Args:
        network: The network; without memory (on the device ``meta``) it costs no arithmetic.
        image_size: H and W.
    """
    device = next(network.parameters()).device
    pixels_1HWC = torch.zeros((1, *image_size, 3), dtype=torch.uint8, device=device)
    with _evaluating(network), torch.no_grad():
        macs_g = _count_macs(lambda: network.forward(pixels_1HWC))
    return {"params_m": network.num_parameters() / 1e6, "macs_g": macs_g}


def _count_macs(run: Callable[[], object]) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return _rounded(counter.get_total_flops() / 2e9)


def device_name(device: torch.device) -> str:
    """A device as people know it: the name of the GPU, or of the processor."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "CPU"


def timed_runs(run: Callable[[], object], device: torch.device, share: float = 1.0) -> list[float]:
    """Seconds of each run, after warm-up, as many as there is time for, or a share of it."""

    def once() -> float:
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    started = time.perf_counter()
    for _ in range(_WARM_UP_RUNS):
        once()
        if time.perf_counter() > started + _WARM_UP_SHARE * share * _SECONDS:
            break
    seconds: list[float] = []
    while len(seconds) < MOST_RUNS:
        if len(seconds) >= _LEAST_RUNS and time.perf_counter() > started + share * _SECONDS:
            break
        seconds.append(once())
    return seconds


def _peak_bytes(run: Callable[[], None], network: nn.Module, pixels: torch.Tensor) -> int:
    """The network, its input, and the most that a run holds besides them."""
    own = {t.untyped_storage() for t in (*network.parameters(), *network.buffers(), pixels)}
    static = sum(storage.nbytes() for storage in own)
    if pixels.device.type == "cuda":
        # With the work space of the kernels, which the allocator gives them.
        torch.cuda.synchronize(pixels.device)
        torch.cuda.reset_peak_memory_stats(pixels.device)
        before = torch.cuda.memory_allocated(pixels.device)
        run()
        torch.cuda.synchronize(pixels.device)
        return static + torch.cuda.max_memory_allocated(pixels.device) - before
    with _LiveBytes() as live:
        run()
    return static + live.peak


class _LiveBytes(TorchDispatchMode):
    """Follows the memory of all tensors that operations return; not what kernels use inside."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._alive: dict[int, weakref.finalize[..., Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
        for tensor in tree_leaves(result):
            if _is_tensor(tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in given:  # else a view, or written in place
                    self._hold(storage)
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return
        self._now += size
        self.peak = max(self.peak, self._now)
        self._alive[key] = weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._now -= size
        self._alive.pop(key, None)


@contextmanager
def _evaluating(network: nn.Module) -> Any:
    """Evaluation mode, and afterwards each module's own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _quantile(values: list[float], share: float) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(share))


def _rounded(value: float) -> float:
    """To so many significant digits: more are noise, and every epoch's line repeats them."""
    return float(f"{value:.{_DIGITS}g}")
