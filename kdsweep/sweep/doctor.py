"""What kdsweep runs with and on, and what of it would stop a sweep, for a report of a fault.

It is meant to be pasted: it names no folder of the user's, no host and no user, and holds no keys.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kdsweep.errors import MachineError
from kdsweep.ledger.provenance import PACKAGES, git_state, installed_versions, visible_gpus
from kdsweep.sweep.machine import check_machine, memory
from kdsweep.sweep.ray import bridge
from kdsweep.user_folders import home_folder, nearest_existing

# They put their files into one folder, cv2, and overwrite each other's.
_OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_VARIABLES = (
    "KDSWEEP_CACHE",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "TMPDIR",
    "OMP_NUM_THREADS",
    "WANDB_MODE",
)


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        facts: By section and name; sizes in bytes have names that end in ``_bytes``.
        problems: What would stop a sweep here.
        warnings: What may.
    """

    facts: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def diagnose(experiments: Path) -> Diagnosis:
    """Look at this machine; starts no Ray and asks no network."""
    problems: list[str] = []
    warnings: list[str] = []

    def look(what: str, find: Callable[[], Any], none: Any) -> Any:
        try:
            return find()
        except Exception as error:  # who looks for what is broken must not stumble on it
            problems.append(f"{what}: {type(error).__name__}: {error}")
            return none

    missing, other = look("requirements", _requirements, ([], []))
    problems += missing
    warnings += [*other, *_opencv()]
    gpus = look("GPUs", _gpus, {})
    facts = {
        "versions": _versions(),
        "machine": look("machine", _machine, {}),
        "gpus": gpus,
        "folders": look("folders", lambda: _folders(experiments), {}),
        "variables": {name: "set" for name in _VARIABLES if name in os.environ},
        "wandb": look("W&B", _wandb, {}),
        "weights": {"imagenet": look("weights", _weights, [])},
    }
    problems += look("sweep", lambda: _machine_problems(experiments), [])
    problems += _gpu_problems(gpus) if gpus else []
    return Diagnosis(_nameless(facts), tuple(_nameless(problems)), tuple(_nameless(warnings)))


def _versions() -> dict[str, Any]:
    code = git_state(Path(__file__).resolve().parent) or {}
    found = {**installed_versions(PACKAGES), "python": platform.python_version()}
    return found | ({"commit": code["commit"], "changed": code["dirty"]} if code else {})


def _machine() -> dict[str, Any]:
    from kdsweep.trial.machine import this_machine

    seen = this_machine()
    total, free = memory() or (seen.memory_bytes, None)
    return {
        "platform": platform.platform(),
        "processor": seen.cpu,
        "cores": os.cpu_count(),
        "cores_allowed": seen.cpus,
        "memory_bytes": total,
        "memory_free_bytes": free,
    }


def _gpus() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    seen = [torch.cuda.get_device_properties(index) for index in range(count)]
    return {
        "torch": [f"{gpu.name}, {gpu.total_memory >> 20} MiB" for gpu in seen],
        "ray": bridge.num_gpus_here(),
        "nvidia_smi": visible_gpus(),
        "cuda_of_torch": torch.version.cuda,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def _gpu_problems(gpus: dict[str, Any]) -> Iterator[str]:
    import torch

    if gpus["ray"] > len(gpus["torch"]):
        cause = "a driver that is too old for it, or a device that is not allowed"
        if gpus["cuda_of_torch"] is None:
            cause = "this torch is built for CPUs"
        yield (
            f"GPUs: Ray would hand out {gpus['ray']}, torch sees {len(gpus['torch'])}\n"
            f"  cause:   {cause}\n"
            "  try:     the torch for this machine (pytorch.org), or CUDA_VISIBLE_DEVICES= to do "
            "without"
        )
    for index in range(len(gpus["torch"])):
        try:
            torch.ones(1, device=f"cuda:{index}").add_(1).item()
        except RuntimeError as error:
            yield f"GPU {index}: torch cannot compute on it: {str(error).splitlines()[0]}"


def _folders(experiments: Path) -> dict[str, Any]:
    from kdsweep.data.fingerprint import default_cache

    found: dict[str, Any] = {}
    places = {
        "experiments": experiments,
        "cache": default_cache(),
        "temporary": Path(tempfile.gettempdir()),
    }
    for name, folder in places.items():
        found[name] = str(folder)
        try:
            found[f"{name}_free_bytes"] = shutil.disk_usage(nearest_existing(folder)).free
        except OSError as error:
            found[f"{name}_free_bytes"] = None
            found[name] += f" ({error.strerror})"
    return found


def _wandb() -> dict[str, Any]:
    from kdsweep.tracking.account import choose_mode, has_account

    home, here = Path.home(), Path.cwd()
    return {
        "account": has_account(os.environ, home, here),
        "mode": choose_mode("auto", os.environ, home, here),
    }


def _weights() -> list[str]:
    from kdsweep.models.encoders import encoder_names, published_weights

    names = dict.fromkeys([*encoder_names(), *encoder_names("tu-")])
    return [name for name in names if published_weights(name).get("imagenet")]


def _machine_problems(experiments: Path) -> list[str]:
    try:
        check_machine(experiments)
    except MachineError as error:
        return re.split(r"\n(?! )", str(error))
    return []


def _requirements() -> tuple[list[str], list[str]]:
    """Return what kdsweep's own metadata ask for and is missing, and what has another version."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in metadata.requires("kdsweep") or ()]
    except metadata.PackageNotFoundError:
        return [], ["kdsweep itself is not installed, only on Python's path"]
    missing, other = [], []
    for one in wanted:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{one.name} is missing\n  try:     pip install '{one}'")
            continue
        if not one.specifier.contains(version, prereleases=True):
            other.append(f"{one.name} {version} is here, kdsweep asks for {one.specifier}")
    return missing, other


def _opencv() -> list[str]:
    found = installed_versions(_OPENCV)
    if len(found) < 2:
        return []
    names = ", ".join(found)
    return [
        f"several builds of OpenCV overwrite each other: {names}; kdsweep needs {_OPENCV[1]} alone"
    ]


def _nameless(value: Any) -> Any:
    """Return plain values with the working folder and the home folder out of all texts."""
    if isinstance(value, dict):
        return {key: _nameless(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nameless(item) for item in value]
    if not isinstance(value, str):
        return value
    folders = {str(Path.cwd()): "."} | ({str(home): "~"} if (home := home_folder()) else {})
    # The inner one first, where one lies in the other.
    for folder in sorted(folders.keys() - {"/"}, key=len, reverse=True):
        value = re.sub(rf"{re.escape(folder)}(?![\w.-])", folders[folder], value)
    return value
