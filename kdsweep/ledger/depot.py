"""From a worker that does not see the experiment's folder into that folder, and back.

A worker on such a machine trains in a folder of its own (:class:`LocalCopy`). After each epoch, and
before the epoch is reported, it hands over what has changed; so what the ledger has of an epoch is
in the experiment as well. A :class:`Depot` takes it, on the machine of the experiment. It puts
files in place whole, and in the order in which a trial writes them itself: an epoch counts once the
checkpoint of what a cohort shares is there. Nothing here knows Ray.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from kdsweep.errors import KdsweepError
from kdsweep.ledger import fence
from kdsweep.ledger.atomic import is_inside, new_directory, remove, sync_directory
from kdsweep.ledger.layout import TrialFolder

CHUNK_BYTES = 32 << 20
"""Of a file that is on its way, so much is in memory at a time."""

_CHECKPOINTS = ("checkpoint", "cohort")  # in the order in which a cohort writes them


class Store(Protocol):
    """Where artifacts go: a :class:`Depot`, or what stands for one on another machine.

    Names are paths below the folder of all trials, with slashes: ``0003/best/student.json``.
    """

    def begin(self, cohort: str, attempt: str, trials: Sequence[str]) -> dict[str, int]:
        """Let an attempt be the only one that may write; return the files there are, in bytes."""

    def read(self, name: str, offset: int) -> bytes:
        """Return the next bytes of a file, empty at its end."""

    def stage(self, attempt: str, name: str, offset: int, data: bytes) -> None:
        """Take some bytes of a file that :meth:`commit` puts in place."""

    def commit(self, cohort: str, attempt: str, puts: Sequence[str], gone: Sequence[str]) -> None:
        """Put what was staged in place, and remove what is gone."""


class Depot:
    """The trials' folder of an experiment, for workers that do not see it."""

    def __init__(self, trials: Path) -> None:
        self._trials = Path(trials)
        self._staging = Path(tempfile.mkdtemp(prefix=".arriving.", dir=self._trials))

    def begin(self, cohort: str, attempt: str, trials: Sequence[str]) -> dict[str, int]:
        """See :class:`Store`."""
        for name in trials:
            TrialFolder(self._at(name)).create()
        fence.put_up(TrialFolder(self._at(cohort)).fence, attempt)
        shutil.rmtree(self._staged(attempt), ignore_errors=True)
        return {
            f"{name}/{inner}": (self._at(name) / inner).stat().st_size
            for name in trials
            for inner in files_in(self._at(name))
        }

    def read(self, name: str, offset: int) -> bytes:
        """See :class:`Store`."""
        with self._at(name).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)

    def stage(self, attempt: str, name: str, offset: int, data: bytes) -> None:
        """See :class:`Store`."""
        path = self._staged(attempt) / _checked(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(data)

    def commit(self, cohort: str, attempt: str, puts: Sequence[str], gone: Sequence[str]) -> None:
        """See :class:`Store`.

        Raises:
            FencedError: A newer attempt has begun.
        """
        fence.check(TrialFolder(self._at(cohort)).fence, attempt)
        staged = self._staged(attempt)
        for unit in sorted({unit_of(name) for name in puts}, key=_in_order):
            self._put(staged / unit, self._at(unit))
        kept = {unit_of(name) for name in puts}
        for unit in sorted({unit_of(name) for name in gone} - kept):
            if is_inside(path := self._at(unit), self._trials):
                remove(path)

    def close(self) -> None:
        """Drop what has only half arrived."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def _put(self, source: Path, target: Path) -> None:
        if source.is_dir():
            with new_directory(target) as folder:
                for entry in list(source.iterdir()):
                    os.rename(entry, folder / entry.name)
            return
        with source.open("rb") as file:
            os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        sync_directory(target.parent)

    def _at(self, name: str) -> Path:
        return self._trials / _checked(name)

    def _staged(self, attempt: str) -> Path:
        return self._staging / _checked(attempt)


class LocalCopy:
    """Folders of trials on a worker's own disk, in step with those in a store.

    Args:
        root: Folder that holds them.
        cohort: Name of the folder of the cohort's first trial.
        attempt: Name of the attempt.
        trials: Names of all folders, that one among them.
    """

    def __init__(
        self, root: Path, store: Store, cohort: str, attempt: str, trials: Sequence[str]
    ) -> None:
        self._root, self._store = root, store
        self._cohort, self._attempt, self._trials = cohort, attempt, tuple(dict.fromkeys(trials))
        self._known: Mapping[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Begin the attempt with what the store has of its trials."""
        there = self._store.begin(self._cohort, self._attempt, self._trials)
        for name in self._trials:
            TrialFolder(self._root / name).create()
        for name, size in there.items():
            path = self._root / _checked(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while file.tell() < size and (data := self._store.read(name, file.tell())):
                    file.write(data)
        self._known = self._now()

    def deliver(self) -> int:
        """Hand over what has changed; return how many bytes that was.

        Raises:
            FencedError: A newer attempt has begun.
        """
        now = self._now()
        changed = {unit_of(name) for name, state in now.items() if self._known.get(name) != state}
        puts = [name for name in now if unit_of(name) in changed]
        gone = [name for name in self._known if name not in now]
        if not puts and not gone:
            return 0
        num = 0
        for name in puts:
            with (self._root / name).open("rb") as file:
                offset = 0
                while (data := file.read(CHUNK_BYTES)) or offset == 0:
                    self._store.stage(self._attempt, name, offset, data)
                    offset += len(data)
                    if not data:  # an empty file
                        break
                num += offset
        self._store.commit(self._cohort, self._attempt, puts, gone)
        self._known = now
        return num

    def _now(self) -> dict[str, tuple[int, int]]:
        found = {}
        for trial in self._trials:
            for inner in files_in(self._root / trial):
                stat = (self._root / trial / inner).stat()
                found[f"{trial}/{inner}"] = (stat.st_size, stat.st_mtime_ns)
        return found


def files_in(folder: Path) -> Iterator[str]:
    """Yield the files of a trial's folder, without locks, fences and what is half written."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent) / name
            if not name.startswith(".") and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def unit_of(name: str) -> str:
    """Return what a file is put in place with: itself, or the folder that holds it."""
    trial, top, *rest = PurePosixPath(name).parts
    if top == "best" and rest:
        return f"{trial}/{top}"
    if top in _CHECKPOINTS and len(rest) > 1:
        return f"{trial}/{top}/{rest[0]}"
    return name


def _in_order(unit: str) -> tuple[int, str]:
    """Checkpoints come last, and of these what the cohort shares."""
    top = PurePosixPath(unit).parts[1]
    return (_CHECKPOINTS.index(top) + 1 if top in _CHECKPOINTS else 0), unit


def _checked(name: str) -> str:
    """Return a name that leads nowhere else."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise KdsweepError(f"not the name of an artifact: {name!r}")
    return name
