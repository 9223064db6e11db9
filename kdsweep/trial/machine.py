"""What this machine has to train with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from kdsweep.models.inference_cost import device_name

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Machine:
    """One machine.

    Attributes:
        cpus: CPU cores that may be used.
        cpu: Name of its processor.
        memory_bytes: Its memory; ``None`` where the system does not tell.
        gpus: Names of its GPUs.
        gpu_bytes: Memory of the smallest GPU; 0 without one.
    """

    cpus: int
    cpu: str
    memory_bytes: int | None
    gpus: tuple[str, ...]
    gpu_bytes: int


def this_machine() -> Machine:
    """The machine that this process runs on, as far as the process may use it."""
    devices = range(torch.cuda.device_count())
    memories = [torch.cuda.get_device_properties(i).total_memory for i in devices]
    return Machine(
        cpus=_cpus(),
        cpu=device_name(torch.device("cpu")),
        memory_bytes=_memory(),
        gpus=tuple(device_name(torch.device("cuda", i)) for i in devices),
        gpu_bytes=min(memories, default=0),
    )


def _cpus() -> int:
    cores = os.cpu_count() or 1
    try:
        quota, period = _CGROUP.read_text(encoding="utf-8").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or one without a limit
        return cores


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
