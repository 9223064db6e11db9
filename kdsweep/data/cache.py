"""The decode cache: frames of a split, decoded and resized once per machine, memory-mapped.

An entry is a folder named after everything that shapes its contents: names, sizes and times of the
files, the source's options, the image size and the format of the cache itself. It is built under a
file lock in a folder of its own and renamed into place, so that other processes see it whole or not
at all; a builder that dies leaves only a draft, which the next builder removes. Who has opened an
entry shares a lock beside it for as long as the process lives. Nothing else is ever deleted but by
``kdsweep cache --clear`` (``cache_admin.py``), which leaves locked entries alone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
from filelock import FileLock, Timeout

from kdsweep.data.facts import SplitFacts
from kdsweep.data.file_errors import Problems
from kdsweep.data.fingerprint import file_facts, fingerprint
from kdsweep.data.pictures import FrameError, resize_image, resize_labels
from kdsweep.data.source import Frame, Progress, Source, SplitName
from kdsweep.data.split import Split
from kdsweep.disk import words_for
from kdsweep.errors import DataError

FORMAT = 2
"""Raised whenever the same files would give other arrays."""

MAX_THREADS = 16

# Locks of the entries that this process has opened, by folder; its end gives them back.
_held: dict[Path, int] = {}


@dataclass(frozen=True)
class _Entry:
    """One split's place in the cache."""

    name: SplitName
    frames: Sequence[Frame]
    folder: Path


def cached_splits(
    source: Source,
    splits: Mapping[SplitName, Sequence[Frame]],
    image_size: tuple[int, int],
    cache: Path,
    progress: Progress | None = None,
) -> dict[SplitName, Split]:
    """Decoded frames of each split, from the cache or built now.

    Args:
        source: Decodes the frames.
        splits: Frames of each split, none of them empty.
        image_size: (height, width) that frames are resized to.
        cache: The cache folder.
        progress: Told about frames as they are decoded.

    Raises:
        DataError: Frames cannot be used (all of them in one message), or the cache folder cannot
            be written.
    """
    home = cache / "frames"
    entries = [
        _Entry(name, frames, home / _key(source, frames, image_size))
        for name, frames in splits.items()
    ]
    problems = Problems(source.name, source.root)
    if source.embedded:
        _hold(source.root)
    for entry in entries:
        while True:
            if not entry.folder.is_dir():
                with writing_cache(home):
                    _build(source, entry, image_size, problems, progress)
            _hold(entry.folder)
            if entry.folder.is_dir() or problems:
                break
            _release(entry.folder)  # it was removed before it was held
    num_files = 2 * sum(len(entry.frames) for entry in entries)
    problems.raise_if_any(num_files, source.repair)
    return {entry.name: _opened(entry.folder) for entry in entries}


def _hold(folder: Path) -> None:
    """Keep an entry from being removed while this process lives, and note that it is used now.

    Without locks (some shared file systems) or rights to the folder there is nothing to hold.
    """
    use = use_file(folder)
    with suppress(OSError):
        if folder not in _held:
            descriptor = os.open(use, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            except OSError:
                os.close(descriptor)
                raise
            _held[folder] = descriptor
        os.utime(use)


def use_file(folder: Path) -> Path:
    """The file that the users of an entry lock, and whose time is that of its last use."""
    return folder.with_name(f"{folder.name}.used")


def _release(folder: Path) -> None:
    if folder in _held:
        os.close(_held.pop(folder))


@contextmanager
def once(folder: Path) -> Iterator[Path | None]:
    """Makes a folder at most once on this machine: whole, or not at all.

    Yields:
        A new empty folder to fill, which takes the place of ``folder`` when the block ends without
        an exception; None where ``folder`` is there already, perhaps made by another process that
        this one has waited for.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            yield None
            return
        remove_stale_drafts(folder.parent, mine=folder.name)
        draft = folder.with_name(f"{folder.name}.draft-{socket.gethostname()}-{os.getpid()}")
        draft.mkdir()
        try:
            yield draft
            draft.replace(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def remove_stale_drafts(home: Path, mine: str) -> None:
    """Removes drafts whose builder is gone, that is, whose lock can be had at once.

    Args:
        home: Folder the drafts lie in.
        mine: Name whose lock the caller holds.
    """
    for draft in home.glob("*.draft-*"):
        name = draft.name.partition(".draft-")[0]
        if name == mine:
            shutil.rmtree(draft, ignore_errors=True)
            continue
        try:
            with FileLock(str(home / f"{name}.lock"), timeout=0):
                shutil.rmtree(draft, ignore_errors=True)
        except Timeout:
            pass  # its builder is at work


def num_threads() -> int:
    """Threads that decoding may use: the cores this process may run on."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return min(cores, MAX_THREADS)


def _key(source: Source, frames: Sequence[Frame], image_size: tuple[int, int]) -> str:
    paths = [path for frame in frames for path in (frame.image, frame.mask)]
    return fingerprint(
        {
            "format": FORMAT,
            "source": source.name,
            "options": source.options(),
            "image_size": list(image_size),
            "files": file_facts(paths, source.root),
        }
    )


def _opened(folder: Path) -> Split:
    try:
        return Split.open(folder)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the decode cache is damaged: {error}\n"
            f"  folder:  {folder}\n"
            f"  try:     remove that folder; it is built again from the data set's own files"
        ) from error


def _build(
    source: Source,
    entry: _Entry,
    image_size: tuple[int, int],
    problems: Problems,
    progress: Progress | None,
) -> None:
    """Fills one entry; with problems, nothing is kept and the caller raises."""
    with once(entry.folder) as draft:
        if draft is None:
            return
        _require_space(draft, len(entry.frames), image_size)
        split = Split.create(draft, [frame.name for frame in entry.frames], image_size)
        facts = SplitFacts.empty(len(entry.frames))
        num_before = len(problems)

        def decode(index: int) -> FrameError | None:
            frame = entry.frames[index]
            try:
                image, labels = source.read(frame)
            except FrameError as problem:
                return problem
            small = resize_image(image, image_size)
            split.images_NHWC[index] = small
            split.labels_NHW[index] = resize_labels(labels, image_size)
            facts.note(index, (frame.image, frame.mask), small, labels)
            return None

        # One thread per core already; OpenCV's own would only get in each other's way.
        cv2.setNumThreads(0)
        with ThreadPoolExecutor(num_threads()) as threads:
            for done, problem in enumerate(threads.map(decode, range(len(entry.frames))), 1):
                if problem is not None:
                    problems.add_frame(problem)
                if progress is not None:
                    progress(f"decoding {source.name} {entry.name}", done, len(entry.frames))
        if len(problems) > num_before:
            raise _UnusableError
        split.flush()
        facts.write(draft)
        meta = {"source": source.name, "split": entry.name, "root": str(source.root)}
        (draft / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


class _UnusableError(Exception):
    """Leaves a build whose problems are noted already."""


@contextmanager
def writing_cache(home: Path) -> Iterator[None]:
    """Turns trouble with the cache folder itself into a DataError."""
    try:
        yield
    except _UnusableError:
        pass
    except OSError as error:
        no_right = "no permission" if error.errno == errno.EACCES else str(error)
        raise DataError(
            f"the decode cache cannot be written: {words_for(error.errno) or no_right}\n"
            f"  folder:  {home}\n"
            f"  try:     another folder: KDSWEEP_CACHE=FOLDER, or `cache:` in the `data:` section"
        ) from error


def _require_space(draft: Path, num_frames: int, image_size: tuple[int, int]) -> None:
    """Fails before the work rather than in its middle."""
    needed = num_frames * image_size[0] * image_size[1] * 4
    if free_bytes(draft) < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder lies on."""
    return shutil.disk_usage(folder).free
