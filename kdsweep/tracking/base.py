"""What a sweep tells a tracker. The ledger stays the only record: a tracker may lose everything.

A tracker has two sides. The driver talks to a :class:`Tracker`, which never fails and never waits.
Behind it a :class:`RunWriter` does the work in a process of its own, where it may do both
(:mod:`kdsweep.tracking.sidecar`). A new tracker is a ``RunWriter`` and its keys in ``tracking:``.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import override

DATA_FINGERPRINT = "data_fingerprint"
"""Among the parameters of a trial: which data it is trained on."""


@dataclass(frozen=True)
class TrialDetails:
    """What is shown of a trial besides its curves, all of it at its best epoch.

    Attributes:
        epochs: Epochs that the trial has finished.
        best_epoch: The epoch that the rest is about.
        classes: Names of the classes.
        ious: IoU of each class by network (``student``, ``teacher``); ``None`` where a class is
            absent from labels and predictions.
        frames: Pictures of validation frames, by the frame's number and by what they show:
            ``image`` as RGB, ``truth``, ``student`` and ``teacher`` as class ids (255 = void) in
            files whose palette has the colours of the classes.
    """

    epochs: int
    best_epoch: int
    classes: Sequence[str] = ()
    ious: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    frames: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)

    def class_rows(self) -> list[dict[str, Any]]:
        """Return a row for each class, with its name and its IoU by network."""
        return [
            {"class": name, **{network: ious[index] for network, ious in self.ious.items()}}
            for index, name in enumerate(self.classes if self.ious else ())
        ]


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep has found.

    Attributes:
        session: Number of the session at whose end this is known, from 1.
        facts: Single numbers and texts.
        tables: Rows by the table's name; the keys of a row are the table's columns.
    """

    session: int
    facts: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    page: Path | None = None


class Tracker(Protocol):
    """Somewhere that trials are sent to besides the ledger.

    No method raises because of what is behind it, and none waits for it, but :meth:`close`, which
    waits for a limited time. What goes wrong is one warning.
    """

    @property
    def is_active(self) -> bool:
        """Whether anything that it is told goes anywhere."""

    def trial(
        self,
        number: int,
        label: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """A trial begins, or goes on in the same run; see :meth:`RunWriter.trial`.

        Its ``label`` is for tables, for example ``resnet34→resnet18``.
        """

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """A trial finished its epoch number ``epoch``, counted from 1."""

    def alert(self, number: int, text: str) -> None:
        """Something about a trial that somebody may have to look at."""

    def trial_end(
        self,
        number: int,
        state: str,
        summary: Mapping[str, Any] | None = None,
        details: TrialDetails | None = None,
    ) -> None:
        """A trial will report no more; see :meth:`RunWriter.trial_end`.

        The best mIoU of the epochs seen by this tracker is known without ``summary``; one that was
        resumed has seen only a part.
        """

    def summary(self, summary: SweepSummary) -> None:
        """The sweep has ended, or its session."""

    def close(self) -> None:
        """Send what is left. Trials that have not ended were interrupted."""


class Trackers(Tracker):
    """Several trackers as one; none of them does nothing."""

    def __init__(self, members: Sequence[Tracker] = ()) -> None:
        self.members = tuple(members)

    @property
    @override
    def is_active(self) -> bool:
        return any(member.is_active for member in self.members)

    @override
    def trial(
        self,
        number: int,
        label: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        for member in self.members:
            member.trial(number, label, job, kind, params)

    @override
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float | None]) -> None:
        for member in self.members:
            member.epoch(number, epoch, metrics)

    @override
    def alert(self, number: int, text: str) -> None:
        for member in self.members:
            member.alert(number, text)

    @override
    def trial_end(
        self,
        number: int,
        state: str,
        summary: Mapping[str, Any] | None = None,
        details: TrialDetails | None = None,
    ) -> None:
        for member in self.members:
            member.trial_end(number, state, summary, details)

    @override
    def summary(self, summary: SweepSummary) -> None:
        for member in self.members:
            member.summary(summary)

    @override
    def close(self) -> None:
        for member in self.members:
            member.close()


class Host(Protocol):
    """What a :class:`RunWriter` can ask of the process that it lives in."""

    def warn(self, text: str) -> None:
        """Tell the user something; only the first such text of a session is shown."""

    def tell(self, key: str, value: Any) -> None:
        """Send a value to the driver's side of this tracker."""

    def seconds(self, wanted: float) -> float:
        """Return how long a server may be waited for: less when the driver waits for the end."""


class RunWriter(ABC):
    """A tracker's own side: writes trials as runs, in a process of its own.

    Any method may raise, which is one warning and the end of the run that it was about; take its
    time, which costs the sweep nothing; or hang: the process ends a minute after the driver. Every
    message about a run comes between a :meth:`trial` and a :meth:`trial_end`; when the driver ends
    or dies, runs that are open get a ``trial_end`` with the state ``interrupted``.

    Args:
        options: The tracker's keys in ``tracking:``, with ``dir``, the folder to write to, and
            ``group``, the sweep's name, which no other sweep has.
    """

    def __init__(self, options: Mapping[str, Any], host: Host) -> None:
        self.options = dict(options)
        self.host = host

    @abstractmethod
    def trial(
        self,
        number: int,
        name: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any],
    ) -> None:
        """Open a run, or go on with the one that an earlier session opened for this number.

        Args:
            number: Number of the trial.
            name: Number and label, for example ``0007 resnet34→resnet18``.
            job: The job as plain JSON.
            kind: ``search``, ``control``, or ``job`` outside of sweeps.
            params: What was drawn for it, by dotted path; and :data:`DATA_FINGERPRINT`.
        """

    @abstractmethod
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the numbers of one epoch, counted from 1; none comes twice."""

    @abstractmethod
    def trial_end(
        self, number: int, state: str, summary: Mapping[str, Any], details: TrialDetails | None
    ) -> None:
        """Close a run.

        Args:
            number: Number of the trial.
            state: ``complete``, ``stopped``, ``failed`` or ``interrupted``.
            summary: What is to be known of it as a whole.
            details: Its classes and pictures, if it has any.
        """

    @abstractmethod
    def summary(self, name: str, summary: SweepSummary) -> None:
        """Write what the sweep of this name has found; later sessions replace it."""

    def alert(self, number: int, text: str) -> None:  # noqa: B027
        """Tell people of something about an open run; left out where a tracker cannot."""

    def forget(self, number: int) -> None:  # noqa: B027
        """Drop what is held of a run that a method has failed on."""

    def close(self) -> None:  # noqa: B027
        """Do what is left when all runs are closed."""


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all rows, in the order in which they are met."""
    return list(dict.fromkeys(key for row in rows for key in row))


def run_id(group: str, number: int | None) -> str:
    """Return the name by which a run is known for good, of characters that every tracker allows.

    Args:
        group: The sweep.
        number: Number of the trial; ``None`` for the run of the sweep itself.
    """
    return f"{id_prefix(group)}-{'sweep' if number is None else f'{number:04d}'}"


def id_prefix(group: str) -> str:
    """Return what the ids of a group's runs begin with; wandb allows few characters."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", group)
    if plain == group and len(group) <= 56:
        return group
    return f"{plain[:46]}-{hashlib.sha256(group.encode()).hexdigest()[:8]}"
