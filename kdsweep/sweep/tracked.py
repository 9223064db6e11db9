"""Tells a tracker what the ledger says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from kdsweep.store import Event, Experiment
from kdsweep.sweep.state import Sweep, Trial
from kdsweep.tracking import SweepSummary, Tracker, TrialDetails

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
        self._best: dict[int, Event] = {}
        self._sweep: Sweep | None = None
        for event in events:
            self._remember(event)

    def event(self, sweep: Sweep, event: Event) -> None:
        """Tell the tracker about starts, epochs and ends of trials."""
        self._sweep = sweep
        self._remember(event)
        number = event.get("trial", -1)
        trial = sweep.trials.get(number)
        if trial is None:
            return
        if event["event"] == "start" and number not in self._known:
            self._known.add(number)
            kind = "control" if trial.is_control else "search"
            job = sweep.job_to_run(number)
            self._tracker.trial(number, trial.label, job, kind, trial.params)
        elif event["event"] == "epoch":
            numbers = {k: v for k, v in event["metrics"].items() if v is not None}
            self._tracker.epoch(number, event["epoch"], numbers)
        if trial.state.is_final and number in self._known:
            # A resumed session's tracker has not seen the epochs before it; the ledger has.
            best = {} if trial.best is None else {f"best/{sweep.header['metric']}": trial.best}
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
        """Keep each trial's best epoch: the first one with the highest value."""
        if event["event"] == "epoch":
            best = self._best.get(event["trial"])
            if best is None or event["value"] > best["value"]:
                self._best[event["trial"]] = event

    def _details(self, sweep: Sweep, trial: Trial) -> TrialDetails | None:
        best = self._best.pop(trial.number, None)
        if best is None:
            return None
        return TrialDetails(
            epochs=trial.epoch,
            best_epoch=best["epoch"],
            classes=sweep.header["data"].get("classes", ()),
            ious=best["classes"],
            frames=self._experiment.trial(trial.number).frame_pictures(),
        )
