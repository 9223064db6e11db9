"""Which attempts have come to a standstill: when each was last heard of, and what is usual. No Ray.

Time is counted by looks, not by the clock: while this process itself stands still (Ctrl-Z, a
machine that sleeps) nobody is heard, and nobody is blamed for it.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from kdsweep.pulse import EPOCH, TRAINING, Beat

HangMinutes = float | Literal["auto", "none"]

LEAST_SECONDS = 600.0
TIMES_USUAL = 20.0
FIRST_TIME = 3.0  # compiling, decoding and the like come before the first of many alike
_LONGEST_LOOK = 5.0
_KEPT = 20


@dataclass(frozen=True)
class Sign:
    """What a worker tells of itself: how far it is, on which machine, in which process."""

    beat: Beat
    machine: str
    pid: int


@dataclass(frozen=True)
class Hang:
    """A cohort stands still: on which machine, as far as was told, and since when and at what."""

    cohort: int
    machine: str | None
    message: str


@dataclass(frozen=True)
class Pace:
    """How an attempt gets on, for people.

    Attributes:
        beat: Where it is.
        silence: Seconds since it was last heard of.
        frames_per_s: Frames that it trains on a second; ``None`` where that is not known.
        left_s: Seconds until the epoch, or what else it does, is done; likewise.
    """

    beat: Beat
    silence: float = 0.0
    frames_per_s: float | None = None
    left_s: float | None = None


@dataclass
class _Watched:
    """An attempt: its latest sign, since when it is silent, and how long it usually is."""

    heard_at: float
    silence: float = 0.0
    sign: Sign | None = None
    usual: dict[str, deque[float]] = field(default_factory=dict)
    # When what it does now was first heard of, and how far it was then.
    began: tuple[float, Beat] | None = None
    took: dict[str, float] = field(default_factory=dict)

    @property
    def doing(self) -> str:
        return "" if self.sign is None else self.sign.beat.doing


class Watch:
    """Follows the attempts that run.

    Args:
        minutes: ``sweep.hang_minutes``.
        clock: Source of monotonic time.
        wall: Source of Unix time.
    """

    def __init__(
        self,
        minutes: HangMinutes,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._minutes = minutes
        self._clock = clock
        self._wall = wall
        self._looked: float | None = None
        self._watched: dict[int, _Watched] = {}
        self._usual: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def begin(self, cohort: int) -> None:
        """A worker begins with an attempt."""
        self._watched[cohort] = _Watched(self._clock())

    def reported(self, cohort: int) -> None:
        """An attempt has sent a result, which is a sign too."""
        if (watched := self._watched.get(cohort)) is not None:
            watched.silence, watched.heard_at = 0.0, self._clock()

    def heard(self, cohort: int, sign: Sign | None) -> None:
        """Take in the latest that an attempt has told; nothing new where it told that before."""
        watched = self._watched.get(cohort)
        if watched is None or sign is None or sign == watched.sign:
            return
        now = self._clock()
        if watched.sign is not None:
            self._learn(watched)
        beat = sign.beat
        if watched.sign is None or _work(watched.sign.beat) != _work(beat):
            if watched.began is not None:
                watched.took[watched.doing] = now - watched.began[0]
            watched.began = now, beat
        watched.sign, watched.silence, watched.heard_at = sign, 0.0, now

    def look(self, active: Collection[int]) -> list[Hang]:
        """Return the attempts that have stood still for too long.

        Args:
            active: The cohorts that train; all others are watched no more.
        """
        self._watched = {n: watched for n, watched in self._watched.items() if n in active}
        now = self._clock()
        gone = 0.0 if self._looked is None else min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        found = []
        for cohort, watched in self._watched.items():
            watched.silence += gone
            if watched.silence > self._limit(watched):
                found.append(self._hang(cohort, watched))
        return found

    def paces(self) -> dict[int, Pace]:
        """How the attempts get on that have told, by cohort."""
        found = {cohort: _pace(watched) for cohort, watched in self._watched.items()}
        return {cohort: pace for cohort, pace in found.items() if pace is not None}

    def _learn(self, watched: _Watched) -> None:
        own = watched.usual.setdefault(watched.doing, deque(maxlen=_KEPT))
        own.append(watched.silence)
        self._usual[watched.doing].append(watched.silence)

    def _limit(self, watched: _Watched) -> float:
        """Return the seconds that an attempt may be silent, at what it does now."""
        if self._minutes == "none":
            return float("inf")
        own = watched.usual.get(watched.doing)
        if self._minutes == "auto":
            known = own or self._usual[watched.doing]
            limit = max(LEAST_SECONDS, TIMES_USUAL * statistics.median(known) if known else 0.0)
        else:
            limit = 60.0 * self._minutes
        return limit if own else FIRST_TIME * limit

    def _hang(self, cohort: int, watched: _Watched) -> Hang:
        since = time.strftime("%H:%M:%S", time.localtime(self._wall() - watched.silence))
        sign = watched.sign
        at = "it has not said yet what it does" if sign is None else sign.beat.words
        process = "" if sign is None else f" (process {sign.pid})"
        message = f"at a standstill since {since}: {at}{process}"
        return Hang(cohort, None if sign is None else sign.machine, message)


def _work(beat: Beat) -> tuple[str, int]:
    return beat.doing, beat.epoch


def _pace(watched: _Watched) -> Pace | None:
    if watched.sign is None or watched.began is None:
        return None
    beat, (since, first) = watched.sign.beat, watched.began
    seconds, done = watched.heard_at - since, beat.done - first.done
    if seconds <= 0 or done <= 0:
        return Pace(beat, watched.silence)
    left = (beat.total - beat.done) * seconds / done
    if beat.doing in EPOCH:
        to_come = EPOCH[EPOCH.index(beat.doing) + 1 :]
        left += sum(watched.took.get(doing, 0.0) for doing in to_come)
    frames = beat.frames - first.frames
    is_known = frames > 0 and beat.doing == TRAINING
    return Pace(beat, watched.silence, frames / seconds if is_known else None, left)
