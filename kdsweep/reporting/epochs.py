"""The numbers of every epoch as plain columns, read beside the fold that says what they mean.

Nothing here knows pandas: :mod:`kdsweep.reporting.tables` makes tables of it. Events may come from
an iterator; of each epoch only its numbers are kept, so that 10,000 trials stay small.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Collection, Iterable

import numpy as np
from msgspec import Raw

from kdsweep.ledger import Event
from kdsweep.ledger.events import ClassIoUs, EpochEvent, EpochNumbers, class_ious
from kdsweep.ledger.state import Sweep

_ROW = struct.Struct("=qqqddd")
_ROW_TYPE = np.dtype(
    [(n, "i8") for n in ("trial", "attempt", "epoch")]
    + [(n, "f8") for n in ("value", "time", "seconds")]
)


class _Block:
    """The numbers of all epochs that have one set of metrics: their places, and rows of doubles."""

    def __init__(self, num_metrics: int) -> None:
        self.rows = array("q")
        self.numbers = bytearray()
        self._pack = struct.Struct(f"{num_metrics}d").pack

    def append(self, row: int, values: Collection[float | None]) -> None:
        """Add an epoch; a missing number becomes ``NaN``."""
        try:
            packed = self._pack(*values)
        except struct.error:
            packed = self._pack(*map(_number, values))
        self.numbers += packed
        self.rows.append(row)


class EpochColumns:
    """Every epoch of every trial as columns of numbers.

    Reports of one kind of trial all have the same metrics, so the numbers of a report are appended
    as one row of bytes to a matrix for its set of metrics, far cheaper than one column at a time.

    Attributes:
        stop: The decision on each epoch.
    """

    def __init__(self) -> None:
        self.stop: list[str | None] = []
        self._rows = bytearray()
        # For each set of metrics the places of its epochs, and their numbers row by row.
        self._blocks: dict[tuple[str, ...], _Block] = {}
        # By trial and epoch, as JSON where nobody has asked for them: those of each search trial's
        # best epoch so far, and all of the controls, which are compared at several.
        self._classes: dict[int, dict[int, Raw | ClassIoUs]] = {}

    def __len__(self) -> int:
        return len(self.stop)

    def rows(self) -> np.ndarray:
        """Return ``trial, attempt, epoch, value, time, seconds``, in the order of the ledger."""
        return np.frombuffer(bytes(self._rows), dtype=_ROW_TYPE)

    def append(self, event: EpochEvent | EpochNumbers, sweep: Sweep) -> None:
        """Add an epoch that was just taken into the state."""
        metrics = event.metrics or {}
        keys = tuple(metrics)
        block = self._blocks.get(keys)
        if block is None:
            block = self._blocks[keys] = _Block(len(keys))
        block.append(len(self.stop), metrics.values())
        place = event.trial, event.attempt, event.epoch
        self._rows += _ROW.pack(*place, _number(event.value), event.time, event.seconds)
        self.stop.append(event.stop)
        trial = sweep.trials[event.trial]
        if trial.is_control:
            self._classes.setdefault(event.trial, {})[event.epoch] = _kept(event.classes)
        elif trial.best_epoch == event.epoch:
            self._classes[event.trial] = {event.epoch: _kept(event.classes)}

    def classes(self, trial: int, epoch: int | None) -> ClassIoUs:
        """Return the IoU of each class by network at a trial's best epoch or any of a control."""
        found = None if epoch is None else self._classes.get(trial, {}).get(epoch)
        return class_ious(found)

    def metrics(self, order: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric's column, ``NaN`` where an epoch does not have it.

        Args:
            order: The epochs wanted, by their place in the order in which they were appended.
        """
        places = np.full(len(self), -1)
        places[order] = np.arange(len(order))
        columns: dict[str, np.ndarray] = {}
        for keys, block in self._blocks.items():
            matrix = np.frombuffer(block.numbers).reshape(len(block.rows), len(keys))
            into = places[np.asarray(block.rows)]
            wanted = into >= 0
            for index, key in enumerate(keys):
                column = columns.setdefault(key, np.full(len(order), np.nan))
                column[into[wanted]] = matrix[wanted, index]
        return columns


def read_epochs(events: Iterable[Event]) -> tuple[Sweep, EpochColumns]:
    """Return the state of a sweep, and the numbers of its epochs.

    Args:
        events: The ledger's events in their order, of epochs at least their numbers.
    """
    sweep, columns = Sweep(), EpochColumns()
    for event in events:
        sweep.apply(event)
        if isinstance(event, (EpochNumbers, EpochEvent)):
            columns.append(event, sweep)
    return sweep, columns


def _kept(classes: Raw | ClassIoUs | None) -> Raw | ClassIoUs:
    # What was not read is part of its line, which must not be kept with it.
    return classes.copy() if isinstance(classes, Raw) else classes or {}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
