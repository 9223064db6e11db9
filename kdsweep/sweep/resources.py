"""How many trials run at a time, and what each gets.

A trial that fits on no single machine would wait for ever, so that is an error before the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.config.sweep import ResourcesConfig
from kdsweep.errors import ResourceError

MAX_AUTO_THREADS = 4
# Shares such as 1/3 or 0.2 are not exact in binary; three thirds must still fit on one GPU.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Node:
    """One machine.

    Attributes:
        name: What it is called.
        cpus: CPU cores that may be used.
        gpus: GPUs that may be used.
        id: What Ray knows it by; empty for this machine alone.
    """

    name: str
    cpus: float
    gpus: float = 0.0
    id: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.cpus:g} CPUs, {self.gpus:g} GPUs"


@dataclass(frozen=True)
class Plan:
    """The resources of a session.

    Attributes:
        slots: Trials at a time.
        cpus_per_trial: CPU cores of each.
        gpus_per_trial: GPUs of each; 0 where there is none.
    """

    slots: int
    cpus_per_trial: int
    gpus_per_trial: float

    @property
    def device(self) -> str:
        """The device that trials train on, for ``run_jobs``."""
        return "cuda" if self.gpus_per_trial else "cpu"


def plan(nodes: Sequence[Node], config: ResourcesConfig, max_concurrent: int | None = None) -> Plan:
    """Share the machines out among trials.

    Where there are GPUs, each trial gets ``gpus_per_trial`` of them and an even share of its
    machine's CPU cores. On machines without one, trials get a quarter of the cores each, at least
    1 and at most 4: small networks gain little from more threads, and trials side by side do.

    Args:
        nodes: The machines.
        config: What the search space asks for.
        max_concurrent: Trials at a time, if the space limits them; without GPUs the cores are then
            shared out among these.

    Raises:
        ResourceError: A trial fits on none of the machines.
    """
    gpus = config.gpus_per_trial if any(node.gpus > 0 for node in nodes) else 0.0
    if gpus > 1 and not float(gpus).is_integer():
        raise ResourceError(
            f"resources.gpus_per_trial: a trial cannot have {gpus:g} GPUs\n"
            "  allowed: a whole number, or a share below 1 that packs several trials on one GPU\n"
            f"  try:     resources.gpus_per_trial: {math.floor(gpus)}"
        )
    cpus = config.cpus_per_trial
    if cpus is None:
        cpus = _cpu_share(nodes, gpus, max_concurrent)
    slots = slots_of(nodes, cpus, gpus, max_concurrent)
    if slots == 0:
        wanted = f"{cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise ResourceError(
            f"a trial with {wanted} fits on none of the machines, it would wait for ever\n"
            + "".join(f"  there:   {node}\n" for node in nodes)
            + "  try:     a smaller resources.gpus_per_trial or resources.cpus_per_trial"
        )
    return Plan(slots, cpus, gpus)


def slots_of(nodes: Sequence[Node], cpus: int, gpus: float, most: int | None = None) -> int:
    """Return how many trials of these shares run at a time.

    Args:
        nodes: The machines.
        cpus: CPU cores of each trial.
        gpus: GPUs of each trial.
        most: Limits them.
    """
    slots = sum(_slots_on(node, cpus, gpus) for node in nodes)
    return slots if most is None else min(slots, most)


def _cpu_share(nodes: Sequence[Node], gpus: float, max_concurrent: int | None) -> int:
    if gpus:
        shares = [node.cpus / by_gpu for node in nodes if (by_gpu := _slots_by_gpu(node, gpus)) > 0]
        return max(1, math.floor(min(shares, default=1)))
    cores = max((math.floor(node.cpus) for node in nodes), default=1)
    if max_concurrent is not None:
        return max(1, cores // max_concurrent)
    return max(1, min(MAX_AUTO_THREADS, cores // 4))


def _slots_on(node: Node, cpus: int, gpus: float) -> int:
    by_cpu = math.floor(node.cpus / cpus)
    return min(by_cpu, _slots_by_gpu(node, gpus)) if gpus else by_cpu


def _slots_by_gpu(node: Node, gpus: float) -> int:
    if gpus >= 1:
        return math.floor(node.gpus / gpus + _TOLERANCE)
    # A share lies on one GPU; what is left over on two GPUs does not make one more.
    return math.floor(node.gpus) * math.floor(1 / gpus + _TOLERANCE)
