"""What repeated seeds say of each job that was confirmed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.config.metrics import BEST, TEST_MIOU, metric_of
from kdsweep.config.sweep import ALL_LABELS, EQUAL_TIME, SELF
from kdsweep.ledger.anytime import FEWEST_TO_SETTLE, LEAST_THAT_MATTERS, Look, settle
from kdsweep.ledger.confirmed import pairs_in_order
from kdsweep.ledger.events import Kind
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import LABELS, State
from kdsweep.reporting import formats
from kdsweep.reporting.record import Record
from kdsweep.reporting.statistics import (
    FIXED_SEEDS,
    PairedGain,
    claim,
    paired_gain,
    settled_claim,
    skew_note,
)
from kdsweep.reporting.tables import PARAM, plain

JOB_COLUMN = f"{PARAM}job"
ITS_OWN, EQUALLY_LONG = "itself", "equal time"
# What a job's students are compared with, by kind of control, where there are several.
_AGAINST = {
    "": "no teacher",
    SELF: ITS_OWN,
    EQUAL_TIME: EQUALLY_LONG,
    ALL_LABELS: LABELS,
}
_AGAINST_WHOM = {
    "": "the same student without a teacher",
    SELF: "the same student taught by its own average",
    ALL_LABELS: "the same student without a teacher, with the labels that the data leave out",
    EQUAL_TIME: "the same student trained without a teacher for as long as the pair",
}


@dataclass(frozen=True)
class Claim(Record):
    """A row of a confirmation with ``None`` for what is missing; see :func:`confirmation_table`."""

    left_out_if_empty = frozenset({"against"})

    job: str
    teacher: str | None
    student: str
    split: str
    against: str | None
    seeds: int
    mean: float | None
    sd: float | None
    control_mean: float | None
    control_sd: float | None
    gain: float | None
    gain_sd: float | None
    low: float | None
    high: float | None
    boot_low: float | None
    boot_high: float | None
    rank_p: float | None
    claim: str
    rank_note: str | None
    always_low: float | None
    always_high: float | None
    evidence: float | None
    verdict: str | None
    verdict_seeds: int | None
    seeds_saved: int | None
    skew_note: str | None
    last_gain: float | None
    last_low: float | None
    last_high: float | None

    @property
    def gain_name(self) -> str:
        """What its gain is called: on which split, and against whom where there are several."""
        return f"gain, {self.split}{f', against {self.against}' if self.against else ''}"

    @property
    def interval(self) -> str:
        """The interval that the claim quotes, for a few words beside the gain."""
        kind, low, high = "95 %", self.low, self.high
        if self.seeds_saved is not None:
            kind, low, high = "95 %, always valid", self.always_low, self.always_high
        return "no interval" if low is None else f"{kind}: {formats.interval(low, high)}"

    @property
    def short(self) -> str:
        """What may be claimed of the job."""
        return f"{self.job}, {self.split}: {self.claim}."

    @property
    def sentence(self) -> str:
        """What may be claimed of the job and its networks."""
        student, teacher = formats.names([self.student, self.teacher])
        return (
            f"{self.job} ({student}, taught by {teacher}), on the {self.split} split: {self.claim}."
        )


_COLUMNS = [field.name for field in fields(Claim)]


def confirmation_table(sweep: Sweep, trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return each confirmed job on validation and, where it was scored, on the test split.

    Only seeds whose student and control were both trained to the end count.

    Args:
        sweep: The sweep, by whose metric validation frames are compared.
        trials: Its trials; of another sweep than a confirmation the table is empty.
        epochs: Their epochs; the last one of a trial holds its score on the test split.

    Returns:
        Columns ``job, teacher, student, split`` (``validation`` at each one's best epoch, or
        ``test``), where there are further controls ``against`` (``no teacher``, ``itself``
        or ``equal time``: a row for each, which has the numbers of that control), ``seeds``,
        ``mean`` and ``sd`` of the students, ``control_mean`` and ``control_sd``, the paired
        ``gain`` with its ``gain_sd``, its 95 % interval by Student's t (``low``, ``high``) and by
        the bootstrap (``boot_low``, ``boot_high``), the signed-rank test's ``rank_p``; the
        always-valid 95 % interval (``always_low``, ``always_high``), its ``evidence``, ``verdict``
        and the seeds it was reached with (``verdict_seeds``), all missing where it says nothing;
        ``seeds_saved`` against a fixed 10, of a confirmation that stops when it is settled; what
        may be claimed (``claim``), and what to know of the rank test (``rank_note``) and of skew
        (``skew_note``); and on validation the ``last_gain`` of the last epochs with its Student's t
        interval (``last_low``, ``last_high``), where those are not what counts anyway.
    """
    if JOB_COLUMN not in trials:
        return _table([])
    test = epochs.groupby("trial").tail(1).set_index("trial")
    scores = {"validation": trials.set_index("number")["value"]}
    last = trials.set_index("number")["last"]
    if TEST_MIOU in test:
        scores["test"] = test[TEST_MIOU]
    complete = set(trials.loc[trials["state"] == State.COMPLETE, "number"])
    search = trials[(trials["kind"] == Kind.SEARCH) & trials["control"].notna()]
    found = {kind for trial in sweep.trials.values() for kind in trial.further}
    chosen = sweep.select == BEST
    kinds: dict[str, str | None] = {"": None}
    if found:
        kinds = {kind: name for kind, name in _AGAINST.items() if kind in {"", *found}}
    rows = []
    for job, group in search.groupby(JOB_COLUMN, sort=False):
        for (split, values), (kind, against) in product(scores.items(), kinds.items()):
            beside = [(n, sweep.trials[n].control_of(kind)) for n in group["number"]]
            done = [(n, c) for n, c in beside if n in complete and c in complete]
            pairs = [(t.number, c.number) for t, c in pairs_in_order(sweep, str(job), kind)]
            students = [_number(values.get(n)) for n, _ in done]
            controls = [_number(values.get(c)) for _, c in done]
            gain = paired_gain(students, controls)
            unit = metric_of(TEST_MIOU if split == "test" else sweep.header.metric).points
            look = settle([_number(values.get(n)) - _number(values.get(c)) for n, c in pairs])
            claimed, saved = claim(gain, unit), None
            if look is not None and sweep.header.until_settled:
                claimed = settled_claim(look, gain.num_seeds, unit)
                saved = FIXED_SEEDS - gain.num_seeds
            first = group.iloc[0]
            rows.append(
                {
                    "job": job,
                    "teacher": first["teacher"],
                    "student": first["student"],
                    "split": split,
                    "against": against,
                    **_spread("", students),
                    **_spread("control_", controls),
                    **_statistics(gain),
                    **_always_valid(look),
                    "seeds_saved": saved,
                    "claim": f"against {_AGAINST_WHOM[kind]}, {claimed}" if against else claimed,
                    "rank_note": gain.rank_note,
                    "skew_note": skew_note(gain.differences),
                    **(_at_the_end(last, done) if split == "validation" and chosen else {}),
                }
            )
    return _table(rows)


def claims_in(confirmation: pd.DataFrame) -> list[Claim]:
    """Return the rows of such a table."""
    rows = confirmation.to_dict("records")
    return [Claim(**{name: plain(row.get(name)) for name in _COLUMNS}) for row in rows]


def settling_notes(confirmation: pd.DataFrame) -> list[str]:
    """Return what to know of the always-valid test, and where skew misleads it."""
    if confirmation["verdict"].isna().all():
        return []
    skewed = confirmation[confirmation["skew_note"].notna()]
    return [
        "always valid: a 95 % interval that may be looked at after every seed, and is wider for "
        "it; Student's t holds at a number of seeds that was fixed beforehand.",
        "settled: as a gain or a loss where that interval leaves out zero, as no difference that "
        f"matters where it lies within ±{LEAST_THAT_MATTERS}; by the first look that says so, "
        f"after {FEWEST_TO_SETTLE} seeds at the earliest.",
        *(
            f"{one.job}, {one.split}{f', against {one.against}' if one.against else ''}: "
            f"{one.skew_note}."
            for one in claims_in(skewed)
        ),
    ]


def last_epoch_notes(confirmation: pd.DataFrame) -> list[str]:
    """Return what the gains are at the last epoch, which nobody has chosen by its score."""
    told = claims_in(confirmation[confirmation["last_gain"].notna()])
    parts = [
        f"{one.job}{f', against {one.against}' if one.against else ''}: "
        f"{formats.gain(one.last_gain)}"
        + ("" if one.last_low is None else f" ({formats.interval(one.last_low, one.last_high)})")
        for one in told
    ]
    if not parts:
        return []
    return [
        "best epochs are chosen on the frames that they are scored on, so their scores are too "
        "high; at the last epoch the gain on validation is, with Student's 95 % interval: "
        f"{'; '.join(parts)}."
    ]


def _at_the_end(last: pd.Series, done: Sequence[tuple[int, int | None]]) -> dict[str, float]:
    gain = paired_gain(
        [_number(last.get(n)) for n, _ in done], [_number(last.get(c)) for _, c in done]
    )
    numbers = _statistics(gain)
    return {f"last_{name}": numbers[name] for name in ("gain", "low", "high")}


def _statistics(gain: PairedGain) -> dict[str, Any]:
    t, bootstrap = gain.interval, gain.bootstrap
    return {
        "seeds": gain.num_seeds,
        "gain": gain.mean,
        "gain_sd": gain.sd,
        "low": math.nan if t is None else t.low,
        "high": math.nan if t is None else t.high,
        "boot_low": math.nan if bootstrap is None else bootstrap.low,
        "boot_high": math.nan if bootstrap is None else bootstrap.high,
        "rank_p": math.nan if gain.rank_p is None else gain.rank_p,
    }


def _always_valid(look: Look | None) -> dict[str, Any]:
    if look is None:
        return {}
    is_finite = math.isfinite(look.low)
    return {
        "always_low": look.low if is_finite else math.nan,
        "always_high": look.high if is_finite else math.nan,
        "evidence": look.evidence,
        "verdict": str(look.verdict),
        "verdict_seeds": look.num_seeds,
    }


def _spread(prefix: str, values: list[float]) -> dict[str, float]:
    known = np.array([value for value in values if math.isfinite(value)])
    return {
        f"{prefix}mean": float(known.mean()) if len(known) else math.nan,
        f"{prefix}sd": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
    }


def _number(value: Any) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=_COLUMNS)
    texts = {"job", "teacher", "student", "split", "against", "verdict", "claim"}
    texts |= {"rank_note", "skew_note"}
    counts = {"seeds": "int64", "verdict_seeds": "Int64", "seeds_saved": "Int64"}
    numbers = {name: "float64" for name in _COLUMNS if name not in {*texts, *counts}}
    table = table.astype({**dict.fromkeys(texts, "str"), **numbers, **counts})
    return table if table["against"].notna().any() else table.drop(columns="against")
