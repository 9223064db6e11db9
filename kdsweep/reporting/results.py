"""The results of a sweep as pandas tables: a pure function of its ledger.

Works at any moment of a sweep's life: before its first epoch, while it runs, after a crash, and
when every trial failed. Numbers that are not there are ``NaN`` or ``<NA>``, never zero.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdsweep.reporting.gains import gain_table
from kdsweep.reporting.history import Event, History
from kdsweep.reporting.summary import summarize
from kdsweep.reporting.tables import (
    class_table,
    epoch_table,
    failure_table,
    pair_table,
    rank,
    trial_table,
)
from kdsweep.store import Experiment, read_ledger


@dataclass(frozen=True, eq=False)
class Results:
    """What a sweep has found so far.

    Attributes:
        trials: One row per trial, controls included: ``number, kind, label, student, teacher,
            state, value`` (best value of the sweep's metric), ``best_epoch, last`` (value of the
            last epoch), ``epochs`` (finished), ``teacher_miou`` (at the best epoch), ``gain,
            control, params_m`` (millions), ``hours`` (spent training), ``attempts, seed,
            seed_compat_iou``, and one ``param:<path>`` per drawn parameter.
        epochs: One row per finished epoch: ``trial, attempt, epoch, value, stop, time`` and every
            metric of the epoch report.
        pairs: One row per teacher and student, best first: numbers of trials by fate, ``best``,
            ``median`` (over trials with an epoch, early-stopped ones at what they reached),
            ``best_trial`` and its gain ``best_gain, median_gain, params_m``.
        gains: One row per search trial: its best value beside its control's within the same epochs.
            ``reason`` says why a gain is missing; ``matched`` whether control and trial differ in
            nothing but teacher and distillation.
        classes: IoU of each class at each trial's best epoch, for ``student`` and ``teacher``, and
            for the ``control`` at its own best epoch within as many epochs.
        failures: One row per failure, retried ones included.
        summary: Counts, budgets, the best trial, and what has to be kept in mind, as plain JSON.
    """

    trials: pd.DataFrame
    epochs: pd.DataFrame
    pairs: pd.DataFrame
    gains: pd.DataFrame
    classes: pd.DataFrame
    failures: pd.DataFrame
    summary: dict[str, Any]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        names = ("trials", "epochs", "pairs", "gains", "classes", "failures")
        return {name: getattr(self, name) for name in names}

    def ranked(self) -> pd.DataFrame:
        """The search trials that have a value, best first; of equal ones the smaller student."""
        return rank(self.trials[(self.trials["kind"] == "search") & self.trials["value"].notna()])


def load(path: Path | str) -> Results:
    """The results of the experiment in a folder.

    Args:
        path: The experiment's folder, for example ``experiments/latest``.

    Raises:
        ExperimentError: There is no experiment.
        LedgerError: Its ledger is damaged other than in its last line.
    """
    experiment = Experiment.open(path)
    history = History(read_ledger(experiment.ledger))
    alive = _is_alive(history.sessions[-1].event) if history.sessions else None
    return _results(history, experiment.path, alive)


def results_from_events(
    events: Iterable[Event], *, folder: Path | None = None, driver_alive: bool | None = None
) -> Results:
    """The results that a ledger's events amount to.

    Args:
        events: The events in their order; an iterator will do.
        folder: The experiment's folder, for the paths of logs.
        driver_alive: Whether the last session's process is still there; ``None`` if not known, and
            the ledger is then taken at its word.
    """
    return _results(History(events), folder, driver_alive)


def _results(history: History, folder: Path | None, driver_alive: bool | None) -> Results:
    if driver_alive is False and history.ending is None:
        history.interrupt()
    experiment = Experiment(folder if folder is not None else Path())
    epochs = epoch_table(history)
    trials = trial_table(history, epochs)
    gains = gain_table(history, trials, epochs)
    gain_of = gains.set_index("trial")["gain"]
    trials["gain"] = trials["number"].map(gain_of).astype("float64")
    return Results(
        trials=trials,
        epochs=epochs,
        pairs=pair_table(trials),
        gains=gains,
        classes=class_table(history, trials),
        failures=failure_table(history, experiment, relative=folder is None),
        summary=summarize(history, trials, gains, folder, driver_alive),
    )


def _is_alive(session: Mapping[str, Any]) -> bool | None:
    """Whether a session's process is still there; ``None`` if it was on another machine."""
    if session.get("host") != socket.gethostname() or not session.get("pid"):
        return None
    try:
        os.kill(session["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
