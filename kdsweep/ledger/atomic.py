"""Writes that are there whole or not at all, whatever happens to the process or the machine.

Everything is written under a temporary name beside its target, flushed to the disk, and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_looks: list[Callable[[], None]] = []


@contextmanager
def looked_at_before_each_rename(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` before anything is put in place; what it raises leaves everything as it was."""
    _looks.append(look)
    try:
        yield
    finally:
        _looks.remove(look)


def _look() -> None:
    for look in _looks:
        look()


def write_bytes(path: Path, data: bytes) -> None:
    """Put a file with these bytes in place, replacing what was there."""
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # mkstemp makes files private; results are meant to be shared like any other file.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _look()
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        _name(error, path)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Put a UTF-8 text file in place, replacing what was there."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Put an indented JSON file in place, replacing what was there."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes ``path`` when the block ends without an error.

    A folder that is already at ``path`` is replaced. Renaming cannot replace a folder that has
    contents, so the old one is moved aside first: a reader may find ``path`` missing for an
    instant, but never half written.

    Yields:
        The folder to fill, beside ``path``.
    """
    path = Path(path)
    _look()  # so that nothing is made where all was removed
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_dir():
                sync_directory(file)
            else:
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        sync_directory(temporary)
        _look()
        if path.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.rename(path, aside / path.name)
            os.rename(temporary, path)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _name(error, path)
        raise
    sync_directory(path.parent)


def _name(error: BaseException, path: Path) -> None:
    """Let an error of writing say what was to be written; the system's own say nothing."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def sync_directory(path: Path) -> None:
    """Make the names inside a folder (creations, renames) survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The process's umask; the system offers no way to read it but to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def is_inside(path: Path, root: Path) -> bool:
    """Return whether no link leads to a path below a folder: what is deleted is what is meant.

    Args:
        path: A path below ``root``.
        root: The folder; links may lead to it.
    """
    try:
        return path.resolve() == root.resolve() / path.relative_to(root)
    except OSError:
        return False
