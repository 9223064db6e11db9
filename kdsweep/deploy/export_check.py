"""What an exported student does on validation frames, beside the student as it was trained.

Shape legend: N frames, H W image size, K classes, R resamples.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from kdsweep.data import Split
from kdsweep.deploy.bootstrap import Estimate, estimate, resample
from kdsweep.deploy.frame_counts import class_ious, confusion, mean_of_defined, weighted_sums
from kdsweep.deploy.model import DeployedModel
from kdsweep.deploy.onnx_writing import OPSET
from kdsweep.deploy.torch_model import TorchModel
from kdsweep.models.inference_cost import device_name, timed_runs
from kdsweep.plain_text import counted

MOST_FRAMES = 500


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        format: ``onnx``, ``int8`` or ``torch``.
        file_mb: Size of the model's file, in 10⁶ bytes.
        fixed_size: Why the graph takes one image size only; ``None`` if it takes others.
    """

    format: str
    file_mb: float
    fixed_size: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        found: dict[str, Any] = {"format": self.format, "file_mb": round(self.file_mb, 3)}
        if self.format != "torch":
            found |= {"opset": OPSET, "fixed_size": self.fixed_size}
        return found


@dataclass(frozen=True)
class Latency:
    """Time of one frame, from pixels in memory to class ids in memory.

    Attributes:
        p50_ms, p95_ms: Median and 95th percentile of the runs.
        num_runs: Timed runs, after warm-up.
        num_threads: CPU threads.
        device: Name of the processor.
    """

    p50_ms: float
    p95_ms: float
    num_runs: int
    num_threads: int
    device: str

    @property
    def place(self) -> str:
        """The threads and the processor."""
        return f"{counted(self.num_threads, 'thread')} of {self.device}"


@dataclass(frozen=True)
class ExportCheck:
    """What was found.

    Attributes:
        num_frames: Validation frames that were compared.
        params_m: Millions of parameters.
        agreement: Share of all their pixels where both give the same class.
        miou_before: mIoU of the student in PyTorch, float32, with its interval over frames.
        miou: mIoU of the exported student.
        ious: IoU of each class of the exported student; NaN where a class is nowhere.
        latency_before: In PyTorch.
        latency: Of the exported student.
        runtime: What ran it.
    """

    num_frames: int
    params_m: float
    agreement: float
    miou_before: Estimate
    miou: Estimate
    ious: tuple[Estimate, ...]
    latency_before: Latency
    latency: Latency
    runtime: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def points_lost(self) -> float:
        """By how many points of mIoU (per cent) the export is worse."""
        return 100 * (self.miou_before.value - self.miou.value)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        found = asdict(self)
        found["miou_before"], found["miou"] = self.miou_before.to_json(), self.miou.to_json()
        found["ious"] = [iou.to_json() for iou in self.ious]
        return found


def compare(
    reference: TorchModel,
    exported: DeployedModel,
    split: Split,
    *,
    num_threads: int,
    runtime: str,
    versions: dict[str, str],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> ExportCheck:
    """Run both on validation frames, and time both.

    Args:
        reference: The student in PyTorch.
        exported: The exported student, with as many threads.
        split: The validation split; at most :data:`MOST_FRAMES` of it, spread evenly.
        num_threads: Threads that both run with.
        runtime: Name of what runs the exported student.
        versions: Versions of what ran.
        advance: Called with frames done and frames in all.
    """
    count = min(MOST_FRAMES, len(split))
    frames = np.linspace(0, len(split) - 1, count).round().astype(int)
    classes = reference.card.classes
    num_equal = num_pixels = 0
    before: list[np.ndarray] = []
    after: list[np.ndarray] = []
    for done, frame in enumerate(frames, 1):
        image_1HWC = np.ascontiguousarray(split.images_NHWC[frame][None])
        labels_HW = np.asarray(split.labels_NHW[frame])
        wanted_HW = reference.class_ids(image_1HWC)[0]
        found_HW = exported.class_ids(image_1HWC)[0]
        num_equal += int((wanted_HW == found_HW).sum())
        num_pixels += wanted_HW.size
        before.append(confusion(labels_HW, wanted_HW, len(classes)))
        after.append(confusion(labels_HW, found_HW, len(classes)))
        advance(done, count)
    latency_before, latency = _latencies((reference, exported), image_1HWC, num_threads)
    weights_RN = resample(count)
    before_RK, after_RK = (class_ious(weighted_sums(c, weights_RN)) for c in (before, after))
    return ExportCheck(
        num_frames=count,
        params_m=sum(p.numel() for p in reference.network.parameters()) / 1e6,
        agreement=num_equal / num_pixels,
        miou_before=estimate(mean_of_defined(before_RK), count),
        miou=estimate(mean_of_defined(after_RK), count),
        ious=tuple(estimate(iou_R, count) for iou_R in after_RK.T),
        latency_before=latency_before,
        latency=latency,
        runtime=runtime,
        versions=versions,
    )


def _latencies(
    models: Sequence[DeployedModel], image_1HWC: np.ndarray, num_threads: int
) -> list[Latency]:
    """Times of single frames, in turns there and back: what else the machine does changes."""
    device = torch.device("cpu")
    milliseconds: dict[int, list[float]] = {place: [] for place in range(len(models))}
    for place in (*milliseconds, *reversed(milliseconds)):
        seconds = timed_runs(partial(models[place].class_ids, image_1HWC), device)
        milliseconds[place] += [1e3 * s for s in seconds]
    found = []
    for runs in milliseconds.values():
        p50, p95 = np.percentile(runs, [50, 95])
        found.append(
            Latency(
                p50_ms=float(f"{p50:.4g}"),
                p95_ms=float(f"{p95:.4g}"),
                num_runs=len(runs),
                num_threads=num_threads,
                device=f"{device_name(device)} ({platform.machine()})",
            )
        )
    return found
