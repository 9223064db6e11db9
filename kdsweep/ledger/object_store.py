"""A copy of an experiment in an object store: ``s3://…``, ``gs://…``, ``az://…``, ``file:///…``.

Objects cannot be appended to or renamed, and several put one after the other are not put at once.
So files and pieces of the ledger are objects that never change, under names that mean nothing, and
one object says which of them make up the experiment: ``state/00000042``. A new state is put only if
there is none of its number. Thus a reader sees all of a commit or nothing, and of two drivers the
one that comes second finds out, writes nothing, and ends.

A lease (``lease/00000003``, likewise) keeps a second driver from beginning at all while one is
alive.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from kdsweep.errors import ExperimentError, MachineError
from kdsweep.ledger.atomic import write_bytes
from kdsweep.ledger.depot import files_in
from kdsweep.user_folders import temporary_home

LEASE_SECONDS = 60.0
_MOST_PIECES = 200  # of the ledger; then they are put together
_TRIES = 5
_URI = re.compile(r"^([a-z][a-z0-9+.-]+):/{1,3}(.+)$")
# Of the experiment itself. Pages and tables can be made again.
_TOP = ("space.yaml", "spec.json", "environment.json", "priors.jsonl", "storage.json")
_CHECKPOINTS = ("checkpoint/", "cohort/")
_CREDENTIALS = (
    "the store's credentials in the environment, such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
    "and AWS_DEFAULT_REGION; and whether the bucket is there"
)
Part = Literal["all", "results", "ledger"]
_Known = dict[str, tuple[int, int]]  # of each file its size and time
_Manifest = dict[str, list[Any]]  # of each file its object and size


class TakenOverError(ExperimentError):
    """Another driver has taken over the experiment."""


def uri_of(path: Path | str) -> str | None:
    """Return the address in an object store that is meant; ``None`` for a folder.

    Args:
        path: As it was given; a ``Path`` has lost one of two slashes.
    """
    match = _URI.match(str(path))
    if match is None or len(match.group(1)) < 2:
        return None
    scheme, rest = match.groups()
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest.strip('/')}"


class ObjectStoreCopy:
    """The copy of one experiment, by its address.

    Raises:
        MachineError: The address is of no known kind, or the package for it is missing.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._store = open_store(uri)
        self._lease: int | None = None
        self._token = uuid.uuid4().hex
        self._number = 0
        self._state: dict[str, Any] = {"ledger": [], "trials": {}, "files": {}}
        self._known: dict[str, _Known] = {}
        self._manifests: dict[str, _Manifest] = {}
        self._pushed = 0
        self._garbage: list[str] = []

    @property
    def exists(self) -> bool:
        """Whether there is a copy."""
        with _answering(self.uri):
            return bool(self._numbers("state"))

    # -- who drives --------------------------------------------------------------------------------

    def claim(self, wait: bool = True) -> None:
        """Take the lease, and read the newest state.

        Args:
            wait: Whether to wait until the lease of a driver that may be dead has run out.

        Raises:
            ExperimentError: Another driver is alive.
            MachineError: The store cannot be written.
        """
        with _answering(self.uri):
            self._claim(wait)
            self._read()

    def _claim(self, wait: bool) -> None:
        first = None
        while True:
            numbers = self._numbers("lease")
            held = self._json(f"lease/{numbers[-1]:08d}") if numbers else None
            is_alive = held is not None and held["until"] > time.time()
            if held is not None and is_alive and held["token"] == self._token:
                # Put a moment ago, by a request whose answer was lost.
                self._lease = numbers[-1]
                break
            if held is None or held["until"] < time.time() or _is_dead(held):
                if self._create(f"lease/{(numbers or [0])[-1] + 1:08d}", self._holding()):
                    self._lease = (numbers or [0])[-1] + 1
                    break
                continue
            first = held if first is None else first
            if not wait or held["until"] > first["until"] or held["token"] != first["token"]:
                raise ExperimentError(
                    f"{self.uri}: another driver runs this sweep, process {held['pid']} on "
                    f"{held['host']}\n  try:     kdsweep status {self.uri}"
                )
            time.sleep(0.5)

    def renew(self) -> None:
        """Hold the lease for another while.

        Raises:
            TakenOverError: Somebody else has it.
        """
        self._check_lease()
        self._put(f"lease/{self._lease:08d}", self._holding())

    def release(self) -> None:
        """Give the lease up."""
        if self._lease is not None:
            self._check_lease()
            self._put(f"lease/{self._lease:08d}", self._holding(until=0.0))

    def _holding(self, until: float | None = None) -> bytes:
        until = time.time() + LEASE_SECONDS if until is None else until
        told = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
        return json.dumps({**told, "until": until}).encode()

    def _check_lease(self) -> None:
        if self._lease is None or self._numbers("lease")[-1:] != [self._lease]:
            raise TakenOverError(f"{self.uri}: another driver has taken over this sweep")

    # -- writing -----------------------------------------------------------------------------------

    def push(
        self, folder: Path, trials: Iterable[str] | None = None, ledger_bytes: int | None = None
    ) -> int:
        """Bring the copy up to date; return how many bytes were sent.

        Args:
            folder: The experiment's folder.
            trials: Names of the trials' folders that may have changed; all if left out.
            ledger_bytes: How much of the ledger tells of these; all if left out.

        Raises:
            TakenOverError: Another driver has written meanwhile.
        """
        # First how far the ledger is, then the files: what it tells of is there.
        size = _whole_lines(folder / "ledger.jsonl") if ledger_bytes is None else ledger_bytes
        sent, replaced = 0, list[str]()
        state = json.loads(json.dumps(self._state))
        # Taken over with the commit alone: what a failed one had put is put again.
        known, manifests = dict(self._known), dict(self._manifests)
        names = trials
        if names is None:
            names = (p.name for p in sorted((folder / "trials").glob("[0-9]*")) if p.is_dir())
        for name in dict.fromkeys(names):
            changed = self._push_trial(folder / "trials" / name, name)
            if changed is not None:
                known[name], manifests[name], num, old = changed
                sent, replaced = sent + num, [*replaced, *old]
                replaced += [state["trials"][name]] if name in state["trials"] else []
                state["trials"][name] = self._new(json.dumps(manifests[name]).encode())
        for name in (*_TOP, *(f"data/{inner}" for inner in files_in(folder / "data"))):
            if name not in state["files"] and (folder / name).is_file():
                data = (folder / name).read_bytes()
                state["files"][name] = [self._new(data), len(data)]
                sent += len(data)
        if size > self._pushed:
            sent += size - self._pushed
            replaced += self._push_ledger(folder / "ledger.jsonl", size, state)
        if state == self._state:
            return 0
        state["by"] = [self._token, self._number + 1]
        key = f"state/{self._number + 1:08d}"
        # One that is there may be our own, put by a request whose answer was lost.
        if not self._create(key, json.dumps(state).encode()) and self._json(key) != state:
            raise TakenOverError(f"{self.uri}: another driver has taken over this sweep")
        old_state = self._number
        self._known, self._manifests = known, manifests
        self._number, self._state, self._pushed = self._number + 1, state, size
        # Readers may still be at the last state but one.
        self._delete([*self._garbage, *([f"state/{old_state - 1:08d}"] if old_state > 1 else [])])
        self._garbage = replaced
        return sent

    def _push_trial(
        self, folder: Path, name: str
    ) -> tuple[_Known, _Manifest, int, list[str]] | None:
        """Put what has changed of a trial.

        Returns:
            What is known of it then, its manifest, bytes sent, and objects needed no more; ``None``
            if nothing has changed.
        """
        known, manifest = self._known.get(name, {}), self._manifests.get(name, {})
        for _ in range(_TRIES):
            before = _signature(folder)
            if before == known:
                return None
            added: dict[str, list[Any]] = {}
            with suppress(FileNotFoundError):
                for inner, stat in before.items():
                    if known.get(inner) != stat:
                        data = (folder / inner).read_bytes()
                        added[inner] = [self._new(data), len(data)]
                # A folder that was replaced meanwhile would be half old and half new.
                if _signature(folder) == before:
                    break
            self._delete([key for key, _ in added.values()])
        else:
            return None  # it changes all the time; the next push has it
        gone = [
            key for inner, (key, _) in manifest.items() if inner not in before or inner in added
        ]
        kept = {inner: value for inner, value in manifest.items() if inner in before}
        return before, {**kept, **added}, sum(size for _, size in added.values()), gone

    def _push_ledger(self, path: Path, size: int, state: dict[str, Any]) -> list[str]:
        begin, replaced = self._pushed, []
        if len(state["ledger"]) >= _MOST_PIECES:
            begin, replaced = 0, [key for key, _ in state["ledger"]]
            state["ledger"] = []
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read(size - begin)
        state["ledger"].append([self._new(data), len(data)])
        return replaced

    # -- reading -----------------------------------------------------------------------------------

    def fetch(self, folder: Path, part: Part = "all") -> None:
        """Write the copy into a folder, which may be an older one of the same experiment.

        Args:
            folder: Where to.
            part: ``all``; ``results`` without what trials go on from; or the ``ledger`` alone.

        Raises:
            ExperimentError: There is no copy, or the folder's sweep has gone on by itself.
        """
        for tried in range(_TRIES):
            self._read()
            if not self._number:
                raise ExperimentError(f"{self.uri}: there is no such experiment")
            try:
                self._write(folder, part)
                return
            except FileNotFoundError:  # a driver went on meanwhile
                if tried == _TRIES - 1:
                    raise

    def _write(self, folder: Path, part: Part) -> None:
        ledger = b"".join(self._get(key) for key, _ in self._state["ledger"])
        here = folder / "ledger.jsonl"
        if here.is_file():
            own = here.read_bytes()
            if len(own) > len(ledger) and own.startswith(ledger):
                return  # the folder is ahead: its driver could not send the rest
            if not ledger.startswith(own):
                raise ExperimentError(
                    f"{folder}: this sweep and its copy at {self.uri} have gone on apart\n"
                    "  try:     another folder; kdsweep resume goes on with either of them"
                )
        for name, (key, _) in self._state["files"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, self._get(key))
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        for trial, manifest in self._manifests.items() if part != "ledger" else ():
            for inner, (key, _) in manifest.items():
                if part == "all" or not inner.startswith(_CHECKPOINTS):
                    path = folder / "trials" / trial / inner
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_bytes(path, self._get(key))
            if part == "all":
                # What else is there came before the copy, and is not part of it.
                signature = _signature(folder / "trials" / trial)
                self._known[trial] = {i: s for i, s in signature.items() if i in manifest}
        write_bytes(here, ledger)

    def _read(self) -> None:
        numbers = self._numbers("state")
        if numbers:
            self._number = numbers[-1]
            self._state = self._json(f"state/{self._number:08d}")
            self._manifests = {t: self._json(key) for t, key in self._state["trials"].items()}
            self._known.clear()
        self._pushed = sum(size for _, size in self._state["ledger"])

    # -- objects -----------------------------------------------------------------------------------

    def _numbers(self, kind: str) -> list[int]:
        return sorted(int(name.rpartition("/")[2]) for name in names_in(self._store, f"{kind}/"))

    def _new(self, data: bytes) -> str:
        key = f"objects/{uuid.uuid4().hex}"
        self._put(key, data)
        return key

    def _create(self, key: str, data: bytes) -> bool:
        """Put an object unless there is one; return whether it was put."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._put(key, data, mode="create")
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def _put(self, key: str, data: bytes, **options: Any) -> None:
        import obstore

        obstore.put(self._store, key, data, **options)

    def _get(self, key: str) -> bytes:
        import obstore

        return bytes(obstore.get(self._store, key).bytes())

    def _json(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._get(key))
        return found

    def _delete(self, keys: list[str]) -> None:
        import obstore

        if keys:
            with suppress(Exception):  # what is left over costs space, and nothing else
                obstore.delete(self._store, keys)


def open_store(uri: str) -> Any:
    """Return the store at an address.

    Raises:
        MachineError: It is of no known kind, or the package is missing.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise MachineError(
            f"{uri}: object stores need the package obstore\n"
            "  try:     pip install 'kdsweep[storage]'"
        ) from None
    options: dict[str, Any] = {"mkdir": True} if uri.startswith("file://") else {}
    try:
        return from_url(uri, **options)
    except (BaseError, ValueError, TypeError) as error:
        raise MachineError(
            f"{uri}: not an address of an object store: {in_short(error)}\n"
            "  allowed: s3://BUCKET/PREFIX, gs://…, az://…, file:///FOLDER"
        ) from error


def names_in(store: Any, prefix: str) -> Iterator[str]:
    """Yield the names of the objects that begin so."""
    import obstore

    for batch in obstore.list(store, prefix):
        for found in batch:
            yield str(found["path"])


def in_short(error: Exception) -> str:
    """Return the first line of what a store's client says, without the store's answer in XML."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(": <?xml")[0]


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Turn what a store's client raises into an error in words."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        raise MachineError(
            f"{uri}: the object store does not answer, or not as it should: "
            f"{in_short(error)}\n  try:     {_CREDENTIALS}"
        ) from error


def check_writable(uri: str) -> None:
    """Raise a MachineError unless objects can be put at an address, and only once."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    store, key = open_store(uri), f".kdsweep-{uuid.uuid4().hex}"
    try:
        obstore.put(store, key, b"", mode="create")
        try:
            obstore.put(store, key, b"", mode="create")
        except (AlreadyExistsError, PreconditionError):
            return
        finally:
            obstore.delete(store, [key])
    except (BaseError, OSError) as error:
        raise MachineError(
            f"{uri}: nothing can be written there: {in_short(error)}\n  try:     {_CREDENTIALS}"
        ) from error
    raise MachineError(
        f"{uri}: this store lets two writers create the same object, so two drivers could not be "
        "kept apart\n  try:     a store with conditional puts (S3, GCS, Azure, recent MinIO)"
    )


def fetched(uri: str, part: Part, parent: Path) -> Path:
    """Return a folder with a copy's content.

    Args:
        uri: The copy's address.
        part: See :meth:`ObjectStoreCopy.fetch`.
        parent: Folder that gets the folder, named as the experiment.
    """
    folder = parent / uri.rpartition("/")[2]
    with _answering(uri):
        ObjectStoreCopy(uri).fetch(folder, part)
    return folder


def cache_of(uri: str) -> Path:
    """Return the folder of this user where copies from an address are looked at."""
    return temporary_home() / "copies" / hashlib.sha256(uri.encode()).hexdigest()[:16]


def experiments_at(uri: str) -> list[str]:
    """Return the names of the experiments that have a copy at an address."""
    with _answering(uri):
        names = [name.split("/") for name in names_in(open_store(uri), "")]
    return sorted({parts[0] for parts in names if len(parts) > 2 and parts[1] == "state"})


def _is_dead(held: dict[str, Any]) -> bool:
    """Return whether a lease is of a process of this machine that is no more."""
    if held["host"] != socket.gethostname():
        return False
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _signature(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for inner in files_in(folder):
        with suppress(FileNotFoundError):
            stat = (folder / inner).stat()
            found[inner] = (stat.st_size, stat.st_mtime_ns)
    return found


def _whole_lines(path: Path) -> int:
    """Return how many bytes of a file end with a line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 20)))
        tail = file.read()
    return size - (len(tail) - tail.rfind(b"\n") - 1 if b"\n" in tail else len(tail))
