"""Which classes does the best student know, beside its teacher and its control?"""

from __future__ import annotations

import pandas as pd

from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    CONTROL,
    MUTED,
    STUDENT,
    TEACHER,
    Figure,
    Trace,
    axis,
    legend_above,
    listed,
    safe,
    short,
)
from kdsweep.reporting.results import Results

_MOST_CLASSES = 60
_FOUND = 0.0005  # an IoU below is written as 0.000
_GROUPED = 2  # so many classes that nobody finds are one row
_ROLES = (
    ("teacher", TEACHER, "diamond-open"),
    ("control", CONTROL, "circle-open"),
    ("student", STUDENT, "circle"),
)


def class_ious(results: Results) -> pd.DataFrame:
    """Return the IoU of each class for the best student, beside its control and its teacher.

    Returns:
        Columns ``class_id, class, student, control, teacher, gain``, best class of the student
        first and classes without an IoU last; no rows before there is a best student.
    """
    rows = results.best_classes()
    columns = ["class_id", "class", "student", "control", "teacher", "gain"]
    return rows.sort_values(
        ["student", "class_id"], ascending=[False, True], na_position="last", kind="stable"
    )[columns].reset_index(drop=True)


def grouped(ious: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return classes with those that no network finds as one row, and the names of these."""
    roles = ious[[role for role, _, _ in _ROLES]]
    is_missed = roles.notna().any(axis=1) & ~(roles >= _FOUND).any(axis=1)
    names = ious.loc[is_missed, "class"].tolist()
    if len(names) < _GROUPED:
        return ious, []
    first = ious[is_missed].iloc[[0]].assign(**{"class": f"{len(names)} classes at 0"})
    return pd.concat([ious[~is_missed], first], ignore_index=True), names


def class_figures(results: Results) -> list[Figure]:
    """Draw a dot for each network on a line for each class."""
    ious = class_ious(results)
    if ious.empty or ious["student"].isna().all():
        return []
    rows, missed = grouped(ious)
    shown = rows.head(_MOST_CLASSES)
    left_out = len(rows) - len(shown)
    places = list(range(len(shown)))
    traces: list[Trace] = [_spans(shown)]
    for role, color, symbol in _ROLES:
        if shown[role].isna().all():
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": role,
                "x": listed(shown[role]),
                "y": places,
                "marker": {
                    "color": color,
                    "symbol": symbol,
                    "size": 10,
                    "line": {"width": 2, "color": color},
                },
                "hovertext": [
                    f"{safe(name)}<br>{role} IoU {formats.score(value)}"
                    for name, value in zip(shown["class"], shown[role], strict=True)
                ],
                "hovertemplate": "%{hovertext}<extra></extra>",
            }
        )
    hidden = (
        f" The {left_out} weakest classes are left out; all are in the CSV." if left_out else ""
    )
    if missed:
        hidden += f" No network finds {formats.few(list(map(printable, missed)))}."
    return [
        Figure(
            name="classes",
            title="Which classes does the best student find?",
            caption="IoU of each class on the validation split. A class without a dot has no IoU: "
            f"it is neither in the labels nor in any prediction.{hidden}",
            tables={"classes": ious},
            traces=traces,
            layout={
                "xaxis": axis("IoU", range=[-0.02, 1.02], zeroline=True),
                "yaxis": axis(
                    "",
                    tickvals=places,
                    ticktext=[short(name) for name in shown["class"]],
                    autorange="reversed",
                    ticks="",
                ),
                "legend": legend_above(),
            },
            height=150 + 26 * len(shown),
            wide=True,
        )
    ]


def _spans(shown: pd.DataFrame) -> Trace:
    """Return a thin line from the lowest to the highest dot of each class."""
    values = shown[["student", "control", "teacher"]]
    x: list[float | None] = []
    y: list[float | None] = []
    for place, (low, high) in enumerate(zip(values.min(axis=1), values.max(axis=1), strict=True)):
        x += [*listed([low, high]), None]
        y += [place, place, None]
    style = {"color": MUTED, "width": 1}
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "line": style, "hoverinfo": "skip",
        "showlegend": False,
    }  # fmt: skip
