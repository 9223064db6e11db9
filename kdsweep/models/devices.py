"""Where networks run, by the names that the command line takes."""

from __future__ import annotations

import torch

from kdsweep.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of a name, if this machine has it.

    Args:
        name: ``auto`` is CUDA where there is any, else the CPU; ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        ConfigError: No such name, or no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    here = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if name not in here:
        problem = "no GPU that PyTorch can use" if name.startswith("cuda") else "no such device"
        raise ConfigError(
            f"{problem} on this machine", path=("device",), value=name, allowed=["auto", *here]
        )
    return torch.device(name)
