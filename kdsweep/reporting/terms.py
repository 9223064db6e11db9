"""What each distillation term does to its student: a pure function of the epochs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdsweep.training.report import judge_share

_RAW, _SHARE = "student/distill/", "student/grad_share/"
_WEIGHTED, _RAMP = "student/weighted/", "student/ramp/"
_LABELS = "supervised"
_COLUMNS = (
    "trial", "label", "term", "epoch", "raw", "weighted", "ramp", "share", "median_share",
    "labels_share", "full_epochs", "verdict",
)  # fmt: skip


def term_names(epochs: pd.DataFrame) -> list[str]:
    """Return the distillation terms that any epoch speaks of, in the order of their columns."""
    columns = list(map(str, epochs.columns))
    found = (
        column.removeprefix(prefix)
        for prefix in (_RAW, _SHARE)
        for column in columns
        if column.startswith(prefix)
    )
    return [name for name in dict.fromkeys(found) if name != _LABELS]


def term_table(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return each trial's distillation terms at its best epoch.

    Args:
        trials: The trials with their ``best_epoch``; those without one have no terms here.
        epochs: Their epochs. Ledgers of older versions have fewer columns; what is not there is
            missing in the table.

    Returns:
        Columns ``trial, label, term, epoch`` (the best one), ``raw`` and ``weighted`` value of the
        loss, ``ramp`` (ramp times gate at the epoch's end), ``share`` of the student's gradient
        norm, its ``median_share`` over the ``full_epochs`` (those in which ramp and gate were fully
        up), ``labels_share`` (of the supervised loss), and ``verdict``: ``negligible``,
        ``dominant`` or missing. Judged is the median, and where there is none, the best epoch.
    """
    best = trials.loc[trials["best_epoch"].notna(), ["number", "label", "best_epoch"]]
    best = best.astype({"best_epoch": "int64"})
    keyed = best.rename(columns={"number": "trial", "best_epoch": "epoch"})
    # An epoch stands once in the table, so this keeps one row a trial.
    at_best = keyed.merge(epochs, on=["trial", "epoch"], how="left")
    parts = [_of_term(name, at_best, epochs) for name in term_names(epochs)]
    if not parts:
        return _typed(pd.DataFrame({column: [] for column in _COLUMNS}))
    order = pd.concat(parts, ignore_index=True).sort_values("trial", kind="stable")
    return _typed(order.reset_index(drop=True))


def _of_term(name: str, at_best: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    raw, share = _numbers(at_best, _RAW + name), _numbers(at_best, _SHARE + name)
    has_term = raw.notna() | share.notna()
    ramp = _numbers(at_best, _RAMP + name)
    full = _numbers(epochs, _SHARE + name)[_numbers(epochs, _RAMP + name).fillna(1.0) >= 1.0]
    by_trial = full.dropna().groupby(epochs["trial"])
    median = at_best["trial"].map(by_trial.median()).astype("float64")
    table = pd.DataFrame(
        {
            "trial": at_best["trial"],
            "label": at_best["label"],
            "term": name,
            "epoch": at_best["epoch"],
            "raw": raw,
            "weighted": _numbers(at_best, _WEIGHTED + name),
            "ramp": ramp,
            "share": share,
            "median_share": median,
            "labels_share": _numbers(at_best, _SHARE + _LABELS),
            "full_epochs": at_best["trial"].map(by_trial.size()).fillna(0),
        }
    )
    table["verdict"] = [
        judge_share(s, r) if pd.isna(m) else judge_share(m)
        for m, s, r in zip(median, share, ramp.fillna(1.0), strict=True)
    ]
    return table[has_term]


def _numbers(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column, or one of missing numbers where the frame has none of this name."""
    if column in frame:
        return frame[column].astype("float64")
    return pd.Series(np.nan, index=frame.index, dtype="float64")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the same kinds of columns whatever is in it."""
    texts, whole = ("label", "term", "verdict"), ("trial", "epoch", "full_epochs")
    kinds = {
        column: "str" if column in texts else "int64" if column in whole else "float64"
        for column in _COLUMNS
    }
    return table.astype(kinds)
