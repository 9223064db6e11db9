"""Tells a tracker what the ledger says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from kdsweep.ledger import Event, Experiment
from kdsweep.ledger.events import EpochEvent, FailEvent, Failure, StartEvent, trial_of
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import Trial
from kdsweep.tracking import DATA_FINGERPRINT, SweepSummary, Tracker, TrialDetails

# An interrupted driver is expected to be gone in seconds; its resumed session has the summary.
_HURRIED = ("sigint", "sigterm", "sighup")

MakeSummary = Callable[[Path, int], SweepSummary]
"""Makes the summary of an experiment from its folder and the number of its last session."""


class TrackerListener:
    """Passes events on to a tracker.

    Args:
        tracker: As :func:`kdsweep.tracking.open_tracker` gives it.
        experiment: Where the trials' pictures are.
        events: The ledger's events so far, of sessions before this one.
        make_summary: Called when the session has ended; without it the tracker gets no summary.
        warn: Tells the user that there is no summary.
    """

    def __init__(
        self,
        tracker: Tracker,
        experiment: Experiment,
        events: Iterable[Event] = (),
        make_summary: MakeSummary | None = None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._tracker = tracker
        self._experiment = experiment
        self._make_summary = make_summary
        self._warn = warn
        self._known: set[int] = set()
        # Of trials that have not ended, by epoch; whichever is best by then is told.
        self._epochs: dict[int, dict[int, EpochEvent]] = {}
        self._sweep: Sweep | None = None
        for event in events:
            self._remember(event)

    def event(self, sweep: Sweep, event: Event) -> None:
        """Tell the tracker about starts, epochs and ends of trials."""
        self._sweep = sweep
        self._remember(event)
        number = trial_of(event)
        trial = None if number is None else sweep.trials.get(number)
        if trial is None or number is None:
            return
        if isinstance(event, StartEvent) and number not in self._known:
            self._known.add(number)
            job = sweep.job_to_run(number)
            data = {} if event.data is None else {DATA_FINGERPRINT: event.data}
            params = {**trial.params, **data}
            self._tracker.trial(number, trial.label, job, trial.kind, params)
        elif isinstance(event, EpochEvent):
            numbers = {k: v for k, v in event.metrics.items() if v is not None}
            self._tracker.epoch(number, event.epoch, numbers)
        elif isinstance(event, FailEvent) and event.failure == Failure.HANG:
            self._tracker.alert(number, event.message)
        if trial.state.is_final and number in self._known:
            # A resumed session's tracker has not seen the epochs before it; the ledger has.
            best = {} if trial.best is None else {f"best/{sweep.header.metric}": trial.best}
            details = self._details(sweep, trial)
            self._tracker.trial_end(number, str(trial.state), best, details)

    def close(self) -> None:
        """Send what is left."""
        sweep = self._sweep
        try:
            if (
                sweep is not None
                and self._make_summary is not None
                and self._tracker.is_active
                and (sweep.is_done or sweep.paused not in (None, *_HURRIED))
            ):
                summary = self._make_summary(self._experiment.path, len(sweep.sessions))
                self._tracker.summary(summary)
        except Exception as error:  # the sweep is over and safe, whatever a report stumbles on
            self._warn(f"trackers get no summary of the sweep: {type(error).__name__}: {error}")
        finally:
            self._tracker.close()

    def _remember(self, event: Event) -> None:
        if isinstance(event, EpochEvent):
            self._epochs.setdefault(event.trial, {})[event.epoch] = event

    def _details(self, sweep: Sweep, trial: Trial) -> TrialDetails | None:
        epochs = self._epochs.pop(trial.number, {})
        if trial.best_epoch not in epochs:
            return None
        best = epochs[trial.best_epoch]
        return TrialDetails(
            epochs=trial.epoch,
            best_epoch=best.epoch,
            classes=sweep.header.data.get("classes", ()),
            ious=best.classes or {},
            frames=self._experiment.trial(trial.number).frame_pictures(),
        )
