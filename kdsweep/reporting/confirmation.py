"""What repeated seeds say of each job that was confirmed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.config.metrics import TEST_MIOU, metric_of
from kdsweep.ledger.events import Kind
from kdsweep.ledger.trials import State
from kdsweep.reporting import formats
from kdsweep.reporting.record import Record
from kdsweep.reporting.statistics import PairedGain, claim, paired_gain
from kdsweep.reporting.tables import PARAM, plain

JOB_COLUMN = f"{PARAM}job"


@dataclass(frozen=True)
class Claim(Record):
    """A row of a confirmation with ``None`` for what is missing; see :func:`confirmation_table`."""

    job: str
    teacher: str | None
    student: str
    split: str
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


def confirmation_table(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return each confirmed job on validation and, where it was scored, on the test split.

    Only seeds whose student and control were both trained to the end count.

    Args:
        trials: The trials; of another sweep than a confirmation the table is empty.
        epochs: Their epochs; the last one of a trial holds its score on the test split.
        metric: The sweep's metric, which is what is compared on validation frames.

    Returns:
        Columns ``job, teacher, student, split`` (``validation`` at each one's best epoch, or
        ``test``), ``seeds``, ``mean`` and ``sd`` of the students, ``control_mean`` and
        ``control_sd``, the paired ``gain`` with its ``gain_sd``, its 95 % interval by Student's t
        (``low``, ``high``) and by the bootstrap (``boot_low``, ``boot_high``), the signed-rank
        test's ``rank_p``, what may be claimed (``claim``), and what to know of the rank test.
    """
    if JOB_COLUMN not in trials:
        return _table([])
    test = epochs.groupby("trial").tail(1).set_index("trial")
    scores = {"validation": trials.set_index("number")["value"]}
    if TEST_MIOU in test:
        scores["test"] = test[TEST_MIOU]
    complete = set(trials.loc[trials["state"] == State.COMPLETE, "number"])
    search = trials[(trials["kind"] == Kind.SEARCH) & trials["control"].notna()]
    both = search["number"].isin(complete) & search["control"].isin(complete)
    rows = []
    for job, group in search.groupby(JOB_COLUMN, sort=False):
        done = group[both.loc[group.index]]
        for split, values in scores.items():
            students = [_number(values.get(n)) for n in done["number"]]
            controls = [_number(values.get(n)) for n in done["control"]]
            gain = paired_gain(students, controls)
            unit = metric_of(TEST_MIOU if split == "test" else metric).points
            first = group.iloc[0]
            rows.append(
                {
                    "job": job,
                    "teacher": first["teacher"],
                    "student": first["student"],
                    "split": split,
                    **_spread("", students),
                    **_spread("control_", controls),
                    **_statistics(gain),
                    "claim": claim(gain, unit),
                    "rank_note": gain.rank_note,
                }
            )
    return _table(rows)


def claims_in(confirmation: pd.DataFrame) -> list[Claim]:
    """Return the rows of such a table."""
    rows = confirmation.to_dict("records")
    return [Claim(**{name: plain(row[name]) for name in _COLUMNS}) for row in rows]


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
    texts = dict.fromkeys(("job", "teacher", "student", "split", "claim", "rank_note"), "str")
    numbers = {name: "float64" for name in _COLUMNS if name not in texts and name != "seeds"}
    return table.astype({**texts, **numbers, "seeds": "int64"})
