"""What lies in the cache folder, when it was used last, and how to be rid of it.

An entry that a process has mapped is locked for as long as the process lives (``cache.py``), so
that nothing is taken away under a training, on this machine at least.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kdsweep.data.cache import use_file
from kdsweep.errors import DataError

_NAME = re.compile("[0-9a-f]{20}")  # of a fingerprint
KINDS = {"frames": "decoded frames", "roadscenes": "generated scenes"}


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache.

    Attributes:
        path: The folder.
        kind: ``frames`` or ``roadscenes``.
        name: What it was made from, in words.
        size: Bytes on the disk.
        used: Unix time of its last use.
        in_use: Whether a process has it open.
    """

    path: Path
    kind: str
    name: str
    size: int
    used: float
    in_use: bool


def cache_entries(cache: Path) -> list[CacheEntry]:
    """Everything in a cache folder, what was used longest ago last."""
    found = []
    for kind in KINDS:
        for folder in (cache / kind).glob("*"):
            if not folder.is_dir() or not _NAME.fullmatch(folder.name):
                continue  # a draft, or not ours
            with suppress(FileNotFoundError):  # another process has taken it away meanwhile
                found.append(_entry(folder, kind))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear_cache(cache: Path, older_than_days: float = 0.0) -> list[CacheEntry]:
    """Remove what no process uses.

    Args:
        cache: The cache folder.
        older_than_days: Keep what was used since.

    Returns:
        What was removed.

    Raises:
        DataError: A folder cannot be removed.
    """
    before = time.time() - 86_400 * older_than_days
    return [e for e in cache_entries(cache) if e.used <= before and _remove(e)]


def _entry(folder: Path, kind: str) -> CacheEntry:
    use = use_file(folder)
    times = [folder.stat().st_mtime]
    with suppress(FileNotFoundError):
        times.append(use.stat().st_mtime)
    size = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    return CacheEntry(folder, kind, _name(folder, kind), size, max(times), _is_used(use))


def _name(folder: Path, kind: str) -> str:
    if kind != "frames":
        return KINDS[kind]
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        return f"{meta['source']} {meta['split']}, {meta['root']}"
    except (OSError, ValueError, KeyError, TypeError):
        return KINDS[kind]


def _is_used(use: Path) -> bool:
    try:
        descriptor = os.open(use, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also where there are no locks: then nobody knows
        return True
    finally:
        os.close(descriptor)
    return False


def _remove(entry: CacheEntry) -> bool:
    """Remove an entry unless somebody has it; who comes later makes it again."""
    try:
        descriptor = os.open(use_file(entry.path), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Out of the way in one step: nobody finds half of an entry, whatever happens next. The
            # name is that of a draft, which the next builder removes.
            away = entry.path.with_name(f"{entry.path.name}.draft-removed-{os.getpid()}")
            entry.path.replace(away)
            if away.is_symlink():
                away.unlink()  # what it leads to is not ours
            else:
                shutil.rmtree(away)
        finally:
            os.close(descriptor)
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise DataError(
            f"{entry.path} cannot be removed: {error.strerror or error}\n"
            "  try:     the same command as the user whom it belongs to"
        ) from error
    return True
