"""Ray for the length of a sweep: a cluster of our own, or one that is running already."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import ResourceError
from kdsweep.sweep.resources import Node

_TEMP_PREFIX = "kdsweep-ray-"

# Read by Ray and Tune when they are imported or a run starts.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
}


@dataclass(frozen=True)
class Cluster:
    """The Ray that this process is connected to.

    Attributes:
        nodes: Its machines.
        is_own: Whether it was started by this process and ends with it.
        dashboard: Address of the dashboard; ``None`` if it has none.
        problem: Why there is no dashboard, if it could not be started.
    """

    nodes: tuple[Node, ...]
    is_own: bool
    dashboard: str | None
    problem: str | None = None


@contextlib.contextmanager
def environment(**more: str) -> Iterator[None]:
    """Set the variables that keep Ray quiet, and put the old ones back at the end."""
    wanted = {**QUIET, **more}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """Start Ray here, or join a running cluster; leave nothing behind at the end.

    Args:
        address: Of a running cluster (``auto`` finds one on this machine); ``None`` starts one,
            unless the environment variable ``RAY_ADDRESS`` names one.

    Raises:
        ResourceError: There is no cluster at the address.
    """
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    quiet = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if address != "local":
        try:
            context = ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ResourceError(
                f"no Ray cluster could be joined at {address}: {error}\n"
                "  try:     ray start --head on one machine, or leave --address (and RAY_ADDRESS) "
                "out to start one for this sweep"
            ) from error
        try:
            yield Cluster(_nodes(), False, _url(context))
        finally:
            ray.shutdown()
        return
    remove_stale_folders()
    # A folder of our own: Ray's default one is shared with every other Ray of this machine, and
    # grows by some megabytes with each run.
    folder = tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-", dir="/tmp")
    try:
        problem = None
        own = {"address": "local", "_temp_dir": folder, **quiet}
        try:
            context = ray.init(include_dashboard=True, dashboard_host="127.0.0.1", **own)
        except Exception as error:
            # Anything can be wrong with a web server; a sweep does not need one.
            ray.shutdown()
            problem = str(error).strip().splitlines()[0]
            context = ray.init(include_dashboard=False, **own)
        try:
            yield Cluster(_nodes(), True, _url(context), problem)
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale_folders(parent: Path = Path("/tmp")) -> None:
    """Delete the folders of sweeps that were killed before they could do it themselves."""
    for folder in parent.glob(f"{_TEMP_PREFIX}*"):
        found = re.match(rf"{_TEMP_PREFIX}(\d+)-", folder.name)
        if found and not _is_alive(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _nodes() -> tuple[Node, ...]:
    import ray

    return tuple(
        Node(
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def _url(context: object) -> str | None:
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None
