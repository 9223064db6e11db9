"""Which values of each weight, temperature and other drawn setting score best?"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

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
    trial_hovers,
)
from kdsweep.reporting.figures.settings import (
    comparable,
    declared_scales,
    drawn_parameters,
    has_steps,
    is_log,
    response_bins,
    response_curve,
    response_points,
    response_steps,
)
from kdsweep.reporting.results import Results

MOST_FIGURES = 12
_MOST_POINTS = 1200
# Ticks within a decade on a logarithmic axis of up to so many decades.
_DIGITS = (
    (0.5, (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)),
    (1.2, (1.0, 2.0, 3.0, 5.0)),
    (2.2, (1.0, 2.0, 5.0)),
    (3.2, (1.0, 3.0)),
)
_MOST_DECADES = 8


def response_figures(results: Results, metric: str) -> list[Figure]:
    """Draw one figure for each of the first parameters."""
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
        title=f"Which values of {parameter} score best?",
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
        texts = trial_hovers(points)
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
    """Return round numbers for a logarithmic axis, the closer the fewer decades it has.

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
            "hovertext": trial_hovers(shown),
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
