"""What does the best student take for what, and what did the teacher change about it?

Shape legend: K classes; matrices are indexed [label, prediction].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.reporting.figures.figure import (
    DIVERGING,
    STUDENT,
    Figure,
    axis,
    colorbar,
    listed,
    safe,
    short,
)
from kdsweep.reporting.results import Results
from kdsweep.reporting.trial_files import Confusions, confusions, control_of

_MOST_CLASSES = 30
_MOST_WITH_TEXT = 14  # columns in which the numbers of a cell can be read
_TICKS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
_ROLES = ("student", "control", "teacher")
# Most cells hold nothing, and should look like it.
_SCALE = [[0.0, "var(--neutral)"], [1.0, STUDENT]]


def confusion_cells(results: Results) -> pd.DataFrame:
    """Return the matrices of the best student, its control and its teacher, cell by cell.

    Each student's are those of its own best epoch, the teacher's of the student's.

    Returns:
        Columns ``truth_id, truth, prediction_id, prediction``, and for ``student``, ``control`` and
        ``teacher`` the labelled validation pixels (``student_pixels`` …) and their share of all
        pixels with that label (``student_share`` …, missing where there are none); last
        ``difference``, the student's share minus the control's. No rows before there is a matrix.
    """
    found = _found(results)
    columns: dict[str, Any] = {
        "truth_id": np.zeros(0, np.int64),
        "truth": pd.Series([], dtype="str"),
        "prediction_id": np.zeros(0, np.int64),
        "prediction": pd.Series([], dtype="str"),
    }
    if "student" in found:
        classes = found["student"].classes
        truth, prediction = np.indices((len(classes), len(classes))).reshape(2, -1)
        columns = {
            "truth_id": truth,
            "truth": pd.Series([classes[i] for i in truth], dtype="str"),
            "prediction_id": prediction,
            "prediction": pd.Series([classes[i] for i in prediction], dtype="str"),
        }
    num_cells = len(columns["truth_id"])
    for role in _ROLES:
        matrix_KK = _matrix(found, role)
        pixels = np.full(num_cells, None) if matrix_KK is None else matrix_KK.reshape(-1)
        columns[f"{role}_pixels"] = pd.Series(pixels, dtype="Int64")
        share = np.full(num_cells, np.nan) if matrix_KK is None else _shares(matrix_KK).reshape(-1)
        columns[f"{role}_share"] = share
    columns["difference"] = columns["student_share"] - columns["control_share"]
    return pd.DataFrame(columns)


def confusion_figures(results: Results) -> list[Figure]:
    """Draw the best student's matrix, and its difference to its control's."""
    cells = confusion_cells(results)
    if cells.empty:
        return []
    found = _found(results)
    student = found["student"]
    num_classes = len(student.classes)
    # Of many classes those with most labelled pixels.
    labelled = student.student_KK.sum(1)
    chosen = np.sort(np.argsort(-labelled, kind="stable")[:_MOST_CLASSES])
    shown = cells[cells["truth_id"].isin(chosen) & cells["prediction_id"].isin(chosen)]
    hidden = (
        f" The {num_classes - len(chosen)} rarest classes are left out; all are in the CSV."
        if num_classes > len(chosen)
        else ""
    )
    names = [student.classes[index] for index in chosen]
    where = f"trial {student.trial}, epoch {student.epoch}"
    figures = [
        _heat_map(
            Figure(
                name="confusion",
                title="Which classes does the best student confuse?",
                caption="Of all validation pixels of a class (row), the percentage that the best "
                f"student ({where}) predicts as each class (column). On the diagonal it is right. "
                f"Colours make small shares visible.{hidden}",
                tables={"confusion": cells},
                traces=[],
            ),
            names,
            # The root shows confusions that would all look like nothing beside the diagonal.
            values=np.sqrt(shown["student_share"].to_numpy()),
            texts=[_percent(share) for share in shown["student_share"]],
            hovers=_hovers(shown),
            scale={
                "colorscale": _SCALE,
                "zmin": 0.0,
                "zmax": 1.0,
                "colorbar": colorbar("% of the class")
                | {
                    "tickvals": [math.sqrt(tick) for tick in _TICKS],
                    "ticktext": [f"{100 * tick:.0f}" for tick in _TICKS],
                },
            },
        )
    ]
    if shown["difference"].notna().any():
        control = found["control"]
        right = (shown["truth_id"] == shown["prediction_id"]).to_numpy()
        difference = 100 * shown["difference"].to_numpy()
        farthest = max(float(np.nanmax(np.abs(difference))), 0.1)
        figures.append(
            _heat_map(
                Figure(
                    name="confusion-gain",
                    title="Which confusions did the teacher change?",
                    caption="The same percentages minus those of its control (trial "
                    f"{control.trial}, epoch {control.epoch}), in points, one training each. "
                    "Blue: better with the teacher, which is more on the diagonal and less beside "
                    "it; orange: worse."
                    f"{hidden}",
                    tables={"confusion": cells},
                    traces=[],
                ),
                names,
                values=np.where(right, difference, -difference),
                texts=[_points(value) for value in difference],
                hovers=_hovers(shown),
                scale={
                    "colorscale": DIVERGING,
                    "zmin": -farthest,
                    "zmax": farthest,
                    "colorbar": colorbar("points, better above zero"),
                },
            )
        )
    return figures


def _found(results: Results) -> dict[str, Confusions]:
    """Return what the best student and its control have left, if they know the same classes."""
    best = results.summary.best
    student = None if best is None else confusions(results, best.number)
    if student is None:
        return {}
    number = control_of(results, student.trial)
    control = None if number is None else confusions(results, number)
    if control is None or control.classes != student.classes:
        return {"student": student}
    return {"student": student, "control": control}


def _matrix(found: dict[str, Confusions], role: str) -> np.ndarray | None:
    if role == "teacher":
        return found["student"].teacher_KK if "student" in found else None
    return found[role].student_KK if role in found else None


def _shares(counts_KK: np.ndarray) -> np.ndarray:
    totals_K1 = counts_KK.sum(1, keepdims=True)
    return np.where(totals_K1 > 0, counts_KK / np.maximum(totals_K1, 1), np.nan)


def _heat_map(
    figure: Figure,
    names: Sequence[str],
    *,
    values: np.ndarray,
    texts: Sequence[str],
    hovers: Sequence[str],
    scale: dict[str, Any],
) -> Figure:
    size = len(names)
    trace = {
        "type": "heatmap",
        "x": list(range(size)),
        "y": list(range(size)),
        "z": _rows(listed(values), size),
        "text": _rows(texts, size),
        "hovertext": _rows(hovers, size),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "xgap": 1,
        "ygap": 1,
        **scale,
    }
    if size <= _MOST_WITH_TEXT:
        trace |= {"texttemplate": "%{text}"}
    ticks = {"tickvals": list(range(size)), "ticktext": [short(name, 16) for name in names]}
    plain = {"showgrid": False, "zeroline": False, "ticks": ""}
    return Figure(
        name=figure.name,
        title=figure.title,
        caption=figure.caption,
        tables=figure.tables,
        traces=[trace],
        layout={
            "xaxis": axis("predicted as", **ticks, **plain, tickangle=-40),
            "yaxis": axis("label", **ticks, **plain, autorange="reversed"),
        },
        height=190 + 30 * max(size, 4),
        least_width=200 + 27 * size,
        wide=size > _MOST_WITH_TEXT,
    )


def _rows(values: Sequence[object], size: int) -> list[Sequence[object]]:
    return [values[row * size : (row + 1) * size] for row in range(size)]


def _percent(share: float) -> str:
    """Return whole per cents; nothing where there is nothing to read."""
    if math.isnan(share) or share < 0.005:
        return ""
    return f"{100 * share:.0f}"


def _points(difference: float) -> str:
    """Return whole points; nothing where there is nothing to read."""
    return "" if math.isnan(difference) or abs(difference) < 0.5 else f"{difference:+.0f}"


def _hovers(shown: pd.DataFrame) -> list[str]:
    texts = []
    for row in shown.to_dict("records"):
        lines = [f"label {safe(row['truth'])}, predicted as {safe(row['prediction'])}"]
        for role in _ROLES:
            pixels, share = row[f"{role}_pixels"], row[f"{role}_share"]
            if pd.isna(pixels):
                continue
            amount = "no pixel has this label" if math.isnan(share) else f"{100 * share:.2f} %"
            lines.append(f"{role}: {amount} ({int(pixels):,} pixels)")
        if not math.isnan(row["difference"]):
            lines.append(f"difference {100 * row['difference']:+.2f} points")
        texts.append("<br>".join(lines))
    return texts
