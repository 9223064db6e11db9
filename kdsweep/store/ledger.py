r"""The ledger: the append-only record of a sweep and its single source of truth.

One JSON object a line. Each line ends with a CRC-32 of its own bytes, because a flipped byte
inside a key or a number still parses as JSON::

    {"event":"epoch","seq":12,"time":1763800000.1,"trial":3,...,"crc":"9ae0daaf"}\n

A line is on the disk (fsync) when :meth:`Ledger.append` returns. A driver that dies while it writes
leaves a torn last line, which the next one cuts off; damage anywhere else is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsweep.errors import ExperimentError, LedgerError
from kdsweep.store.atomic import sync_directory

_HEAD = b'{"event":'
_TAIL = b',"crc":"%08x"}'
_TAIL_LENGTH = len(_TAIL % 0)

Event = dict[str, Any]


@dataclass(frozen=True)
class LedgerScan:
    """What is in a ledger file.

    Attributes:
        events: All whole events, in order, without their CRCs.
        num_good_bytes: Length of the part of the file that holds them.
        num_torn_bytes: Length of the torn tail behind it; 0 if there is none.
    """

    events: list[Event]
    num_good_bytes: int
    num_torn_bytes: int


def read_ledger(path: Path) -> list[Event]:
    """All whole events of a ledger, also while a sweep writes it and after a crash.

    A torn last line is left out: it may be one that is just being written.

    Raises:
        ExperimentError: There is no such file.
        LedgerError: The ledger is damaged other than in its last line.
    """
    return scan_ledger(path).events


def scan_ledger(path: Path) -> LedgerScan:
    """Like :func:`read_ledger`, and says how much of the file's end is torn."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ExperimentError(f"{path}: there is no ledger here") from None
    return _scan(data, Path(path))


class Ledger:
    """The one writer of a ledger. Made by :meth:`open`; a context manager.

    Attributes:
        path: The file.
        events: Every event so far, those of earlier sessions included.
        num_torn_bytes: Length of the torn tail that was cut off when it was opened.
    """

    def __init__(self, path: Path, descriptor: int, scan: LedgerScan) -> None:
        self.path = path
        self.events = scan.events
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
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExperimentError(_locked(path)) from None
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
            event: JSON-able, with the key ``event``; without ``seq``, ``time`` and ``crc``.

        Returns:
            The event as it was written, with ``seq`` and ``time``.

        Raises:
            ValueError: The event holds NaN or infinity, which JSON has no words for.
            OSError: It could not be written; the ledger is as it was before.
        """
        assert "event" in event, event
        written = {
            "event": event["event"],
            "seq": len(self.events),
            "time": round(time.time(), 3),
            **{key: value for key, value in event.items() if key != "event"},
        }
        line = encode_line(written)
        try:
            view = memoryview(line)
            offset = self._length
            while view:
                count = os.pwrite(self._descriptor, view, offset)
                view, offset = view[count:], offset + count
            os.fsync(self._descriptor)
        except OSError:
            # A full disk leaves half a line; it must not end up in the middle of the file.
            os.ftruncate(self._descriptor, self._length)
            raise
        self._length += len(line)
        # The reader's view of the event, so that live and replayed events cannot differ
        # (tuples become lists, integer keys become text).
        event_read = json.loads(line)
        del event_read["crc"]
        self.events.append(event_read)
        return event_read

    def close(self) -> None:
        """Let go of the ledger; closing twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encode_line(event: Event) -> bytes:
    """One ledger line with its CRC and newline."""
    body = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return body[:-1] + _TAIL % zlib.crc32(body) + b"\n"


def _scan(data: bytes, path: Path) -> LedgerScan:
    events: list[Event] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        event = _decode(data[start:end], len(events)) if end >= 0 else None
        if event is None:
            # Everything from here on is torn only if no whole line of a ledger follows.
            line, rest = (data[start:end], data[end + 1 :]) if end >= 0 else (data[start:], b"")
            # A lost newline joins two whole lines: that is damage too.
            if rest.strip(b"\x00\n \t\r") or line.count(_HEAD) > 1:
                raise LedgerError(
                    f"{path}:{len(events) + 1}: this line is damaged, and lines follow it\n"
                    f"  value:   {data[start : start + 60]!r}…\n"
                    f"  try:     restore the file from a backup; to go on from the last good line, "
                    f"keep the first {len(events)} lines (head -n {len(events)}) and resume"
                )
            return LedgerScan(events, start, len(data) - start)
        events.append(event)
        start = end + 1
    return LedgerScan(events, start, 0)


def _decode(line: bytes, seq: int) -> Event | None:
    """The event of one line, or ``None`` if the line is not whole."""
    body, tail = line[:-_TAIL_LENGTH] + b"}", line[-_TAIL_LENGTH:]
    if tail != _TAIL % zlib.crc32(body):
        return None
    event = json.loads(body)
    return event if event.get("seq") == seq else None


def _locked(path: Path) -> str:
    sessions = [event for event in read_ledger(path) if event["event"] == "session"]
    who = f" (process {sessions[-1]['pid']} on {sessions[-1]['host']})" if sessions else ""
    return (
        f"{path.parent}: another driver{who} is running this sweep\n"
        f"  try:     wait for it, or stop it with Ctrl-C; its results can be read meanwhile with "
        f"kdsweep report {path.parent}"
    )
