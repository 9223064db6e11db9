"""Naming cached things after what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kdsweep.user_folders import can_write, home_folder, temporary_home


def default_cache() -> Path:
    """Return the folder of decoded frames and generated scenes.

    It is ``$KDSWEEP_CACHE``, or ``~/.cache/kdsweep`` (below ``$XDG_CACHE_HOME`` where that is set).
    Where the home folder cannot be written, it is one below the temporary folder.
    """
    chosen = os.environ.get("KDSWEEP_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    home = home_folder()
    if base or home is not None:
        cache = (Path(base) if base else Path.home() / ".cache") / "kdsweep"
        if can_write(cache):
            return cache
    try:
        return temporary_home() / "cache"
    except OSError:
        return Path(tempfile.gettempdir()) / "kdsweep-cache"  # what writes there says what is wrong


def file_facts(paths: Iterable[Path], root: Path) -> list[tuple[str, int, int]]:
    """Name below ``root``, size and modification time (ns) of each file, in the order given.

    A file that is not there has size -1, so that its coming back changes the fingerprint.
    """
    facts = []
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        try:
            status = path.stat()
        except FileNotFoundError:
            facts.append((name, -1, 0))
        else:
            facts.append((name, status.st_size, status.st_mtime_ns))
    return facts


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file of the cache holds, made and kept there if it is not there yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(found), encoding="utf-8")
        draft.replace(path)
        return found


def fingerprint(facts: Any) -> str:
    """A short name for JSON-able facts: the same facts give the same name, on every machine."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]
