"""The answer of a sweep: which network to ship, whether a teacher put it ahead, what settles that.

Page, terminal and JSON say it in the same sentences. A gain of one pair of trainings is told as
what it is; where a confirmation has trained the network again, its interval takes that place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kdsweep.config.metrics import metric_of
from kdsweep.config.objectives import front
from kdsweep.ledger.trials import ITSELF, title
from kdsweep.reporting import formats
from kdsweep.reporting.comparisons import (
    compared_with,
    control_beside,
    has_own_control,
    headroom_of,
    lottery,
    same_network,
    share_by_luck,
)
from kdsweep.reporting.confirmation import Claim
from kdsweep.reporting.record import Record
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best
from kdsweep.reporting.tables import has_teacher, plain

SEEDS = 5  # what kdsweep confirm trains if it is not told otherwise


@dataclass(frozen=True)
class Settling(Record):
    """What would settle whether a teacher makes a difference.

    Attributes:
        trial: The trial in question.
        top: How many jobs that takes: those with a teacher that are better come before it.
        hours: Hours of training that it takes, trials at a time not counted.
    """

    command: str
    trial: int
    top: int
    hours: float


@dataclass(frozen=True)
class Verdict(Record):
    """The answer, a sentence for each question.

    Attributes:
        ship: Which network is best.
        teacher: Whether a teacher put it ahead, by how much, and how sure that is.
        settle: What would settle that; ``None`` where nothing would, or has already.
        num_compared: Trainings of this network with a teacher that have a gain.
        by_luck: The share of sweeps in which the best of as many is ahead of its control though no
            teacher changes anything; ``None`` without any.
        settling: The same as ``settle`` for programs.
        headroom: What the same student without a teacher gained from the labels that the data
            leave out; ``None`` where nobody was trained on them.
        lead: The teacher's value at the best student's best epoch minus the control's; ``None``
            where one of them is not known.
        time_ratio: How many times as long as its control the pair took; ``None`` where they did
            not train apart.
    """

    left_out_if_empty = frozenset({"time_ratio", "headroom"})

    ship: str
    teacher: str
    settle: str | None
    num_compared: int
    by_luck: float | None
    settling: Settling | None
    lead: float | None
    time_ratio: float | None
    headroom: float | None = None

    @property
    def tells_luck(self) -> bool:
        """Whether it says what luck alone does."""
        return "by luck alone" in self.teacher

    @property
    def sentences(self) -> list[str]:
        """All of them, in their order."""
        return [said for said in (self.ship, self.teacher, self.settle) if said is not None]


def verdict(results: Results) -> Verdict | None:
    """Return the answer; ``None`` before there is one, and for a confirmation: it has its own."""
    best = results.summary.best
    if best is None or not results.confirmation.empty:
        return None
    num = len(compared_with(results, best.number))
    settling = None if claims_about(results, best) else _settling(results, best)
    row = _row_of(results, best)
    lead, ratio = (None if row is None else plain(row[name]) for name in ("lead", "time_ratio"))
    more = [] if lead is None else [f"The teacher was {_relation(lead)} the control."]
    headroom = headroom_of(results, best.number)
    if headroom is not None:
        more.append(
            "Headroom: with the labels that are left out, the same student without a teacher was "
            f"{_relation(headroom)} the control."
        )
    if ratio is not None:
        more.append(f"The pair took {formats.amount(ratio)} times as long as its control.")
    return Verdict(
        ship=_ship(results, best),
        teacher=" ".join([_teacher(results, best), *more]),
        settle=None if settling is None else _settle(results, settling),
        num_compared=num,
        by_luck=share_by_luck(num) if num else None,
        settling=settling,
        lead=lead,
        time_ratio=ratio,
        headroom=headroom,
    )


def claims_about(results: Results, best: Best) -> list[Claim]:
    """Return what confirmations say of the best trial, or without a teacher, of its network."""
    if best.teacher not in (None, ITSELF):
        return results.summary.claims_of(best.number)
    numbers = same_network(results, best.number)
    return [claim for number in numbers for claim in results.summary.claims_of(number)]


def _ship(results: Results, best: Best) -> str:
    summary = results.summary
    short = formats.after(best.epochs, best.planned_epochs)
    facts = [
        f"{summary.metric_name} {formats.score(best.value)} on the validation split at epoch "
        f"{best.best_epoch}{formats.of_protocol(summary.protocol)}{f', {short}' if short else ''}"
    ]
    if best.params_m is not None:
        facts.append(f"{best.params_m:.1f} M parameters")
    if best.latency_ms is not None:
        facts.append(f"{formats.amount(best.latency_ms)} ms a frame")
    labelled, unlabelled = summary.data.get("num_train"), summary.data.get("num_unlabelled")
    if unlabelled:
        alone = best.teacher is None
        more = " frames alone" if alone else f" and {unlabelled} unlabelled frames"
        facts.append(f"trained on {'the ' if alone else ''}{labelled} labelled{more}")
    lead = "Best" if results.front.empty else f"Best by {summary.metric_name}"
    named = f"{title(best.label, best.student, best.teacher)}, trial {best.number}"
    return f"{lead}: {named}: {', '.join(facts)}{_ties(results, best)}."


def _ties(results: Results, best: Best) -> str:
    ties = [number for number in results.summary.best_ties if number != best.number]
    if not ties:
        return ""
    rows = results.trials.set_index("number").loc[ties[:4]]
    named = [
        " ".join(filter(None, (str(number), formats.after(have, planned))))
        for number, have, planned in zip(
            rows.index, rows["epochs"], rows["planned_epochs"], strict=True
        )
    ]
    more = ", …" if len(ties) > len(named) else ""
    return f" (equal: trial{'s' if len(ties) > 1 else ''} {', '.join(named)}{more})"


def _teacher(results: Results, best: Best) -> str:
    claims = claims_about(results, best)
    if claims:
        said = "; ".join(f"{c.job}, {c.split} split: {c.claim}" for c in claims)
        against = "" if any(claim.against for claim in claims) else " against without"
        return f"With its teacher{against}, on fresh seeds: {said}."
    row = _row_of(results, best)
    if row is None:
        return " ".join([*_self_taught(results, best), _without_teacher(results, best)])
    own = best.teacher == ITSELF
    if best.gain is None:
        what = "learning from its own average" if own else "its teacher"
        reason = row["reason"] if pd.notna(row["reason"]) else ""
        return f"What {what} changed cannot be told{f': {reason}' if reason else ''}."
    num = len(compared_with(results, best.number))
    how = "Taught by its own average" if own else "With its teacher"
    others = "" if has_own_control(results, best.number) else " and other settings"
    luck = f": {lottery(num)}" if _ahead(best.gain) > 0 else ""
    further, each = "", "pair of trainings"
    if pd.notna(row.get("self_gain")):
        has_unlabelled = results.summary.data.get("num_unlabelled")
        frames = ", on the same unlabelled frames" if has_unlabelled else ""
        further = (
            f" and {_relation(row['self_gain'])} the same student taught by its own average"
            f"{frames} (trial {row['self_control']}),"
        )
        each = "training each"
    return (
        f"{how}{others} it was {_relation(best.gain)} the same student without "
        f"{'a teacher' if own else 'one'} (trial {row['control']}){further} within as many epochs "
        f"({best.epochs}), in one {each}, which is no proof{luck}."
    )


def _row_of(results: Results, best: Best) -> pd.Series | None:
    """Return the gain of the best trial; ``None`` of a control."""
    rows = results.gains[results.gains["trial"] == best.number]
    return None if rows.empty else rows.iloc[0]


def _self_taught(results: Results, best: Best) -> list[str]:
    """Return what a control gained from its own average; nothing of one without a teacher."""
    beside = control_beside(results, best.number, best.epochs) if best.teacher == ITSELF else None
    if beside is None:
        return []
    control, value = beside
    return [
        f"Taught by its own average it was {_relation(best.value - value)} the same student "
        f"without a teacher (trial {control}) within as many epochs ({best.epochs}), in one "
        "training each, which is no proof."
    ]


def _without_teacher(results: Results, best: Best) -> str:
    column = "self_gain" if best.teacher == ITSELF else "gain"
    rows = compared_with(results, best.number, column)
    rows = rows[has_teacher(rows)]
    if rows.empty:
        return "No training of it with a teacher has a gain, so nothing can be said of teachers."
    num, num_ahead = len(rows), int((rows[column].map(_ahead) > 0).sum())
    top = rows.sort_values([column, "trial"], ascending=[False, True]).iloc[0]
    planned = results.trials.set_index("number")["planned_epochs"].get(top["trial"])
    short = formats.after(top["epochs"], planned)
    closest = f"trial {top['trial']} ({top['label']}) was {_relation(top[column])} it"
    closest += f" {short}" if short else ""
    trainings = formats.counted(num, "training")
    if num_ahead:
        were = "was" if num_ahead == 1 else "were"
        return (
            f"Of {trainings} of it with a teacher {num_ahead} {were} ahead of it at equal epochs "
            f"in this sweep, and none ended above it: {closest}, in one pair of trainings, which "
            f"is no proof: {lottery(num)}."
        )
    none = "Its one training" if num == 1 else f"None of its {num} trainings"
    was = " was not ahead" if num == 1 else " was ahead"
    return (
        f"{none} with a teacher{was} of it at equal epochs in this sweep: {closest}; one training "
        "each is no proof."
    )


def _relation(gain: float) -> str:
    """Return ``0.012 ahead of``, ``level with`` or ``0.012 behind``."""
    ahead = _ahead(gain)
    if ahead == 0:
        return "level with"
    return f"{formats.score(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"


def _ahead(gain: float) -> float:
    """Return a gain as it is written, so that what looks equal is equal."""
    return round(float(gain), 3)


def _settling(results: Results, best: Best) -> Settling | None:
    """Return the confirmation of the best trial, or of its network's best one with a teacher."""
    summary = results.summary
    taught = _confirmable(results)
    if taught.empty or summary.experiment is None:
        return None
    alike = taught.index[taught["number"].isin(same_network(results, best.number))]
    place = int(alike[0]) if len(alike) else 0
    rows = taught.iloc[: place + 1]
    planned = rows["planned_epochs"].astype("float64")
    hours = rows["hours"] * (planned / rows["epochs"]).clip(lower=1.0).fillna(1.0)
    path = formats.short_path(Path(summary.experiment))
    return Settling(
        command=f"kdsweep confirm {path} --top {place + 1} --seeds {SEEDS}",
        trial=int(rows["number"].iloc[-1]),
        top=place + 1,
        hours=2 * SEEDS * float(hours.sum()),
    )


def _confirmable(results: Results) -> pd.DataFrame:
    """Return the trials that kdsweep confirm takes, in its order.

    They are the best with a teacher; of several metrics those on the front of these.
    """
    taught = results.searched()
    taught = taught[has_teacher(taught)]
    metrics = results.summary.metrics
    if len(metrics) > 1:
        columns = ["value", *(metric.removeprefix("student/") for metric in metrics[1:])]
        known = taught.dropna(subset=columns).set_index("number")[columns]
        points = {int(number): tuple(row) for number, *row in known.itertuples()}
        taught = taught[taught["number"].isin(front(points, [metric_of(m) for m in metrics]))]
    return taught.reset_index(drop=True)


def _settle(results: Results, settling: Settling) -> str:
    top = results.trials.set_index("number").loc[settling.trial]
    before = settling.top - 1
    more = f", after the {formats.counted(before, 'job')} that did better," if before else ""
    hours = formats.duration(settling.hours)
    return (
        f"To settle it, train trial {settling.trial} ({top['label']}){more} with its teacher "
        f"and without on {SEEDS} fresh seeds (about {hours} of training): "
        f"{settling.command}"
    )
