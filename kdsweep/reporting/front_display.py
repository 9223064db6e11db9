"""The front of a sweep with several metrics, on the terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console

from kdsweep.reporting import formats
from kdsweep.reporting.columns import Column, print_table, print_text
from kdsweep.reporting.front import front_sentence, front_title, further_costs
from kdsweep.reporting.results import Results
from kdsweep.spec.metrics import metric_of

_TEACHER, _STUDENT = 14, 24  # terminal cells that tell most networks apart


def print_front(results: Results, console: Console, top: int) -> None:
    """Print between which students one may choose; nothing for a sweep with a single metric.

    Args:
        results: The results.
        console: Where to.
        top: Most rows.
    """
    front = results.front
    if front.empty:
        return
    metrics = results.summary.metrics
    shown = front.head(top)
    columns = [
        Column("trial", [str(number) for number in shown["trial"]]),
        Column("teacher", formats.names(shown["teacher"]), keep=6, text=True, least=_TEACHER),
        Column("student", formats.names(shown["student"]), text=True, least=_STUDENT),
        *(_column(metric, shown[metric], style="bold") for metric in metrics),
    ]
    if shown["gain"].notna().any():
        columns.append(Column("gain", [formats.gain(v) for v in shown["gain"]], keep=7))
    epochs = zip(shown["best_epoch"], shown["epochs"], strict=True)
    columns += [
        *(
            _column(metric, own, keep=5)
            for metric, own in further_costs(results.trials, metrics, shown).items()
        ),
        Column("best/last\nepoch", [f"{best}/{last}" for best, last in epochs], keep=4),
        Column("state", list(shown["state"]), keep=3, text=True, least=8),
    ]
    more = f" (the first {top} of {len(front)})" if len(front) > top else ""
    print_table(console, f"{front_title(metrics)}{more}", columns)
    print_text(console, front_sentence(front[metrics].to_dict("records")), style="bold")
    console.print()


def _column(metric: str, values: pd.Series, *, keep: int = 9, style: str = "") -> Column:
    """A metric's values in its unit."""
    known = metric_of(metric)
    header = "\n".join([*known.name.split(", "), *([known.unit] if known.unit else [])])
    form = formats.form_of(values) if known.unit else ".3f"
    return Column(header, [formats.number(v, form) for v in values], keep=keep, style=style)
