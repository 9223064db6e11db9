"""How does the score answer to each weight, temperature and other setting that was drawn?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from kdsweep.config import Space
from kdsweep.config.ranges import Interval
from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment
from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    SEQUENTIAL,
    STUDENT,
    Figure,
    Trace,
    axis,
    colorbar,
    listed,
    safe,
    short,
)
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM

MOST_FIGURES = 12
_FEW_VALUES = 8  # up to here a parameter's values stand side by side
_MOST_POINTS = 1200
_NUM_BINS = (60, 40)
_NUM_STEPS = 60
_LEAST_LONGEST = 6  # trials of full length from which on lines are drawn through them alone
_LEAST_WEIGHT = 3.0  # trials' worth of evidence without which no line is drawn
# Numbers that no range declares: more than this is read best on a logarithmic scale.
_LOG_RATIO = 30.0
# Ticks within a decade on a logarithmic axis of up to so many decades.
_DIGITS = (
    (0.5, (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)),
    (1.2, (1.0, 2.0, 3.0, 5.0)),
    (2.2, (1.0, 2.0, 5.0)),
    (3.2, (1.0, 3.0)),
)
_MOST_DECADES = 8


def drawn_parameters(results: Results) -> list[str]:
    """The drawn parameters that took two values or more, the distillation's first.

    The choice of networks is left out: the pairs show it.
    """
    search = results.ranked()
    names = [
        column.removeprefix(PARAM)
        for column in map(str, search)
        if column.startswith(PARAM)
        and not column.startswith((f"{PARAM}teacher.", f"{PARAM}student."))
        and search[column].dropna().astype("str").nunique() > 1
    ]
    return sorted(names, key=lambda name: (not name.startswith("distill."), names.index(name)))


def response_points(results: Results, parameter: str) -> pd.DataFrame:
    """Every search trial with a value and this parameter.

    Returns:
        Columns ``trial, label, setting`` (number or text), ``value, epochs``.
    """
    rows = results.ranked()
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
    """Whether a parameter took so few values that they stand side by side.

    Texts and switches do; so do numbers that repeat or are whole, if they are few.
    """
    if not pd.api.types.is_numeric_dtype(settings) or pd.api.types.is_bool_dtype(settings):
        return True
    known = settings.dropna().astype("float64")
    num_values = known.nunique()
    whole = bool((known == known.round()).all())
    return num_values <= _FEW_VALUES and (whole or 2 * num_values <= len(known))


def declared_scales(results: Results) -> dict[str, bool]:
    """Whether the search space draws a parameter evenly in its logarithm, by the parameter's name.

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
    """Whether numbers are best read on a logarithmic axis.

    Args:
        points: The points.
        declared: Whether they were drawn on one; the numbers themselves decide if that is unknown.
    """
    lowest, highest = points["setting"].min(), points["setting"].max()
    if lowest <= 0 or declared is False:
        return False
    return declared or bool(highest / lowest >= _LOG_RATIO)


def comparable(points: pd.DataFrame) -> pd.DataFrame:
    """The points that a line may join: trials of equal length, or all if hardly any are.

    Trials that were stopped early have a low value because they are short. A mean over both kinds
    would follow what was stopped where, and not the setting.
    """
    longest = points[points["epochs"] == points["epochs"].max()]
    return longest if len(longest) >= _LEAST_LONGEST else points


def response_steps(points: pd.DataFrame) -> pd.DataFrame:
    """Trials by value of a parameter: ``setting, num_trials, low, median, high`` (quartiles)."""
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
    """A smoothed mean of the value over a parameter with a 95 % band.

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
    """Many points as few: ``setting, value`` (middle of a cell), ``num_trials, epochs`` (mean)."""
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


def response_figures(results: Results, metric: str) -> list[Figure]:
    """One figure for each of the first parameters."""
    names = drawn_parameters(results)
    scales = declared_scales(results) if names else {}
    return [_response(results, name, metric, scales.get(name)) for name in names[:MOST_FIGURES]]


def _response(results: Results, parameter: str, metric: str, log: bool | None) -> Figure:
    points = response_points(results, parameter)
    slug = "response-" + re.sub(r"[^A-Za-z0-9._-]+", "-", parameter)
    if has_steps(points["setting"]):
        extra, caption, traces, x_axis = _steps(points, parameter)
    else:
        extra, caption, traces, x_axis = _curve(points, parameter, is_log(points, log))
    return Figure(
        name=slug,
        title=f"How does the score answer to {parameter}?",
        caption=caption,
        tables={slug: points, f"{slug}-smooth": extra},
        traces=traces,
        layout={"xaxis": x_axis, "yaxis": axis(metric), "showlegend": False},
        height=360,
    )


def _marker(epochs: pd.Series, num_points: int) -> dict[str, object]:
    return {
        "color": listed(epochs),
        "colorscale": SEQUENTIAL,
        "cmin": 0,
        "cmax": max(float(epochs.max()), 1.0),
        "colorbar": colorbar("epochs reached"),
        "size": 8 if num_points < 200 else 5,
        "line": {"width": 0.5, "color": "var(--paper)"},
    }


def _curve(
    points: pd.DataFrame, parameter: str, log: bool
) -> tuple[pd.DataFrame, str, list[Trace], dict[str, object]]:
    joined = comparable(points)
    curve = response_curve(joined, log)
    x = listed(curve["setting"])
    hidden = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}}
    traces: list[Trace] = []
    # Plotly fills across gaps from one line to the next, so the band has only what is known.
    known = curve[curve["mean"].notna()]
    if len(known):
        at = listed(known["setting"])
        traces = [
            {**hidden, "x": at, "y": listed(known["low"])},
            {
                **hidden,
                "x": at,
                "y": listed(known["high"]),
                "fill": "tonexty",
                "fillcolor": "var(--band)",
            },
        ]
    caption = "One point a trial, coloured by the epochs it reached"
    if len(known):
        whose = _whose(joined, points)
        caption += f"; line and band are the smoothed mean of {whose} and its 95 % interval"
    caption += "."
    if len(points) > _MOST_POINTS:
        cells = response_bins(points, log)
        marker = _marker(cells["epochs"], len(cells))
        # The area says how many trials there are; the largest just about touch each other.
        share = cells["num_trials"] / cells["num_trials"].max()
        marker |= {"size": listed(np.maximum(13 * np.sqrt(share), 2.5)), "line": {"width": 0}}
        places = {"x": listed(cells["setting"]), "y": listed(cells["value"])}
        texts = [
            f"{formats.counted(num, 'trial')}, {epochs:.1f} epochs on average"
            for num, epochs in zip(cells["num_trials"], cells["epochs"], strict=True)
        ]
        caption = caption.replace("One point a trial, coloured", "Larger points are more trials,")
        caption = caption.replace("trials, by", "trials, coloured by")
    else:
        marker = _marker(points["epochs"], len(points))
        places = {"x": listed(points["setting"]), "y": listed(points["value"])}
        texts = _hovers(points)
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            **places,
            "marker": marker,
            "hovertext": texts,
            "hovertemplate": "%{hovertext}<br>at %{x:.3g}: %{y:.3f}<extra></extra>",
        }
    )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": listed(curve["mean"]),
            "line": {"color": STUDENT, "width": 2},
            "hovertemplate": "smoothed at %{x:.3g}: %{y:.3f}<extra></extra>",
        }
    )
    return curve, caption, traces, axis(safe(parameter), **(_log_scale(points) if log else {}))


def _log_scale(points: pd.DataFrame) -> dict[str, object]:
    ticks = log_ticks(float(points["setting"].min()), float(points["setting"].max()))
    texts = [f"{tick:g}" for tick in ticks]
    return {"type": "log", "tickvals": ticks, "ticktext": texts}


def log_ticks(lowest: float, highest: float) -> list[float]:
    """Round numbers for a logarithmic axis, the closer the fewer decades it has.

    plotly's own are powers of ten alone, or bare digits between them, whose decade a reader has to
    guess.
    """
    low, high = np.log10(lowest), np.log10(highest)
    digits = next((given for most, given in _DIGITS if high - low <= most), (1.0,))
    every = 1 + int(high - low) // _MOST_DECADES if digits == (1.0,) else 1
    decades = range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1, every)
    # Written and read again, so that no 0.00030000000000000003 comes of it.
    ticks = [float(f"{digit:g}e{decade}") for decade in decades for digit in digits]
    return [tick for tick in ticks if lowest / 1.1 < tick < 1.1 * highest]


def _steps(
    points: pd.DataFrame, parameter: str
) -> tuple[pd.DataFrame, str, list[Trace], dict[str, object]]:
    joined = comparable(points)
    steps = response_steps(joined)
    settings = sorted(points["setting"].astype("object").unique(), key=_setting_order)
    shown = points.groupby("setting").head(max(_MOST_POINTS // max(len(settings), 1), 1))
    place = {setting: index for index, setting in enumerate(settings)}
    # Spread sideways evenly by rank: the same figure each time, unlike random shifts.
    rank = shown.groupby("setting").cumcount()
    size = shown.groupby("setting")["value"].transform("size")
    shift = ((rank * 0.618034) % 1.0 - 0.5) * 0.5 * (size > 1)
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": listed(shown["setting"].map(place).astype("float64") + shift),
            "y": listed(shown["value"]),
            "marker": _marker(shown["epochs"], len(shown)),
            "hovertext": _hovers(shown),
            "hovertemplate": "%{hovertext}<br>%{y:.3f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [place[setting] for setting in steps["setting"]],
            "y": listed(steps["median"]),
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": listed(steps["high"] - steps["median"]),
                "arrayminus": listed(steps["median"] - steps["low"]),
                "color": STUDENT,
                "thickness": 2,
                "width": 0,
            },
            "marker": {
                "color": STUDENT,
                "symbol": "line-ew",
                "size": 34,
                "line": {"color": STUDENT, "width": 3},
            },
            "customdata": listed(steps["num_trials"]),
            "hovertemplate": "median %{y:.3f} of %{customdata} trials<extra></extra>",
        },
    ]
    caption = (
        "One point a trial, coloured by the epochs it reached; bar and line are the median and the "
        f"middle half of {_whose(joined, points)}."
    )
    if len(shown) < len(points):
        caption += f" The best {len(shown)} of {len(points)} trials are drawn; the bars know all."
    ticks = {
        "tickvals": list(range(len(settings))),
        "ticktext": [short(formats.setting(setting)) for setting in settings],
        "range": [-0.6, len(settings) - 0.4],
    }
    return steps, caption, traces, axis(safe(parameter), **ticks, showgrid=False, zeroline=False)


def _whose(joined: pd.DataFrame, points: pd.DataFrame) -> str:
    if points["epochs"].nunique() == 1:
        return "all of them"
    if len(joined) == len(points):
        return "all of them, early-stopped ones with what they had reached"
    return f"the {len(joined)} trials that reached {joined['epochs'].max()} epochs"


def _setting_order(setting: object) -> tuple[bool, float, str]:
    number = isinstance(setting, int | float)
    return not number, float(setting) if number else 0.0, str(setting)  # type: ignore[arg-type]


def _hovers(points: pd.DataFrame) -> list[str]:
    return [
        f"trial {trial}, {safe(label)}, {formats.counted(epochs, 'epoch')}"
        for trial, label, epochs in points[["trial", "label", "epochs"]].itertuples(index=False)
    ]
