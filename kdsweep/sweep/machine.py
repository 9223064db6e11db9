"""What a sweep needs of this machine, looked at before anything is started.

Whatever Ray, the cache, the experiment's folder or a worker would stumble on is tried here in the
way they use it: a file is written and locked, a socket bound, threads started. That finds limits of
every kind (the user's, a container's, the system's), which no list of settings does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kdsweep.errors import MachineError
from kdsweep.sweep.ray import bridge, places
from kdsweep.user_folders import ensure_home, home_folder, is_home_temporary, nearest_existing

# What Ray's daemons, the driver and one worker with torch start: 446 were counted on two cores.
# There a limit of 500 is enough, and with one of 400 Ray waits for its workers for ever.
_NUM_THREADS, _NUM_THREADS_PER_CORE = 450, 25
_NUM_FILES = 200
# Ray, the driver and one worker that trains a tiny network.
_MEMORY_BYTES = 1 << 30
_DISK_BYTES = places.MIN_DISK_BYTES
# Ray ends workers where more of the machine's memory is in use.
_MEMORY_IN_USE = 0.95


@dataclass(frozen=True)
class Machine:
    """What was found, as far as it decides how Ray is started.

    Attributes:
        temp: Parent of Ray's temporary folder.
        spill: Parent of the folder for objects that do not fit in memory; ``None`` for Ray's own.
        variables: What to set in the environment of Ray and its workers.
        notes: What a user should know of it.
    """

    temp: Path
    spill: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_machine(experiments: Path, caches: Iterable[Path] = ()) -> Machine:
    """Look at everything that a sweep on this machine needs; takes about a tenth of a second.

    Args:
        experiments: The folder that gets the experiment's folder, or the experiment's own.
        caches: Folders of decoded frames that the sweep's data name.

    Raises:
        MachineError: Something is missing; all that is missing, in one message.
    """
    problems: list[str] = []
    variables: dict[str, str] = {}
    notes: list[str] = []

    def look(check: Callable[[], None]) -> None:
        try:
            check()
        except MachineError as error:
            problems.append(str(error))

    ensure_home()
    if is_home_temporary():
        notes.append(
            f"there is no home folder: {home_folder()} is used (HOME=FOLDER names another one)"
        )
    look(lambda: check_folder(experiments, "the experiment's folder", "--out FOLDER"))
    for cache in caches:
        # What is there already is read only; what is missing has to be written.
        if not (cache / "frames").is_dir():
            look(lambda cache=cache: check_folder(cache, *_CACHE))  # type: ignore[misc]
    look(lambda: _choose_cache(variables, notes))
    look(lambda: _choose_token(variables, notes))
    look(_check_loopback)
    look(_check_files)
    look(_check_threads)
    look(_check_memory)
    temp = Path("/tmp")
    try:
        temp = places.choose_temp()
    except MachineError as error:
        problems.append(str(error))
    if problems:
        raise MachineError("\n".join(problems))
    return Machine(temp, places.choose_spill(temp), variables, tuple(notes))


_CACHE = ("the cache of decoded frames", "KDSWEEP_CACHE=FOLDER, or `cache:` in the `data:` section")


def check_folder(folder: Path, purpose: str, remedy: str) -> None:
    """Write, lock and remove a file in a folder, or in the nearest one above it that is there.

    Args:
        folder: The folder; it is not made.
        purpose: What it is for, in words.
        remedy: How to name another one.

    Raises:
        MachineError: That is not possible.
    """
    try:
        there = nearest_existing(folder)
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file")
        with tempfile.NamedTemporaryFile(prefix=".kdsweep-", dir=there) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise MachineError(
                    f"{folder}: files cannot be locked here: {error.strerror}\n"
                    f"  needed:  {purpose}; the lock keeps a second process out\n"
                    f"  try:     {remedy}, on a disk of this machine"
                ) from error
        free = shutil.disk_usage(there).free
        if free < _DISK_BYTES:
            raise OSError(
                errno.ENOSPC, f"{free >> 20} MiB are free, {_DISK_BYTES >> 20} MiB are needed"
            )
    except OSError as error:
        raise MachineError(
            f"{folder}: nothing can be written here: {error.strerror}\n"
            f"  needed:  {purpose}\n"
            f"  try:     {remedy}, one that this user can write"
        ) from error


def _choose_cache(variables: dict[str, str], notes: list[str]) -> None:
    """Have all workers use one cache where the usual one cannot be written."""
    # Imported here: the package brings OpenCV.
    from kdsweep.data.fingerprint import default_cache

    cache = default_cache()
    if os.environ.get("KDSWEEP_CACHE"):
        if not (cache / "frames").is_dir():
            check_folder(cache, *_CACHE)
        return
    check_folder(cache, *_CACHE)
    if cache.name != "kdsweep":  # not where it is when there is a home folder
        variables["KDSWEEP_CACHE"] = str(cache)
        notes.append(
            f"the home folder cannot be written: frames are cached in {cache} "
            "(KDSWEEP_CACHE=FOLDER names another one)"
        )


def _choose_token(variables: dict[str, str], notes: list[str]) -> None:
    """Give Ray's token a place where it cannot be written to the home folder."""
    path = places.choose_token()
    if path is not None:
        variables[bridge.TOKEN_PATH] = str(path)
        notes.append(f"the home folder cannot be written: Ray's token is in {path}")


def _check_loopback() -> None:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(2.0)
            with socket.create_connection(server.getsockname(), timeout=2.0):
                pass
    except OSError as error:
        raise MachineError(
            f"127.0.0.1: no connection is possible: {error.strerror or error}\n"
            "  needed:  Ray's processes talk over the loopback network\n"
            "  try:     ip link set lo up (as root), or another network for the container"
        ) from error


def _check_files() -> None:
    """Raise if too few files can be opened; Ray lifts the limit that can be lifted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _NUM_FILES:
        raise MachineError(
            f"open files: a process may open {hard} at most\n"
            f"  needed:  {_NUM_FILES}\n"
            "  try:     ulimit -n 4096 (it may take the administrator)"
        )


def _check_threads() -> None:
    """Start as many threads as a sweep does, at once, for a moment.

    The limit may be the user's (``ulimit -u``), the container's (``pids.max``) or the system's.
    """
    _lift_process_limit()
    wanted = _NUM_THREADS + _NUM_THREADS_PER_CORE * (os.cpu_count() or 1)
    release = threading.Event()
    threads: list[threading.Thread] = []
    before = threading.stack_size(64 << 10)
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=release.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError as error:
        raise MachineError(
            f"processes: {len(threads)} more threads and processes can be started"
            f"{_process_limits()}\n"
            f"  needed:  about {wanted}, for Ray and one trial\n"
            "  try:     ulimit -u 4096, or a container with more (docker run --pids-limit)"
        ) from error
    finally:
        threading.stack_size(before)
        release.set()
        for thread in threads:
            thread.join()


def _lift_process_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))


def _process_limits() -> str:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = [] if soft == resource.RLIM_INFINITY else [f"ulimit -u is {soft}"]
    for name in ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"):
        with suppress(OSError):
            text = Path(name).read_text(encoding="ascii").strip()
            if text != "max":
                limits.append(f"pids.max is {text}")
    return f" ({', '.join(limits)})" if limits else ""


def _check_memory() -> None:
    found = memory()
    if found is None:
        return
    total, free = found
    if free < _MEMORY_BYTES:
        raise MachineError(
            f"memory: {free >> 20} MiB of {total >> 20} MiB are free\n"
            f"  needed:  {_MEMORY_BYTES >> 20} MiB, for Ray and one trial\n"
            "  try:     end other work, or a machine or container with more"
        )
    in_use = 1 - free / total
    if in_use > _MEMORY_IN_USE:
        raise MachineError(
            f"memory: {in_use:.0%} of {total >> 20} MiB are in use\n"
            f"  allowed: {_MEMORY_IN_USE:.0%}; Ray ends workers beyond that\n"
            "  try:     end other work, or RAY_memory_usage_threshold=0.99"
        )


def memory() -> tuple[int, int] | None:
    """Return bytes of memory in all and free, of the container where that has less.

    ``None`` where the system does not say (it is Linux that does).
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    total, free = sizes["MemTotal"], sizes["MemAvailable"]
    for limit_name, use_name, cache_name in _CGROUP_MEMORY:
        with suppress(OSError, ValueError, KeyError):
            limit = int(Path(limit_name).read_text(encoding="ascii"))
            used = int(Path(use_name).read_text(encoding="ascii"))
            stat = Path(limit_name).with_name("memory.stat").read_text(encoding="ascii")
            reclaimable = dict(line.split() for line in stat.splitlines())[cache_name]
            if limit < total:
                total, free = limit, min(free, limit - used + int(reclaimable))
    return total, max(free, 0)


# Limit, use, and the part of the use that the system gives back when it is asked for.
_CGROUP_MEMORY: Sequence[tuple[str, str, str]] = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
