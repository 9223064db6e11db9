"""Where Ray writes during a sweep: sockets, objects that do not fit in memory, its token.

Its folders are removed with the sweep, or by the next one. Their names are short and of one length,
because the path of a socket below them is bounded. Who uses a folder holds a lock on a file in it:
a process id would say nothing in another container that sees the same folder.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kdsweep.errors import MachineError
from kdsweep.sweep.ray import bridge
from kdsweep.user_folders import can_write, home_folder, temporary_home

PREFIX = ".kds-"
_NAME = f"{PREFIX}12345678"  # of this length
_OWNER = "owner"
# A folder without its file is one that is just being made, or was left within that instant.
_ORPHAN_SECONDS = 3600.0
MIN_DISK_BYTES = 64 << 20
# Bytes of a socket's path without the zero at its end (sun_path of sockaddr_un).
_SOCKET_LIMIT = 103 if sys.platform == "darwin" else 107


def choose_temp(limit: int = _SOCKET_LIMIT) -> Path:
    """Return the parent of Ray's temporary folder: one where its sockets can be bound.

    Ray's own variable ``RAY_TMPDIR`` decides where it is set. Else it is ``/tmp``, whose name is
    short, before the user's ``TMPDIR``, which seldom is.

    Args:
        limit: Longest path that a socket may have, in bytes.

    Raises:
        MachineError: There is none.
    """
    chosen = os.environ.get(bridge.TEMP)
    candidates = [chosen] if chosen else ["/tmp", tempfile.gettempdir(), "/var/tmp", "/dev/shm"]
    reasons = []
    for candidate in dict.fromkeys(candidates):
        folder = Path(candidate).expanduser().absolute()
        longest = len(os.fsencode(folder / _NAME / bridge.LONGEST_SOCKET))
        if longest > limit:
            reasons.append(f"{folder}: its name is too long by {longest - limit} bytes")
            continue
        reason = _try_socket(folder)
        if reason is None:
            return folder
        reasons.append(f"{folder}: {reason}")
    raise MachineError(
        "no folder was found for Ray's sockets\n"
        + "".join(f"  tried:   {reason}\n" for reason in reasons)
        + f"  allowed: a folder that can be written, at most "
        f"{limit - len(f'/{_NAME}/{bridge.LONGEST_SOCKET}')} bytes long\n"
        f"  try:     {bridge.TEMP}=FOLDER"
    )


def _try_socket(folder: Path) -> str | None:
    """Return why no socket can be bound in a new folder; ``None`` if one can."""
    try:
        free = shutil.disk_usage(folder).free
        if free < MIN_DISK_BYTES:
            return f"{free >> 20} MiB are free, {MIN_DISK_BYTES >> 20} MiB are needed"
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    except OSError as error:
        return error.strerror or str(error)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(str(place / "s"))
    except OSError as error:
        return f"no sockets: {error.strerror}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return None


def choose_spill(temp: Path) -> Path | None:
    """Return the parent of the folder for objects that do not fit in memory.

    That is the user's ``TMPDIR`` where it is another folder than Ray's: /tmp may be small. ``None``
    leaves them to Ray.

    Args:
        temp: Parent of Ray's temporary folder.
    """
    chosen = os.environ.get("TMPDIR")
    if not chosen:
        return None
    folder = Path(chosen).absolute()
    return folder if folder != temp and folder.is_dir() and can_write(folder) else None


def choose_token() -> Path | None:
    """Return a file with Ray's token; ``None`` where Ray finds or writes one by itself.

    Raises:
        MachineError: None can be written.
    """
    if os.environ.get(bridge.TOKEN_MODE, "token").lower() != "token":
        return None
    if os.environ.get(bridge.TOKEN) or os.environ.get(bridge.TOKEN_PATH):
        return None
    home = home_folder()
    if home is not None:
        usual = home / bridge.HOME_TOKEN
        if usual.is_file() or can_write(usual.parent):
            return None
    try:
        path = temporary_home() / "ray_auth_token"
        if not path.is_file():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
    except FileExistsError:
        pass  # another sweep has just written it
    except OSError as error:
        raise MachineError(
            f"Ray's token can be written neither to {home or 'a home folder'} nor to "
            f"{tempfile.gettempdir()}: {error.strerror}\n"
            "  needed:  a token that Ray's processes show each other\n"
            "  try:     HOME=FOLDER or TMPDIR=FOLDER, one that this user can write"
        ) from error
    return path


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a folder, removed at the end, in an absolute one; remove those of dead sweeps first."""
    remove_stale_folders(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with (folder / _OWNER).open("w", encoding="utf-8") as owner:
        # Before the name, without which nobody takes the folder for stale. Where the file system
        # knows no locks, nobody ever does.
        with suppress(OSError):
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        owner.write(socket.gethostname())
        owner.flush()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_stale_folders(parent: Path) -> None:
    """Remove the folders of sweeps on this machine that were killed before they could do it."""
    for folder in parent.glob(f"{PREFIX}????????"):
        try:
            # For writing: only then does the lock work on network file systems.
            with (folder / _OWNER).open("r+", encoding="utf-8") as owner:
                if owner.read() == socket.gethostname() and _is_free(owner):
                    shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _ORPHAN_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # another user's


def _is_free(owner: IO[str]) -> bool:
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
