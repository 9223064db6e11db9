"""Which pair of teacher and student is best?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdsweep.ledger.trials import ITSELF
from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    DIVERGING,
    SEQUENTIAL,
    Figure,
    axis,
    colorbar,
    listed,
    safe,
    short,
)
from kdsweep.reporting.results import Results

_MOST_TEACHERS, _MOST_STUDENTS = 20, 30
_MOST_WITH_TEXT = 8  # columns in which the numbers of a cell can be read


def pair_cells(results: Results) -> pd.DataFrame:
    """Return every pair of the sweep, those without a trial too.

    Returns:
        Columns ``teacher, student, num_trials, best, best_gain, best_trial, best_epochs,
        planned_epochs``; best students first, within them best teachers first, ``none`` among
        them. Where there is nothing, a number is missing.
    """
    pairs = results.pairs
    columns = ["num_trials", "best", "best_gain", "best_trial", "best_epochs", "planned_epochs"]
    named = pairs.assign(
        teacher=formats.names(pairs["teacher"], formats.NO_TEACHER),
        student=formats.names(pairs["student"]),
    )
    order = {
        side: list(
            named.groupby(side, sort=False)["best"].max().sort_values(
                ascending=False, na_position="last", kind="stable"
            ).index
        )
        for side in ("student", "teacher")
    }  # fmt: skip
    every = pd.MultiIndex.from_product(
        [order["student"], order["teacher"]], names=["student", "teacher"]
    )
    cells = named.set_index(["student", "teacher"])[columns].reindex(every).reset_index()
    cells["num_trials"] = cells["num_trials"].fillna(0).astype("int64")
    return cells[["teacher", "student", *columns]]


def pair_figures(results: Results, metric: str) -> list[Figure]:
    """Draw heat maps of the best value, and of its gain where there are gains."""
    cells = pair_cells(results)
    if cells["best"].isna().all():
        return []
    figures = [
        _heat_map(
            cells,
            "best",
            Figure(
                name="pairs",
                title="Which pair scores best?",
                caption=f"Best {metric} of the trials of each pair; n is how many there are. "
                "A pair with few trials may not have found its best settings, and a trial that was "
                "stopped early shows the best of the epochs it had.",
                tables={"pairs": cells},
                traces=[],
            ),
            metric,
        )
    ]
    if cells["best_gain"].notna().any():
        figures.append(
            _heat_map(
                cells[~cells["teacher"].isin([formats.NO_TEACHER, ITSELF])],
                "best_gain",
                Figure(
                    name="pair-gains",
                    title="Where did a teacher help?",
                    caption="Gain of each pair's best trial over its student's control at "
                    "equal epochs, one training each. Blue: ahead with the teacher; orange: "
                    "behind.",
                    tables={"pair-gains": cells},
                    traces=[],
                ),
                "gain",
            )
        )
    return figures


def _heat_map(cells: pd.DataFrame, column: str, figure: Figure, unit: str) -> Figure:
    students = list(dict.fromkeys(cells["student"]))[:_MOST_STUDENTS]
    teachers = list(dict.fromkeys(cells["teacher"]))[:_MOST_TEACHERS]
    shown = cells[cells["student"].isin(students) & cells["teacher"].isin(teachers)]
    signed = column == "best_gain"
    form = formats.gain if signed else formats.score
    size = (len(students), len(teachers))
    counts = zip(shown["best_epochs"], shown["planned_epochs"], strict=True)
    short_of = [formats.after(*count) for count in counts]
    texts = [
        f"{form(value)}<br>n = {num}{f'<br>{said}' if said else ''}" if num else ""
        for value, num, said in zip(shown[column], shown["num_trials"], short_of, strict=True)
    ]
    hovers = [
        f"{safe(teacher)} → {safe(student)}<br>{unit} {form(value)}<br>"
        f"{formats.counted(num, 'trial')}"
        + ("" if pd.isna(trial) else f", the best is trial {trial}")
        + (f" {said}" if said else "")
        for (teacher, student, num, value, trial), said in zip(
            shown[["teacher", "student", "num_trials", column, "best_trial"]].itertuples(
                index=False
            ),
            short_of,
            strict=True,
        )
    ]
    values = shown[column].to_numpy(dtype=np.float64)
    farthest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    rows = _rows(listed(values), size)
    trace = {
        "type": "heatmap",
        "x": list(range(len(teachers))),
        "y": list(range(len(students))),
        "z": rows,
        "text": _rows(texts, size),
        "hovertext": _rows(hovers, size),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "colorscale": DIVERGING if signed else SEQUENTIAL,
        "colorbar": colorbar(unit),
        "xgap": 2,
        "ygap": 2,
    }
    if signed:
        # The scale is symmetric, so that its middle is no gain.
        trace |= {"zmin": -(farthest or 0.01), "zmax": farthest or 0.01}
    if len(teachers) <= _MOST_WITH_TEXT:
        trace |= {"texttemplate": "%{text}"}
    left_out = len(cells) - len(shown)
    hidden = (
        f" {formats.counted(left_out, 'pair')} left out; all are in the CSV." if left_out else ""
    )
    return Figure(
        name=figure.name,
        title=figure.title,
        caption=figure.caption + hidden,
        tables=figure.tables,
        traces=[trace],
        layout={
            "xaxis": _names("teacher", teachers),
            "yaxis": {**_names("student", students), "autorange": "reversed"},
        },
        height=max(260, 130 + 52 * len(students)),
        least_width=180 + 80 * len(teachers),
    )


def _names(title: str, names: list[str]) -> dict[str, object]:
    # Places with texts, not categories: two long names may be shortened to the same text.
    ticks = {"tickvals": list(range(len(names))), "ticktext": [short(name) for name in names]}
    return axis(title, **ticks, showgrid=False, zeroline=False, ticks="")


def _rows(values: Sequence[object], size: tuple[int, int]) -> list[Sequence[object]]:
    num_rows, num_columns = size
    return [values[row * num_columns : (row + 1) * num_columns] for row in range(num_rows)]
