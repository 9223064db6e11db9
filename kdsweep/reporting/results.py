"""The results of a sweep as pandas tables: a pure function of its ledger.

Works at any moment of a sweep's life: before its first epoch, while it runs, after a crash, and
when every trial failed. Numbers that are not there are ``NaN`` or ``<NA>``, never zero.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd

from kdsweep.errors import KdsweepError
from kdsweep.ledger import Event, Experiment, iter_ledger
from kdsweep.ledger.driven import is_driven
from kdsweep.ledger.events import Kind, decode_numbers
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import ITSELF, LABELS
from kdsweep.reporting.confirmation import claims_in, confirmation_table
from kdsweep.reporting.confirmations import confirmed_source, confirming
from kdsweep.reporting.epochs import EpochColumns, read_epochs
from kdsweep.reporting.gains import gain_table
from kdsweep.reporting.pareto import front_table
from kdsweep.reporting.summary import ConfirmedBy, Summary, summarize
from kdsweep.reporting.tables import (
    class_table,
    eligible,
    epoch_table,
    failure_table,
    pair_table,
    rank,
    trial_table,
)
from kdsweep.reporting.terms import term_table


@dataclass(frozen=True, eq=False)
class Results:
    """What a sweep has found so far.

    Where its data have changed, and that was accepted, all tables hold the trials on the newest
    data only.

    Attributes:
        trials: One row per trial, controls included: ``number, kind, label, student, teacher,
            state, value`` (best value of the sweep's metric), ``best_epoch, last`` (value of the
            last epoch), ``epochs`` (finished), ``planned_epochs`` (at full length),
            ``teacher_miou`` and ``agreement`` (share of
            labelled validation pixels where student and teacher predict the same class; both at the
            best epoch), ``gain, lead`` (the teacher's value at the best epoch minus the control's),
            ``control, params_m`` (millions), what a frame costs the student at
            inference (``macs_g``: billions of multiply-accumulates; ``latency_ms, latency_p95_ms``:
            median and 95th percentile; ``inference_mb``: peak memory; missing in old ledgers; what
            is measured is the median over all trainings of the same network, the epochs have each
            trial's own), ``teacher_latency_ms`` likewise,
            ``hours`` (spent training), ``attempts, seed, seed_compat_iou``, ``breaks_bound``
            (whether it costs more than the sweep allows: it ended with the epoch that showed it,
            and is never called best), and one ``param:<path>`` per drawn parameter. ``teacher`` is
            ``itself`` for a student that is taught by its own average. Where there are such
            controls, ``self_gain`` is the gain over the trial's own; where unlabelled frames count
            by the teacher's confidence, ``confident`` is the share of their pixels that do.
        epochs: One row per finished epoch: ``trial, attempt, epoch, value, stop, time`` and every
            metric of the epoch report.
        pairs: One row per teacher and student, best first; the teacher of controls is missing, or
            ``itself``.
            Numbers of trials by fate (those in ``num_too_costly`` are no ``num_stopped``),
            ``best``, ``median`` (over trials with an epoch, early-stopped ones at what they
            reached: after ``least_epochs`` to ``most_epochs``), ``median_gain, params_m``, and of
            the best trial ``best_trial, best_gain, best_epochs`` (finished), ``planned_epochs``.
        front: For a sweep with several metrics the trials that no other beats in everything, best
            score first: ``trial, label, student, teacher``, each metric by its name at the trial's
            best epoch, ``gain, best_epoch, epochs, planned_epochs, state``; empty for a single
            metric.
        gains: One row per search trial: its best value beside its control's within the same epochs.
            ``reason`` says why a gain is missing; ``matched`` whether control and trial differ in
            nothing but teacher and distillation; ``lead`` and ``time_ratio`` compare teacher and
            time with the control's, ``self_control, self_value, self_gain`` stand where there are
            self-taught controls, ``labels_control, headroom`` where there are some with the labels
            that the data leave out.
        classes: IoU of each class at each trial's best epoch, for ``student`` and ``teacher``, and
            for the ``control`` at its own best epoch within as many epochs.
        terms: One row per trial and distillation term, at the trial's best epoch: ``raw`` and
            ``weighted`` value, ``ramp, share`` of the student's gradient norm and its median over
            the epochs in which the term was fully weighted, ``labels_share`` (of the loss on
            labels), and ``verdict``: ``negligible`` (below 1 % of the gradient), ``dominant``
            (above 95 %) or missing.
        confirmation: One row per confirmed job and split (and per control that it is compared
            ``against``, where there are two): means, the paired gain with its
            intervals, and what may be claimed; empty but for a confirmation.
        failures: One row per failure, retried ones included.
        summary: Counts, budgets, the best trial, and what has to be kept in mind.
    """

    trials: pd.DataFrame
    epochs: pd.DataFrame
    pairs: pd.DataFrame
    front: pd.DataFrame
    gains: pd.DataFrame
    classes: pd.DataFrame
    terms: pd.DataFrame
    confirmation: pd.DataFrame
    failures: pd.DataFrame
    summary: Summary

    def __repr__(self) -> str:
        """Return one line; the tables have a repr of their own."""
        summary, best = self.summary, self.summary.best
        scored = "no epoch yet"
        if best is not None:
            scored = f"best {best.label} {summary.metric} {best.value:.3f}"
        return (
            f"<Results {summary.name or 'of no sweep'}: {summary.state}, "
            f"{summary.num_trials} trials, {len(self.epochs)} epochs, {scored}>"
        )

    def _repr_html_(self) -> str:
        """Return the line and the best trials, for notebooks."""
        best = self.ranked().head(5)[["number", "label", "value", "gain", "params_m", "state"]]
        return f"<p>{html.escape(repr(self))}</p>" + best.to_html(
            index=False, float_format="{:.3g}".format
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables by name."""
        names = [field.name for field in fields(self) if field.name != "summary"]
        return {name: getattr(self, name) for name in names}

    def best_classes(self) -> pd.DataFrame:
        """Return the classes of the best student with its ``gain``; none before there is one."""
        best = self.summary.best
        rows = self.classes[self.classes["trial"] == (-1 if best is None else best.number)]
        if best is not None and best.teacher in (None, ITSELF, LABELS):
            # A control may train beside a teacher, which is not its own.
            rows = rows.assign(teacher=math.nan)
        return rows.assign(gain=rows["student"] - rows["control"])

    def ranked(self) -> pd.DataFrame:
        """Return the trials that may be called best, best first; of equal ones the smaller.

        These are the ones that have a value and cost no more than allowed, controls included.
        """
        return rank(eligible(self.trials))

    def searched(self) -> pd.DataFrame:
        """Return those of :meth:`ranked` that were drawn from the space."""
        ranked = self.ranked()
        return ranked[ranked["kind"] == Kind.SEARCH]


def load(path: Path | str) -> Results:
    """Return the results of the experiment in a folder.

    Args:
        path: The experiment's folder, for example ``experiments/latest``.

    Raises:
        ExperimentError: There is no experiment.
        LedgerError: Its ledger is damaged other than in its last line.
    """
    experiment = Experiment.open(path)
    source = confirmed_source(experiment)
    results = _load(experiment)
    summary = replace(
        results.summary,
        confirms=None if source is None else str(source),
        confirmed_by=[_claims_of(other) for other in confirming(experiment)],
    )
    return replace(results, summary=summary)


def _load(experiment: Experiment) -> Results:
    sweep, columns = read_epochs(iter_ledger(experiment.ledger, decode_numbers))
    return _results(sweep, columns, experiment.path, is_driven(experiment, sweep))


def _claims_of(experiment: Experiment) -> ConfirmedBy:
    """Return what a confirming experiment says; damage of it is no fault of its source."""
    path = str(experiment.path)
    try:
        results = _load(experiment)
    except (KdsweepError, OSError, KeyError, TypeError, ValueError) as error:
        first = str(error) if isinstance(error, KdsweepError) else repr(error)
        return ConfirmedBy(path, first.split("\n")[0], "damaged", [])
    summary, claims = results.summary, claims_in(results.confirmation)
    other_data = summary.data.get("other_data", [])
    return ConfirmedBy(path, None, summary.state, claims, summary.protocol, other_data)


def results_from_events(
    events: Iterable[Event], *, folder: Path | None = None, driver_alive: bool | None = None
) -> Results:
    """Return the results that a ledger's events amount to.

    Args:
        events: The events in their order; an iterator will do.
        folder: The experiment's folder, for the paths of logs.
        driver_alive: Whether a driver holds the ledger; ``None`` if not known, and the ledger is
            then taken at its word.
    """
    return _results(*read_epochs(events), folder, driver_alive)


def _results(
    sweep: Sweep, columns: EpochColumns, folder: Path | None, driver_alive: bool | None
) -> Results:
    if driver_alive is False and sweep.ending is None:
        sweep.interrupt()
    experiment = Experiment(folder if folder is not None else Path())
    epochs = epoch_table(columns)
    if sweep.parts:
        outdated = [number for number, trial in sweep.trials.items() if trial.is_outdated]
        epochs = epochs[~epochs["trial"].isin(outdated)].reset_index(drop=True)
    trials = trial_table(sweep, epochs)
    gains = gain_table(sweep, trials, epochs, columns)
    by_trial = gains.set_index("trial")
    for name in ("gain", "lead", "self_gain", "headroom"):
        if name in by_trial:
            trials[name] = trials["number"].map(by_trial[name]).astype("float64")
    return Results(
        trials=trials,
        epochs=epochs,
        pairs=pair_table(trials),
        front=front_table(sweep, trials),
        gains=gains,
        classes=class_table(sweep, columns),
        terms=term_table(trials, epochs),
        confirmation=confirmation_table(sweep, trials, epochs),
        failures=failure_table(sweep, experiment, relative=folder is None),
        summary=summarize(sweep, trials, gains, folder, driver_alive),
    )
