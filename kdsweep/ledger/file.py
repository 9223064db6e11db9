r"""The ledger: the append-only record of a sweep and its single source of truth.

One JSON object a line. Each line ends with a CRC-32 of its own bytes, because a flipped byte
inside a key or a number still parses as JSON::

    {"event":"epoch","seq":12,"time":1763800000.1,"trial":3,...,"crc":"9ae0daaf"}\n

A line is on the disk (fsync) when :meth:`Ledger.append` returns. A driver that dies while it writes
leaves a torn last line, which the next one cuts off; damage anywhere else is an error.

Lines are written by Python's own JSON and read by msgspec's, which takes a fifth of the time and
gives the same values: equal floats, integers of any size. What they say is for
:mod:`kdsweep.ledger.events` to know.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kdsweep.errors import ExperimentError, LedgerError
from kdsweep.ledger.atomic import sync_directory
from kdsweep.ledger.events import Event, SessionEvent, decode, decode_progress, to_json

_HEAD = b'{"event":'
_TAIL = b',"crc":"%08x"}'
_TAIL_LENGTH = len(_TAIL % 0)


@dataclass(frozen=True)
class LedgerScan:
    """What is in a ledger file.

    Attributes:
        num_events: Number of whole events.
        num_good_bytes: Length of the part of the file that holds them.
        num_torn_bytes: Length of the torn tail behind it; 0 if there is none.
    """

    num_events: int
    num_good_bytes: int
    num_torn_bytes: int


def read_ledger(path: Path) -> list[Event]:
    """All whole events of a ledger, also while a sweep writes it and after a crash.

    A torn last line is left out: it may be one that is just being written.

    Raises:
        ExperimentError: There is no such file.
        LedgerError: The ledger is damaged other than in its last line.
    """
    return list(iter_ledger(path))


def iter_ledger(path: Path, decode: Callable[[bytes], Event] = decode) -> Iterator[Event]:
    """Do what :func:`read_ledger` does, one event after the other, for long ledgers.

    Args:
        path: The file.
        decode: Reads the JSON of a line whose CRC is right, for readers that can do with less than
            all of it; one of those of :mod:`kdsweep.ledger.events`.
    """
    return _Reader(Path(path), decode).events()


def scan_ledger(path: Path) -> LedgerScan:
    """Say how much of a ledger file is whole, and how much of its end is torn.

    Raises:
        ExperimentError: There is no such file.
        LedgerError: The ledger is damaged other than in its last line.
    """
    reader = _Reader(Path(path), decode_progress)
    num_events = sum(1 for _ in reader.events())
    return LedgerScan(num_events, reader.num_good_bytes, reader.num_torn_bytes)


def is_locked(path: Path) -> bool | None:
    """Return whether a driver has the ledger open for writing, on whatever machine.

    Returns:
        ``None`` where the file system knows no locks, or the file is not there.
    """
    with suppress(OSError), open(path, "rb") as file:
        try:
            # Shared, so that two readers who ask at once do not take each other for a driver.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    return None


def lock_holder(path: Path) -> int | None:
    """Number of the process on this machine that has the ledger open for writing.

    Returns:
        ``None`` where that cannot be told: nobody has it, the system does not say who does (only
        Linux does), or it is a process of another container.
    """
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    # 5: FLOCK  ADVISORY  WRITE 25463 fe:00:3883362 0 EOF. Some file systems give files another
    # device than locks have, so that the inode has to do; one that is not clear is nobody's.
    locks = [line.split() for line in lines]
    pids = {
        int(lock[4])
        for lock in locks
        if lock[1] == "FLOCK" and lock[3] == "WRITE" and lock[5].split(":")[-1] == str(inode)
    }
    return pids.pop() if len(pids) == 1 and min(pids) > 0 else None


class Ledger:
    """The one writer of a ledger. Made by :meth:`open`; a context manager.

    Events are not kept: a long sweep's would fill the driver's memory.

    Attributes:
        num_events: Events so far, those of earlier sessions included.
        num_torn_bytes: Length of the torn tail that was cut off when it was opened.
    """

    def __init__(self, path: Path, descriptor: int, scan: LedgerScan) -> None:
        self.path = path
        self.num_events = scan.num_events
        self.num_torn_bytes = scan.num_torn_bytes
        self._descriptor = descriptor
        self._length = scan.num_good_bytes

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Take the ledger for writing, making it if it is not there, and cut off a torn last line.

        Raises:
            ExperimentError: Another driver holds it.
            LedgerError: It is damaged other than in its last line.
        """
        path = Path(path)
        # The lock goes with the descriptor, which no subprocess inherits (PEP 446): it ends with
        # this process however that ends.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not _take_lock(descriptor):
                raise ExperimentError(_locked(path))
            scan = scan_ledger(path)
            if scan.num_torn_bytes:
                os.ftruncate(descriptor, scan.num_good_bytes)
                os.fsync(descriptor)
            sync_directory(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, scan)

    def append(self, event: Event) -> Event:
        """Write one event and wait until it is on the disk.

        Args:
            event: The event; its ``seq`` and ``time`` are given here.

        Returns:
            The event as it was written, with ``seq`` and ``time``.

        Raises:
            ValueError: The event holds NaN or infinity, which JSON has no words for.
            OSError: It could not be written, or was removed; the ledger is as it was before.
        """
        stamped = {"seq": self.num_events, "time": round(time.time(), 3)}
        line = encode_line(to_json(msgspec.structs.replace(event, **stamped)))
        self.path.stat()  # what is written to a file that was removed is nowhere
        try:
            view = memoryview(line)
            offset = self._length
            while view:
                count = os.pwrite(self._descriptor, view, offset)
                view, offset = view[count:], offset + count
            os.fsync(self._descriptor)
        except OSError as error:
            # A full disk leaves half a line; it must not end up in the middle of the file.
            with suppress(OSError):  # on a disk that is gone, a reader takes it for torn
                os.ftruncate(self._descriptor, self._length)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._length += len(line)
        # The reader's view of the event, so that live and replayed events cannot differ
        # (tuples become lists, integer keys become text).
        self.num_events += 1
        return decode(line)

    def replay(self) -> Iterator[Event]:
        """Every event so far, but of an epoch only its place, value and decision."""
        return iter_ledger(self.path, decode_progress)

    def close(self) -> None:
        """Let go of the ledger; closing twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encode_line(event: Mapping[str, Any]) -> bytes:
    """One ledger line with its CRC and newline, of an event as plain JSON."""
    body = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return body[:-1] + _TAIL % zlib.crc32(body) + b"\n"


class _Reader:
    """Reads a ledger once, line by line.

    Attributes:
        num_good_bytes: Length of the whole events read so far.
        num_torn_bytes: Length of the torn tail, once the end is reached.
    """

    def __init__(self, path: Path, decode: Callable[[bytes], Event]) -> None:
        self.path = path
        self.num_good_bytes = 0
        self.num_torn_bytes = 0
        self._decode = decode

    def events(self) -> Iterator[Event]:
        """The whole events, in order."""
        try:
            file = self.path.open("rb", buffering=1 << 20)
        except FileNotFoundError:
            raise ExperimentError(f"{self.path}: there is no ledger here") from None
        with file:
            size = os.fstat(file.fileno()).st_size
            for seq, line in enumerate(file):
                event = self._event(line, seq)
                if event is None:
                    # The last line there was may be finished, or cut off by the next driver, while
                    # it is read; what is appended behind it does not make it damage.
                    left = size - self.num_good_bytes
                    rest = file.read(max(left - len(line), 0))
                    self._check_tail(line[:left], rest, seq)
                    return
                self.num_good_bytes += len(line)
                yield event

    def _event(self, line: bytes, seq: int) -> Event | None:
        """The event of one line, or ``None`` if the line is not whole."""
        body = line[: -_TAIL_LENGTH - 1] + b"}"
        if not line.endswith(_TAIL % zlib.crc32(body) + b"\n"):
            return None
        try:
            event = self._decode(body)
        except msgspec.ValidationError as error:
            raise LedgerError(
                f"{self.path}:{seq + 1}: this line is whole, and says something else than lines of "
                f"this version: {error}\n"
                f"  value:   {line[:60].rstrip()!r}…\n"
                "  try:     the version of kdsweep that wrote it"
            ) from error
        return event if event.seq == seq else None

    def _check_tail(self, line: bytes, rest: bytes, seq: int) -> None:
        """Count the tail as torn; refuse it if a whole line of a ledger follows in it."""
        # A lost newline joins two whole lines: that is damage too.
        if rest.strip(b"\x00\n \t\r") or line.count(_HEAD) > 1:
            raise LedgerError(
                f"{self.path}:{seq + 1}: this line is damaged, and lines follow it\n"
                f"  value:   {line[:60].rstrip()!r}…\n"
                f"  try:     restore the file from a backup; to go on from the last good line, "
                f"keep the first {seq} lines (head -n {seq}) and resume"
            )
        self.num_torn_bytes = len(line) + len(rest)


def _take_lock(descriptor: int) -> bool:
    """Lock a ledger for writing; whoever only asks (:func:`is_locked`) lets go at once."""
    for pause in (0.02, 0.05, 0.1, 0.0):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(pause)
    return False


def _locked(path: Path) -> str:
    sessions = [event for event in read_ledger(path) if isinstance(event, SessionEvent)]
    who = f" (process {sessions[-1].pid} on {sessions[-1].host})" if sessions else ""
    holder = lock_holder(path)
    if holder is not None:  # it may not have begun its session yet
        who = f" (process {holder} on {socket.gethostname()})"
    return (
        f"{path.parent}: another driver{who} is running this sweep\n"
        f"  try:     wait for it, or stop it with Ctrl-C; its results can be read meanwhile with "
        f"kdsweep report {path.parent}"
    )
