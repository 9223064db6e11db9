"""The smallest and the largest of many jobs, by the arithmetic that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from kdsweep.data import FrameCounts, count_frames
from kdsweep.models import inspect_model

if TYPE_CHECKING:
    from kdsweep.config.data import DataConfig
    from kdsweep.config.job import Job
    from kdsweep.config.model import ModelConfig

# Forward and backward pass, against the forward pass alone.
_TRAINED, _RUN = 3, 1


def smallest_and_largest(jobs: Iterable[Job]) -> tuple[Job, Job]:
    """The least and the most that jobs with the sections of these could ask for.

    The smallest job has the smallest student of all of them, on the fewest pixels, and so on; it
    need not be one of them.

    Args:
        jobs: Jobs that together show every section; at least one.
    """
    sizes = _Sizes()
    jobs = list(jobs)
    return _extreme(jobs, sizes, min), _extreme(jobs, sizes, max)


def _extreme(jobs: list[Job], sizes: _Sizes, choose: Callable[..., Job]) -> Job:
    data = choose(jobs, key=lambda job: sizes.pixels(job.data)).data
    with_data = [job.model_copy(update={"data": data}) for job in jobs]
    student = choose(with_data, key=lambda job: sizes.macs(job.student, data)).student
    with_student = (job.model_copy(update={"student": student}) for job in with_data)
    return choose(
        with_student,
        key=lambda job: (sizes.training(job), len(job.distill.terms()), job.train.batch_size),
    )


@dataclass
class _Sizes:
    """Arithmetic of jobs; a network or data set that occurs again is looked at once."""

    _macs: dict[tuple[str, tuple[int, int]], int] = field(default_factory=dict)
    _counts: dict[str, FrameCounts] = field(default_factory=dict)

    def training(self, job: Job) -> float:
        """Multiply-accumulate operations of a whole training, in networks alone."""
        counts, distill = self._frames(job.data), job.distill
        student = self.macs(job.student, job.data)
        teacher = 0 if job.teacher is None else self.macs(job.teacher, job.data)
        taught = {"online": _TRAINED, "ema": _TRAINED + _RUN, "frozen": _RUN}[distill.teacher]
        # Crops cost as much less than whole frames as they have fewer pixels.
        share = math.prod(job.data.train_size) / math.prod(job.data.image_size)
        num_train = share * counts.num_train
        epoch = num_train * (taught * teacher + _TRAINED * student)
        epoch += counts.num_val * _RUN * (teacher + student)
        head_start = distill.head_start_epochs * num_train * _TRAINED * teacher
        return float(job.train.epochs * epoch + head_start)

    def pixels(self, data: DataConfig) -> int:
        """Pixels of an epoch."""
        counts = self._frames(data)
        trained = math.prod(data.train_size) * _TRAINED * counts.num_train
        return trained + math.prod(data.image_size) * _RUN * counts.num_val

    def macs(self, model: ModelConfig, data: DataConfig) -> int:
        """Multiply-accumulate operations of a network on one frame."""
        plain = model.model_copy(update={"encoder_weights": None})
        key = (plain.model_dump_json(), data.image_size)
        if key not in self._macs:
            network = inspect_model(model, 2, data.image_size).eval()
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(torch.zeros((1, *data.image_size, 3), dtype=torch.uint8, device="meta"))
            self._macs[key] = counter.get_total_flops() // 2
        return self._macs[key]

    def _frames(self, data: DataConfig) -> FrameCounts:
        key = data.model_dump_json()
        if key not in self._counts:
            self._counts[key] = count_frames(data)
        return self._counts[key]
