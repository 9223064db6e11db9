"""The numbers of responses: the score over each weight, temperature and other drawn setting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from kdsweep.config import Space
from kdsweep.config.ranges import Interval
from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM

_FEW_VALUES = 8  # up to here a parameter's values stand side by side
_NUM_BINS = (60, 40)
_NUM_STEPS = 60
_LEAST_LONGEST = 6  # trials of full length from which on lines are drawn through them alone
_LEAST_WEIGHT = 3.0  # trials' worth of evidence without which no line is drawn
# Numbers that no range declares: more than this is read best on a logarithmic scale.
_LOG_RATIO = 30.0


def drawn_parameters(results: Results) -> list[str]:
    """Return the drawn parameters that took two values or more, the distillation's first.

    The choice of networks is left out: the pairs show it.
    """
    search = results.searched()
    names = [
        column.removeprefix(PARAM)
        for column in map(str, search)
        if column.startswith(PARAM)
        and not column.startswith((f"{PARAM}teacher.", f"{PARAM}student."))
        and search[column].dropna().astype("str").nunique() > 1
    ]
    return sorted(names, key=lambda name: (not name.startswith("distill."), names.index(name)))


def response_points(results: Results, parameter: str) -> pd.DataFrame:
    """Return every search trial with a value and this parameter.

    Returns:
        Columns ``trial, label, setting`` (number or text), ``value, epochs``.
    """
    rows = results.searched()
    rows = rows[rows[f"{PARAM}{parameter}"].notna()]
    return pd.DataFrame(
        {
            "trial": rows["number"],
            "label": rows["label"],
            "setting": rows[f"{PARAM}{parameter}"],
            "value": rows["value"],
            "epochs": rows["epochs"],
        }
    ).reset_index(drop=True)


def has_steps(settings: pd.Series) -> bool:
    """Return whether a parameter took so few values that they stand side by side.

    Texts and switches do; so do numbers that repeat or are whole, if they are few.
    """
    if not pd.api.types.is_numeric_dtype(settings) or pd.api.types.is_bool_dtype(settings):
        return True
    known = settings.dropna().astype("float64")
    num_values = known.nunique()
    whole = bool((known == known.round()).all())
    return num_values <= _FEW_VALUES and (whole or 2 * num_values <= len(known))


def declared_scales(results: Results) -> dict[str, bool]:
    """Return whether the space draws a parameter evenly in its logarithm, by its name.

    Parameters that are choices are not in it, and none is where the space cannot be read.
    """
    folder = results.summary.experiment
    if folder is None or results.summary.confirms is not None:
        return {}
    try:
        config = json.loads(Experiment(Path(folder)).spec_json.read_text(encoding="utf-8"))
        ranges = Space.from_resolved(config).ranges()
        return {range_.name: range_.log for range_, _ in ranges if isinstance(range_, Interval)}
    except (KdsweepError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # written by another version; the points are there all the same


def is_log(points: pd.DataFrame, declared: bool | None = None) -> bool:
    """Return whether numbers are best read on a log axis; they decide unless that is declared."""
    lowest, highest = points["setting"].min(), points["setting"].max()
    if lowest <= 0 or declared is False:
        return False
    return declared or bool(highest / lowest >= _LOG_RATIO)


def comparable(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points that a line may join: trials of equal length, or all if hardly any are.

    Trials that were stopped early have a low value because they are short. A mean over both kinds
    would follow what was stopped where, and not the setting.
    """
    longest = points[points["epochs"] == points["epochs"].max()]
    return longest if len(longest) >= _LEAST_LONGEST else points


def response_steps(points: pd.DataFrame) -> pd.DataFrame:
    """Return, by value of a parameter, ``setting, num_trials``, quartiles ``low, median, high``."""
    groups = points.assign(setting=points["setting"].astype("object")).groupby("setting")["value"]
    quartiles = groups.quantile(np.array([0.25, 0.5, 0.75])).unstack()
    return pd.DataFrame(
        {
            "setting": list(quartiles.index),
            "num_trials": groups.size().to_numpy(),
            "low": quartiles[0.25].to_numpy(),
            "median": quartiles[0.5].to_numpy(),
            "high": quartiles[0.75].to_numpy(),
        }
    )


def response_curve(points: pd.DataFrame, log: bool | None = None) -> pd.DataFrame:
    """Return a smoothed mean of the value over a parameter with a 95 % band.

    A Gaussian kernel of Silverman's width weighs the trials; the band is Student's t times the
    standard error of the weighted mean, with the residuals' own spread and as many trials as the
    weights amount to (Kish: ``(sum w)**2 / sum w**2``). It speaks of the mean of such trials, not
    of one trial.

    Args:
        points: The points.
        log: Whether the parameter was drawn on a logarithmic scale, if that is known.

    Returns:
        Columns ``setting, mean, low, high, weight`` (trials that count there); numbers are missing
        where fewer than three trials' worth of weight is near.
    """
    log = is_log(points, log)
    x = points["setting"].to_numpy(dtype=np.float64)
    y = points["value"].to_numpy(dtype=np.float64)
    x = np.log(x) if log else x
    grid = np.linspace(x.min(), x.max(), _NUM_STEPS)
    spread = min(np.std(x), (np.percentile(x, 75) - np.percentile(x, 25)) / 1.34) or np.std(x)
    width = max(1.06 * spread * len(x) ** -0.2, 1e-12)
    weights = np.exp(-0.5 * ((grid[:, None] - x[None, :]) / width) ** 2)
    total = weights.sum(axis=1)
    known = total >= _LEAST_WEIGHT
    safe_total = np.where(known, total, 1.0)
    mean = (weights @ y) / safe_total
    residuals = (weights**2 * (y[None, :] - mean[:, None]) ** 2).sum(axis=1)
    error = np.sqrt(residuals) / safe_total
    # Few trials hug their own mean and say little of its spread: both widen the band.
    num_effective = total**2 / (weights**2).sum(axis=1)
    freedom = np.maximum(num_effective - 1.0, 1e-3)
    error *= np.sqrt(num_effective / freedom) * stats.t.ppf(0.975, freedom)
    table = pd.DataFrame(
        {
            "setting": np.exp(grid) if log else grid,
            "mean": mean,
            "low": mean - error,
            "high": mean + error,
            "weight": total,
        }
    )
    table.loc[~known, ["mean", "low", "high"]] = np.nan
    return table


def response_bins(points: pd.DataFrame, log: bool | None = None) -> pd.DataFrame:
    """Return many points as few: ``setting, value`` (middles), ``num_trials, epochs`` (mean)."""
    log = is_log(points, log)
    x = points["setting"].to_numpy(dtype=np.float64)
    x = np.log(x) if log else x
    y = points["value"].to_numpy(dtype=np.float64)
    columns, x_edges = _cut(x, _NUM_BINS[0])
    rows, y_edges = _cut(y, _NUM_BINS[1])
    cells = pd.DataFrame({"column": columns, "row": rows, "epochs": points["epochs"]})
    table = cells.groupby(["column", "row"])["epochs"].agg(["size", "mean"]).reset_index()
    middle_x = ((x_edges[:-1] + x_edges[1:]) / 2)[table["column"]]
    return pd.DataFrame(
        {
            "setting": np.exp(middle_x) if log else middle_x,
            "value": ((y_edges[:-1] + y_edges[1:]) / 2)[table["row"]],
            "num_trials": table["size"],
            "epochs": table["mean"],
        }
    )


def _cut(values: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.histogram_bin_edges(values, bins=num_bins)
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, num_bins - 1), edges
