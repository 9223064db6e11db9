"""Ray for the length of a sweep: a cluster of our own, or one that is running already."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import ResourceError
from kdsweep.sweep.resources import Node

# Not the user's TMPDIR: the paths of Ray's sockets below it may have 107 bytes.
_TEMP = Path("/tmp")
_TEMP_PREFIX = ".kdsweep-ray-"

# Read by Ray and Tune when they are imported, Ray's daemons start or a run begins.
QUIET = {
    # Trials have an environment of their own, so that the workers that Ray would start at once, one
    # a core, would serve none of them.
    "RAY_prestart_worker_first_driver": "0",
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
        scratch: Folder for what Ray writes during a sweep, the same on all machines.
        dashboard: Address of the dashboard; ``None`` if it has none.
        problem: Why there is no dashboard, if it could not be started.
    """

    nodes: tuple[Node, ...]
    is_own: bool
    scratch: Path
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
def connect(address: str | None, shared: Path, *, dashboard: bool = True) -> Iterator[Cluster]:
    """Start Ray here, or join a running cluster; leave nothing behind at the end.

    Args:
        address: Of a running cluster (``auto`` finds one on this machine); ``None`` starts one,
            unless the environment variable ``RAY_ADDRESS`` names one.
        shared: Folder that all machines of a running cluster see; used only there.
        dashboard: Whether a cluster that is started here has a dashboard.

    Raises:
        ResourceError: There is no cluster at the address.
    """
    import ray

    address = _resolved(address)
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
        shared.mkdir(parents=True, exist_ok=True)
        remove_stale_folders(shared)
        folder = _temporary_folder(shared)
        try:
            yield Cluster(_nodes(), False, folder, _url(context))
        finally:
            _disconnect()
            shutil.rmtree(folder, ignore_errors=True)
        return
    remove_stale_folders(_TEMP)
    # A folder of our own: Ray's default one is shared with every other Ray of this machine, and
    # grows by some megabytes with each run.
    folder = _temporary_folder(_TEMP)
    try:
        problem = None
        own = {"address": "local", "_temp_dir": str(folder), **quiet}
        try:
            context = ray.init(include_dashboard=dashboard, dashboard_host="127.0.0.1", **own)
        except Exception as error:
            # Anything can be wrong with a web server; a sweep does not need one.
            ray.shutdown()
            if not dashboard:
                raise
            problem = str(error).strip().splitlines()[0]
            context = ray.init(include_dashboard=False, **own)
        try:
            yield Cluster(_nodes(), True, folder, _url(context), problem)
        finally:
            _disconnect()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_elsewhere(address: str | None) -> bool:
    """Whether workers may run on other machines than this one.

    Args:
        address: As for :func:`connect`.
    """
    return _resolved(address) != "local"


def _resolved(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or "local"


def _disconnect() -> None:
    """Leave Ray without taking this process along.

    Tune leaves object references in cycles. If another thread's garbage collection frees one in the
    middle of `ray.shutdown`, Ray finds its core worker gone and ends the process (seen on 2.60).
    """
    import ray

    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if was_on:
            gc.enable()


def remove_stale_folders(parent: Path) -> None:
    """Delete the folders of sweeps on this machine that were killed before they could do it."""
    prefix = f"{_TEMP_PREFIX}{socket.gethostname()}-"
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        found = re.match(r"(\d+)-", folder.name.removeprefix(prefix))
        if found and not _is_alive(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder(parent: Path) -> Path:
    prefix = f"{_TEMP_PREFIX}{socket.gethostname()}-{os.getpid()}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


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
