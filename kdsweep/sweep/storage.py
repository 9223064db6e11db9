"""Keeps the copy of an experiment in an object store up to date while its sweep runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from kdsweep.ledger import Event, Experiment
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.events import trial_of
from kdsweep.ledger.object_store import LEASE_SECONDS, ObjectStoreCopy, TakenOverError, in_short
from kdsweep.ledger.state import Sweep
from kdsweep.sweep.outcome import duration

PUSH_SECONDS = 5.0
# How long the end waits for a store that does not answer, and how long if somebody wants to leave.
END_SECONDS, LEAVING_SECONDS = 600.0, 20.0


def copy_of(experiment: Experiment) -> str | None:
    """Return the address of an experiment's copy; ``None`` if it has none."""
    try:
        return str(json.loads(experiment.storage_json.read_text(encoding="utf-8"))["uri"])
    except (OSError, ValueError, KeyError):
        return None


def note_copy(experiment: Experiment, uri: str) -> None:
    """Write down the address of an experiment's copy."""
    write_json(experiment.storage_json, {"uri": uri})


class StorageListener:
    """Sends what a sweep writes, in a thread of its own, and holds the lease.

    A store that does not answer stops nothing: what is missing is sent when it answers again.

    Args:
        copy: The copy, whose lease this process has.
        note: Told where the copy is, when the store does not answer, and how it ended.
        on_lost: Called from the thread if another driver has taken over.
        is_leaving: Tells whether a signal asks the process to end.
        clock: Source of monotonic time.
    """

    def __init__(
        self,
        copy: ObjectStoreCopy,
        experiment: Experiment,
        note: Callable[[str], None],
        on_lost: Callable[[], None],
        is_leaving: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._copy, self._experiment = copy, experiment
        self._note, self._on_lost, self._clock = note, on_lost, clock
        self._is_leaving = is_leaving
        self._changed: set[str] | None = None  # all trials
        self._ledger_bytes: int | None = None  # all of it
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._is_lost = False
        self._failing_since: float | None = None
        self._renewed = clock()
        self._thread = threading.Thread(target=self._work, name="storage", daemon=True)
        note(f"storage:    a copy at {copy.uri}")
        self._thread.start()

    def event(self, sweep: Sweep, event: Event) -> None:
        """Take note of which trial has changed."""
        number = trial_of(event)
        trial = None if number is None else sweep.trials.get(number)
        with self._lock:
            # Its line is the ledger's last one; what comes later may tell of other trials.
            self._ledger_bytes = self._experiment.ledger.stat().st_size
            if self._changed is not None and trial is not None:
                folders = (self._experiment.trial(n).path for n in (trial.number, trial.cohort))
                self._changed |= {folder.name for folder in folders}

    def close(self) -> None:
        """Send the rest, give the lease up, and say whether all of it has arrived."""
        self._closing.set()
        self._thread.join()
        if self._is_lost:
            self._note(
                f"warning: another driver has taken over {self._copy.uri}; what this one did since "
                f"is in {self._experiment.path} alone"
            )
            return
        with self._lock:
            self._changed = self._ledger_bytes = None
        began, is_told = self._clock(), False
        while True:
            problem = self._push()
            patience = LEAVING_SECONDS if self._is_leaving() else END_SECONDS
            if problem is None or self._is_lost or self._clock() - began >= patience:
                break
            if not is_told:
                self._note(
                    f"storage:    {self._copy.uri} does not answer; waiting for it, up to "
                    f"{duration(patience)} (up to {duration(LEAVING_SECONDS)} after Ctrl-C)"
                )
                is_told = True
            time.sleep(min(PUSH_SECONDS, 1.0))
        with suppress(Exception):
            self._copy.release()
        if problem is None:
            self._note(f"storage:    all of it is at {self._copy.uri}")
        else:
            self._note(
                f"warning: not all of this sweep is at {self._copy.uri}: {problem}\n"
                f"  try:     kdsweep resume {self._experiment.path} sends the rest"
            )

    def _work(self) -> None:
        while not self._closing.wait(PUSH_SECONDS) and not self._is_lost:
            problem = self._push()
            if problem is not None and self._failing_since is None:
                self._failing_since = self._clock()
                self._note(f"warning: {self._copy.uri} does not answer, tried again: {problem}")
            elif problem is None and self._failing_since is not None:
                seconds = self._clock() - self._failing_since
                self._failing_since = None
                self._note(f"storage:    {self._copy.uri} answers again after {seconds:.0f} s")

    def _push(self) -> str | None:
        """Send what has changed; return why that was not possible."""
        with self._lock:
            changed, self._changed = self._changed, set()
            size = self._ledger_bytes
        try:
            if self._clock() - self._renewed > LEASE_SECONDS / 3:
                self._copy.renew()
                self._renewed = self._clock()
            self._copy.push(self._experiment.path, changed, size)
        except TakenOverError:
            self._is_lost = True
            self._on_lost()
            return "another driver has taken over"
        except Exception as error:
            with self._lock:  # all the same next time
                self._changed = None if changed is None else (self._changed or set()) | changed
            return in_short(error)
        return None
