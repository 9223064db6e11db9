"""The folders that Ray writes to during a sweep, removed with it or by the next one.

Their names are short and of one length, because the path of a socket below them is bounded. Who
uses a folder holds a lock on a file in it: a process id would say nothing in another container that
sees the same folder.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = ".kds-"
_OWNER = "owner"
# A folder without its file is one that is just being made, or was left within that instant.
_ORPHAN_SECONDS = 3600.0


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a new folder, and remove it at the end; remove those of dead sweeps first.

    Args:
        parent: An absolute folder that is there.
    """
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
