"""Disks that are full, cannot be written or are gone: told from other errors, and put in words."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

_ROOM = "make room there"
_WORDS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the quota is used up", _ROOM),
    errno.EROFS: ("the file system is read-only", "make it writable again"),
    errno.EIO: ("the disk cannot be read or written", "look at the disk, and at the system's log"),
    errno.ESTALE: ("the file server has lost the folder", "mount it again"),
    errno.ENOTCONN: ("the folder's mount has ended", "mount it again"),
}
# How libraries in Rust (safetensors) put an error of the system.
_CODE = re.compile(r"\(os error (\d+)\)")


class DiskError(Exception):
    """Something is wrong with a disk that a worker writes to.

    Args:
        reason: What, with the file where it is known.
        remedy: What to do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy


def disk_problem(error: BaseException, folders: Sequence[Path] = ()) -> tuple[str, str] | None:
    """Return what an error says is wrong with a disk, and what to do; ``None`` of other errors.

    Both are texts; the first one names the file where the error does.

    Args:
        error: The error.
        folders: Where it may have happened; of a full disk the one with the least room is named.
    """
    for found in causes(error):
        if isinstance(found, DiskError):
            return found.reason, found.remedy
        code = found.errno if isinstance(found, OSError) else _code_in(str(found))
        if code in _WORDS:
            reason, remedy = _WORDS[code]
            path = getattr(found, "filename", None)
            if path is None and code == errno.ENOSPC:
                path = min((f for f in folders if f.exists()), key=_free_bytes, default=None)
            if code == errno.ENOSPC and path and _lacks_files(str(path)):
                reason, remedy = (
                    "no more files can be made (inodes are used up)",
                    "remove files there (df -i)",
                )
            return (f"{path}: {reason}" if path else reason), remedy
    return None


def words_for(code: int | None) -> str | None:
    """Return what an ``errno`` says is wrong with a disk; ``None`` of others."""
    return _WORDS[code][0] if code in _WORDS else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused it, what caused that, and so on."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        hidden = None if found.__suppress_context__ else found.__context__
        found = found.__cause__ or hidden


def _code_in(text: str) -> int | None:
    match = _CODE.search(text)
    return int(match.group(1)) if match else None


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _lacks_files(path: str) -> bool:
    """Whether names are what the file system of a path, or of a folder above it, has none left."""
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    try:
        found = os.statvfs(path or ".")
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0
