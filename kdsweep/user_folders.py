"""Folders of the user that kdsweep and what it stands on write to, also where there is no home.

Containers run as users without a home folder (``docker run --user 1000``), and clusters have homes
that cannot be written. Ray keeps a token below the home folder, kdsweep and others their caches.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def nearest_existing(folder: Path) -> Path:
    """Return a folder if it is there, else the nearest one above it that is.

    Raises:
        OSError: One on the way cannot be entered.
    """
    folder = folder.absolute()
    while True:
        try:
            folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            folder = folder.parent
        else:
            return folder


def new_folder(path: Path) -> Path:
    """Return ``path`` if it is not there yet, else the first of ``path-2``, … that is not."""
    folder, number = path, 1
    while folder.exists():
        number += 1
        folder = path.with_name(f"{path.name}-{number}")
    return folder


def can_write(folder: Path) -> bool:
    """Return whether a folder can be written, or made, by this user."""
    try:
        there = nearest_existing(folder)
    except OSError:
        return False
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def home_folder() -> Path | None:
    """Return the user's home folder; ``None`` if there is none."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return None
    return home if home.is_dir() else None


def temporary_home() -> Path:
    """Return this user's own folder below the temporary folder, made if it is not there.

    Raises:
        OSError: The temporary folder cannot be written.
    """
    folder = Path(tempfile.gettempdir()) / f"kdsweep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # Everybody can make folders in /tmp, and a token will lie in this one.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix=f"kdsweep-{os.getuid()}-"))
    return folder


def ensure_home() -> None:
    """Point ``HOME`` to a folder of this user's where the user has no home folder.

    Libraries ask for the home folder and end in errors of many kinds without one.
    """
    if home_folder() is None:
        # Where nothing can be written at all, the first that has to write says so.
        with suppress(OSError):
            os.environ["HOME"] = str(temporary_home())


def is_home_temporary() -> bool:
    """Return whether :func:`ensure_home` has found no home folder, here or in a parent process."""
    home = os.environ.get("HOME", "")
    return Path(home).name.startswith(f"kdsweep-{os.getuid()}")
