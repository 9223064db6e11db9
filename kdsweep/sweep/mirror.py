"""A copy of the study for optuna-dashboard, written beside the sweep and never read back."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.ledger import Event
from kdsweep.ledger.events import trial_of
from kdsweep.ledger.state import Sweep
from kdsweep.sweep.study import Study

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_LOCK_SECONDS = 20.0  # somebody who looks at a long study holds it for seconds


def _empty(path: Path, lock_seconds: float) -> None:
    """Empty a database in place; a file that is not a database makes way.

    Unlinking it under a reader breaks the next one: SQLite knows a journal by its name alone, so
    the reader of the old file takes the new file's journal for its own, rolls it back and deletes
    it under the writer.
    """
    if not path.exists():
        return
    deadline = time.monotonic() + lock_seconds

    def give_up(status: int, remaining: int, total: int) -> None:
        # By itself a backup waits for ever for who holds a lock.
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    with closing(sqlite3.connect(":memory:")) as nothing:
        try:
            with closing(sqlite3.connect(path, timeout=lock_seconds)) as database:
                nothing.backup(database, progress=give_up)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # a lock or a full disk, which a new file would not mend
            path.unlink()


class StudyMirror:
    """Writes trials that have ended into an Optuna database, in a thread of its own.

    A database write takes 10 ms and more, opening one about a second: too long for the loop that
    hands out trials. A database that cannot be written costs one warning, not the sweep.

    Args:
        path: The SQLite file. It is made anew in each session.
        study: Where the trials come from.
        warn: Told once if the file cannot be written.
        lock_seconds: How long to wait for somebody who holds the file.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        study: Study,
        warn: Callable[[str], None],
        lock_seconds: float = _LOCK_SECONDS,
    ) -> None:
        self._path = path
        self._name = name
        self._source = study
        self._warn = warn
        self._lock_seconds = lock_seconds
        self._worker = ThreadPoolExecutor(1, "kdsweep-mirror")
        self._copy: optuna.Study | None = None
        self._is_broken = False
        ended = [trial for trial in study.trials().values() if trial.state.is_finished()]
        if ended:
            self._worker.submit(self._write, ended)

    def event(self, sweep: Sweep, event: Event) -> None:
        """Copy the trial that an event ends."""
        number = trial_of(event)
        trial = None if number is None else sweep.trials.get(number)
        if trial is not None and trial.state.is_final and not trial.is_control:
            self._worker.submit(self._write, [self._source.trial(trial.number)])

    def close(self) -> None:
        """Wait until everything is written."""
        self._worker.shutdown(wait=True)

    def _write(self, trials: list[FrozenTrial]) -> None:
        if self._is_broken:
            return
        try:
            self._copy = self._copy or self._open()
            for trial in trials:
                self._copy.add_trial(trial)
        except Exception as error:
            # Whatever is wrong with the database, the sweep does not depend on it.
            self._is_broken = True
            self._warn(f"{self._path}: the copy for optuna-dashboard could not be written: {error}")

    def _open(self) -> optuna.Study:
        import optuna

        _empty(self._path, self._lock_seconds)
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self._path}", {"connect_args": {"timeout": self._lock_seconds}}
        )
        study = optuna.create_study(
            storage=storage, study_name=self._name, directions=self._source.directions
        )
        objectives = self._source.space.sweep.objectives
        if len(objectives) > 1:
            with warnings.catch_warnings():
                # Optuna calls this experimental; it has been in place for years.
                warnings.simplefilter("ignore")
                study.set_metric_names([objective.key for objective in objectives])
        return study
