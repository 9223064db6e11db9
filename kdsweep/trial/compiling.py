"""Compiling a cohort's networks with ``torch.compile``.

What compiled networks share with each other, and over the trials of a worker, is process-wide in
torch: code compiled for one network serves the next one that is built alike. That saves a sweep
most of its warm-ups, and it is why the number of variants is watched here.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.models import SegmentationNetwork

_LOGGER = logging.getLogger(__name__)
# The modes with CUDA graphs, and what is left of each without them.
_WITHOUT_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
# Variants of one network: training, a batch without gradients, a validation batch, the last batch
# of a split, which is smaller; those of the test split.
_VARIANTS = 6
# Torch gives up compiling, with a warning, after this many variants of all networks together; its
# own limit of 8 is meant for one.
_MOST_VARIANTS = 192
_COMPILERS = ("c++", "g++", "clang++", "gcc", "clang", "cl")

_num_compiled = 0


@dataclass(frozen=True)
class Compilation:
    """How the networks of a cohort are compiled.

    Attributes:
        mode: What ``torch.compile`` is told; ``None`` compiles nothing.
        cuda_graphs: Whether passes are recorded and replayed, so that a pass overwrites what the
            one before it gave.
    """

    mode: str | None
    cuda_graphs: bool

    def apply(self, network: SegmentationNetwork) -> None:
        """Let a network be compiled when it first runs; a copy of it would not be."""
        global _num_compiled
        if self.mode is None:
            return
        _num_compiled += 1
        # Sizes change from training to validation and in a split's last batch, and each is compiled
        # for itself: kernels for any size are slower, and not all networks can have them.
        network.compile(mode=self.mode, dynamic=False)

    def close(self) -> None:
        """Give back the memory that recorded passes hold."""
        if self.cuda_graphs:
            _forget()


def check_compiler(job: Job) -> None:
    """Refuse a job whose networks are to be compiled where no compiler is installed.

    Raises:
        ConfigError: With the place in the job.
    """
    if job.train.compile_mode is None or os.environ.get("CXX"):
        return
    # Kernels for CPUs are C++, and those for GPUs are started by code in C.
    if not any(shutil.which(name) for name in _COMPILERS):
        raise ConfigError(
            "torch.compile needs a C++ compiler, and none is on the PATH",
            path=("train", "compile"),
            value=job.train.compile,
            allowed=f"false, or any value where one of {', '.join(_COMPILERS)} is installed",
            hint="apt-get install g++, or compile: false",
        )


def choose_compilation(jobs: Sequence[Job], device: torch.device) -> Compilation:
    """How the networks of jobs that share a cohort are compiled on a device.

    CUDA graphs are left out, with a warning in the log, where they cannot be: on a CPU, where
    gradients are kept from one forward pass to the next (torch frees those that a recorded pass
    gave, pytorch/pytorch#169545), and in mutual learning, where the teacher's graph waits while
    students run.
    """
    mode = jobs[0].train.compile_mode
    if mode is None:
        return Compilation(None, cuda_graphs=False)
    # A teacher and its average, and the averages of students that teach themselves.
    _prepare(len(jobs) + sum(job.is_self_taught for job in jobs) + 2)
    if mode not in _WITHOUT_GRAPHS:
        return Compilation(mode, cuda_graphs=False)
    reason = None
    if device.type != "cuda":
        reason = "there are none on a CPU"
    elif jobs[0].train.accumulate > 1:
        reason = "train.accumulate keeps gradients from batch to batch"
    elif any(job.distill.is_mutual for job in jobs):
        reason = "in mutual learning the teacher's pass is not over when its student's begins"
    if reason is None:
        return Compilation(mode, cuda_graphs=True)
    left = _WITHOUT_GRAPHS[mode]
    _LOGGER.warning("train.compile: %s without CUDA graphs (%s): %s", mode, left, reason)
    return Compilation(left, cuda_graphs=False)


def _prepare(num_networks: int) -> None:
    """Settings that hold for the whole process, and room for so many networks more."""
    # The gradients of single terms are measured on a graph that is kept.
    torch._functorch.config.donated_buffer = False
    # Checked for each function, and ``Module.__call__`` is the one function of all networks.
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _MOST_VARIANTS)
    if (_num_compiled + num_networks) * _VARIANTS > _MOST_VARIANTS:
        _forget()


def _forget() -> None:
    """Drop everything that was compiled in this process."""
    global _num_compiled
    _num_compiled = 0
    torch.compiler.reset()
